package content

import (
	"container/list"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A page is a decoded chunk, or one that somebody is decoding.
type page struct {
	digest chunks.Digest
	done   chan struct{} // closed when data or err is set
	data   []byte
	err    error

	buf   *chunks.Buffer
	users int           // while above 0, data stay
	place *list.Element // in the list of pages with data
}

// pages holds pages by digest, so that content that repeats is kept once, and
// forgets those that were used longest ago. The owner's mutex guards it.
type pages struct {
	limit int64 // bytes of memory for pages that nobody uses
	held  int64
	all   map[chunks.Digest]*page
	used  list.List // last used first
}

func (c *pages) init(limit int64) {
	c.limit, c.all = limit, map[chunks.Digest]*page{}
}

func (c *pages) has(d chunks.Digest) bool { return c.all[d] != nil }

// take returns the page of d for use. If it was not found it is new, and the
// caller must fill it, or fail it.
func (c *pages) take(d chunks.Digest) (p *page, found bool) {
	p, found = c.all[d]
	if !found {
		p = &page{digest: d, done: make(chan struct{})}
		c.all[d] = p
	}
	p.users++
	if p.place != nil {
		c.used.MoveToFront(p.place)
	}
	return p, found
}

// fill gives p its data.
func (c *pages) fill(p *page, buf *chunks.Buffer) {
	p.buf, p.data = buf, buf.Bytes
	p.place = c.used.PushFront(p)
	c.held += int64(cap(buf.Bytes))
	close(p.done)
	c.shrink()
}

// fail tells who waits for p that it cannot be had. Whoever asks next tries
// again.
func (c *pages) fail(p *page, err error) {
	p.err = err
	delete(c.all, p.digest)
	close(p.done)
}

func (c *pages) release(p *page) {
	p.users--
	c.shrink()
}

// shrink frees pages that nobody uses until the limit is kept.
func (c *pages) shrink() {
	for at := c.used.Back(); at != nil && c.held > c.limit; {
		p := at.Value.(*page)
		at = at.Prev()
		if p.users == 0 {
			c.drop(p)
		}
	}
}

func (c *pages) drop(p *page) {
	delete(c.all, p.digest)
	c.used.Remove(p.place)
	c.held -= int64(cap(p.buf.Bytes))
	p.data = nil
	p.buf.Free()
}

// clear frees every page that nobody uses, and the others when they are
// released.
func (c *pages) clear() {
	c.limit = 0
	c.shrink()
}
