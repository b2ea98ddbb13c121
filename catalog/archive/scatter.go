package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog/archive/content"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// A scatter writes the chunks of an archive to their places in a file, in the
// order in which they are cheapest to read, each fetched once.
type scatter struct {
	dec   content.Decoder
	to    io.WriterAt
	fresh bool // what is not written reads as zeros
	keep  bool // go on where content is lost
	meter *meter

	places places
	bad    damage
	slots  chan struct{} // one for each chunk that is being decoded
}

// run fetches, decodes and writes everything. Where keep is set and content
// was lost it fails with a DamagedError, after all the rest is written.
func (s *scatter) run(ctx context.Context, src chunks.BatchSource, workers int) error {
	s.slots = make(chan struct{}, workers)
	s.bad.archive = s.dec.Archive
	if err := s.plan(ctx); err != nil {
		return err
	}
	var handed counter
	want := s.places.digests()
	err := src.GetMany(ctx, want, func(d chunks.Digest, b chunks.Blob, err error) error {
		handed.add()
		return s.put(ctx, d, b, err)
	})
	switch {
	case err != nil:
		return err
	case handed.n != len(want):
		return fmt.Errorf("restore %s: %s handed out %d chunks, %d were wanted", s.dec.Archive, src, handed.n, len(want))
	}
	return s.bad.err()
}

// plan finds out which chunks are wanted where. Those of zeros are known.
func (s *scatter) plan(ctx context.Context) error {
	zeros := newZeros(s.dec)
	s.places.init(s.dec.Index.Len())
	for i, d := range s.dec.Index.All() {
		zero, err := zeros.is(i)
		switch {
		case err != nil:
			return err
		case !zero:
			s.places.add(d, i)
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if err := s.zero(i); err != nil {
			return err
		}
	}
	return nil
}

// zero makes chunk i read as zeros.
func (s *scatter) zero(i int) error {
	start, end := s.dec.Index.Range(i)
	s.meter.done(end - start)
	if s.fresh {
		return nil
	}
	for start < end {
		n := min(end-start, int64(len(zeroSlot)))
		if _, err := s.to.WriteAt(zeroSlot[:n], start); err != nil {
			return fmt.Errorf("restore %s: write at offset %d: %w", s.dec.Archive, start, err)
		}
		start += n
	}
	return nil
}

// put writes one chunk to all its places.
func (s *scatter) put(ctx context.Context, d chunks.Digest, b chunks.Blob, err error) error {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	first, ok := s.places.first[d]
	if !ok {
		return fmt.Errorf("restore %s: handed chunk %s, which was not wanted", s.dec.Archive, d.Short())
	}
	start, end := s.dec.Index.Range(first)
	buf := chunks.GetBuffer(int(end - start))
	defer buf.Free()
	if err == nil {
		var plain []byte
		if plain, err = s.dec.Decode(buf.Bytes, first, b); err == nil {
			buf.Bytes = plain
		}
	}
	for i := first; i >= 0; i = s.places.after(i) {
		if err := s.write(i, buf.Bytes, err); err != nil {
			return err
		}
	}
	return nil
}

// write writes chunk i, unless it could not be had.
func (s *scatter) write(i int, plain []byte, err error) error {
	start, end := s.dec.Index.Range(i)
	if err == nil && int64(len(plain)) != end-start { // the index gives one digest two sizes
		err = fmt.Errorf("%w: it holds %d bytes, the index says %d", chunks.ErrCorrupt, len(plain), end-start)
	}
	if err != nil {
		err = s.dec.Failed(i, err)
		if !s.keep || !lost(err) {
			return err
		}
		s.bad.add(Range{start, end}, err)
		return s.zero(i)
	}
	if _, err := s.to.WriteAt(plain, start); err != nil {
		return fmt.Errorf("restore %s: write at offset %d: %w", s.dec.Archive, start, err)
	}
	s.meter.done(end - start)
	return nil
}

// lost reports whether err says that content is lost here, rather than that
// reading it was hindered.
func lost(err error) bool {
	return errors.Is(err, chunks.ErrMissing) || errors.Is(err, chunks.ErrCorrupt)
}

// places says where each chunk belongs: a list of numbers for each digest.
type places struct {
	first map[chunks.Digest]int
	next  []int32 // by number: the next with the same digest, or -1
}

func (p *places) init(n int) {
	p.first, p.next = map[chunks.Digest]int{}, make([]int32, n)
}

func (p *places) add(d chunks.Digest, i int) {
	if first, ok := p.first[d]; ok {
		p.next[i], p.next[first] = p.next[first], int32(i)
		return
	}
	p.first[d], p.next[i] = i, -1
}

func (p *places) after(i int) int { return int(p.next[i]) }

// digests returns each digest once, in the order of the archive.
func (p *places) digests() []chunks.Digest {
	all := make([]chunks.Digest, 0, len(p.first))
	for d := range p.first {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b chunks.Digest) int { return p.first[a] - p.first[b] })
	return all
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) add() {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
}

// damage collects what is lost.
type damage struct {
	archive string

	mu     sync.Mutex
	ranges []Range
	bytes  int64
	first  error
}

func (d *damage) add(r Range, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.first == nil {
		d.first = err
	}
	d.bytes += r.End - r.Start
	d.ranges = append(d.ranges, r)
}

// err returns nil, or a DamagedError.
func (d *damage) err() error {
	if d.first == nil {
		return nil
	}
	slices.SortFunc(d.ranges, func(a, b Range) int { return int(min(max(a.Start-b.Start, -1), 1)) })
	var merged []Range
	for _, r := range d.ranges {
		if n := len(merged); n > 0 && merged[n-1].End == r.Start {
			merged[n-1].End = r.End
		} else {
			merged = append(merged, r)
		}
	}
	return &DamagedError{Archive: d.archive, Ranges: merged[:min(len(merged), maxRanges)], Bytes: d.bytes, First: d.first}
}

// zeros knows which chunks of an image are nothing but zeros, by their digest
// alone.
type zeros struct {
	dec    content.Decoder
	chunks *chunks.ZeroChunks
}

func newZeros(dec content.Decoder) zeros {
	opt := chunks.EncodeOptions{Compress: true}
	if dec.Mode == manifest.Encrypt {
		opt.Key = dec.Key
	}
	return zeros{dec, chunks.NewZeroChunks(opt)}
}

// is reports whether chunk i is all zeros. Archives are not looked at: their
// chunks have too many sizes.
func (z zeros) is(i int) (bool, error) {
	if _, ok := z.dec.Index.(*chunks.Fixed); !ok || z.dec.Mode == manifest.Encrypt && z.dec.Key == nil {
		return false, nil
	}
	start, end := z.dec.Index.Range(i)
	if end-start > int64(len(zeroSlot)) {
		return false, nil
	}
	d, _, err := z.chunks.Chunk(int(end - start))
	return d == z.dec.Index.Digest(i), err
}
