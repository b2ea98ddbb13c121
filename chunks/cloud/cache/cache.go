// Package cache keeps copies of chunks on a disk, and never more than it may.
//
// The bound is on blocks of the disk, and room is taken before anything is
// written. Chunks lie one behind the other in segments, of which there are
// only some dozens; nothing is deleted in place. What was read once waits in a
// small queue, and only what is read again gets into the main one, so that a
// scan of everything does not push out what people use (S3-FIFO on a log).
//
// Whatever is lost or damaged is read from the bucket again: the cache may be
// deleted at any time.
package cache

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Config says where a cache lies and how large it may get. The zero value of
// an optional field means the default written beside it.
type Config struct {
	FS      disk.FS      // default: the machine's
	Dir     string       // required: a directory of its own, made if absent
	Bound   int64        // required: bytes of disk, at least 1 MiB
	Segment int64        // length of segments; default a thirty-second of Bound, 1 to 64 MiB
	Log     *slog.Logger // default: discard
}

// Shares of the bound.
const (
	smallShare  = 10       // percent for what was read once
	pinnedShare = 25       // percent for what is pinned
	maxFreq     = 3        // reads that are remembered of a chunk
	fileCost    = 16 << 10 // what a file may take beside its content
	minBound    = 1 << 20
)

// A Cache is open. Its methods may be called concurrently.
type Cache struct {
	cfg  Config
	lock interface{ Close() error }

	mu     sync.RWMutex // shared: reads
	bound  int64
	used   int64 // taken of bound, by segments and pins
	next   uint64
	items  map[chunks.Digest]*item
	queues [2]queue // small, main
	ghosts ghosts
	pins   pins

	hits, misses, evicted atomic.Int64
}

const (
	small = iota
	main
)

// A queue is a log of segments, oldest first. The last one is being written.
type queue struct {
	segments []*segment
	bytes    int64 // taken
}

type item struct {
	d    chunks.Digest
	seg  *segment
	off  int64 // of the header
	n    uint32
	freq atomic.Uint32
}

func (c Config) withDefaults() Config {
	if c.FS == nil {
		c.FS = disk.OS{}
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

// Open opens the cache in cfg.Dir with what is left of it.
func Open(cfg Config) (*Cache, error) {
	cfg = cfg.withDefaults()
	switch {
	case cfg.Dir == "":
		return nil, errors.New("cache: no directory")
	case cfg.Bound < minBound:
		return nil, fmt.Errorf("cache in %s: a bound of %d bytes, want at least 1 MiB", cfg.Dir, cfg.Bound)
	}
	if err := disk.MkdirAll(cfg.FS, path.Join(cfg.Dir, pinDir), 0o750); err != nil {
		return nil, err
	}
	lock, err := cfg.FS.Lock(path.Join(cfg.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("cache in %s: %w", cfg.Dir, err)
	}
	c := &Cache{cfg: cfg, lock: lock, bound: cfg.Bound, items: map[chunks.Digest]*item{}}
	if err := errors.Join(c.loadPins(), c.loadSegments()); err != nil {
		return nil, errors.Join(fmt.Errorf("cache in %s: %w", cfg.Dir, err), lock.Close())
	}
	return c, nil
}

// Close closes the files. What they hold is there again after Open.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var failed []error
	for i := range c.queues {
		for _, s := range c.queues[i].segments {
			failed = append(failed, s.f.Close())
		}
		c.queues[i] = queue{}
	}
	clear(c.items)
	return errors.Join(append(failed, c.lock.Close())...)
}

// Bound returns the bytes of disk that the cache may take.
func (c *Cache) Bound() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.bound
}

// Get returns a copy of d's blob if it is here and whole.
func (c *Cache) Get(d chunks.Digest, buf []byte) (chunks.Blob, bool) {
	c.mu.RLock()
	it := c.items[d]
	if it == nil {
		c.mu.RUnlock()
		c.misses.Add(1)
		return nil, false
	}
	buf = slices.Grow(buf[:0], int(it.n)+headSize)
	b, err := it.seg.read(it.d, it.off, it.n, buf)
	if err == nil && it.freq.Load() < maxFreq {
		it.freq.Add(1)
	}
	c.mu.RUnlock()
	if err != nil {
		c.cfg.Log.Warn("chunk in the cache is damaged", "chunk", d.String(), "err", err)
		c.mu.Lock()
		c.forget(it)
		c.mu.Unlock()
		c.misses.Add(1)
		return nil, false
	}
	c.hits.Add(1)
	return b, true
}

// Has reports whether d is here.
func (c *Cache) Has(d chunks.Digest) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.items[d] != nil
}

// Put keeps a copy of b if it can. It never fails: a cache that cannot write
// holds less.
func (c *Cache) Put(d chunks.Digest, b chunks.Blob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items[d] != nil || int64(len(b)) > c.bound/8 {
		return
	}
	q := small
	if c.ghosts.take(d) {
		q = main
	}
	if err := c.add(q, d, b, 0); err != nil {
		c.cfg.Log.Warn("cache cannot write", "dir", c.cfg.Dir, "err", err)
	}
}

// add appends a chunk to a queue. The caller holds mu.
func (c *Cache) add(q int, d chunks.Digest, b chunks.Blob, freq uint32) error {
	need := int64(headSize + len(b))
	s := c.queues[q].last()
	if s == nil || s.end+need > s.limit {
		var err error
		if s, err = c.begin(q, need); err != nil {
			return err
		}
	}
	off := s.end
	if err := s.write(d, b); err != nil {
		c.drop(q, slices.Index(c.queues[q].segments, s)) // it may be half there
		return chunks.NoSpace(err)
	}
	it := &item{d: d, seg: s, off: off, n: uint32(len(b))}
	it.freq.Store(freq)
	c.items[d] = it
	s.items = append(s.items, it)
	return nil
}

func (q *queue) last() *segment {
	if len(q.segments) == 0 {
		return nil
	}
	return q.segments[len(q.segments)-1]
}

// begin makes a segment with room for need bytes, after making room for it.
func (c *Cache) begin(q int, need int64) (*segment, error) {
	limit := max(c.segmentSize(), need)
	cost := limit + fileCost
	for c.used+cost > c.bound {
		if !c.evict() {
			return nil, fmt.Errorf("%d bytes are pinned or too many, of %d", c.used, c.bound)
		}
	}
	if s := c.queues[q].last(); s != nil && s.end+need <= s.limit {
		return s, nil // evicting has begun one
	}
	c.next++
	s, err := createSegment(c.cfg.FS, c.cfg.Dir, c.next, q, limit)
	if err != nil {
		return nil, err
	}
	c.used += cost
	c.queues[q].bytes += cost
	c.queues[q].segments = append(c.queues[q].segments, s)
	return s, nil
}

func (c *Cache) segmentSize() int64 {
	if c.cfg.Segment > 0 {
		return c.cfg.Segment
	}
	return min(max(c.bound/32, 1<<20), 64<<20)
}

// evict removes a segment and keeps what was read since it was written, as far
// as half of its room goes. It reports false if there is none. The caller
// holds mu.
func (c *Cache) evict() bool {
	q := main
	if len(c.queues[main].segments) == 0 || c.queues[small].bytes*100 > c.bound*smallShare {
		q = small
	}
	if len(c.queues[q].segments) == 0 {
		return false
	}
	s := c.queues[q].segments[0]
	kept, room := []survivor{}, s.limit/2
	for _, it := range s.items {
		if c.items[it.d] != it {
			continue
		}
		freq := it.freq.Load()
		if freq == 0 || int64(it.n)+headSize > room {
			c.ghosts.add(it.d, len(c.items))
			continue
		}
		b, err := s.read(it.d, it.off, it.n, nil)
		if err == nil {
			room -= int64(it.n) + headSize
			kept = append(kept, survivor{it.d, b, freq - 1})
		}
	}
	c.drop(q, 0)
	for _, k := range kept {
		if c.keep(k) != nil {
			break
		}
	}
	return true
}

type survivor struct {
	d    chunks.Digest
	b    chunks.Blob
	freq uint32
}

// keep puts a survivor of an eviction into the main queue. It never evicts:
// there is room, for what was dropped was larger; if not, it goes too.
func (c *Cache) keep(k survivor) error {
	need := int64(headSize + len(k.b))
	s := c.queues[main].last()
	if (s == nil || s.end+need > s.limit) && c.used+max(c.segmentSize(), need)+fileCost > c.bound {
		return errors.New("no room")
	}
	return c.add(main, k.d, k.b, k.freq)
}

// drop removes segment i of a queue, and what is in it.
func (c *Cache) drop(q, i int) {
	s := c.queues[q].segments[i]
	for _, it := range s.items {
		if c.items[it.d] == it {
			delete(c.items, it.d)
			c.evicted.Add(1)
		}
	}
	cost := s.limit + fileCost
	c.used -= cost
	c.queues[q].bytes -= cost
	c.queues[q].segments = slices.Delete(c.queues[q].segments, i, i+1)
	if err := s.remove(c.cfg.FS); err != nil {
		c.cfg.Log.Warn("segment of the cache was not removed", "err", err)
	}
}

func (c *Cache) forget(it *item) {
	if c.items[it.d] == it {
		delete(c.items, it.d)
	}
}

// Resize changes the bound, and evicts at once what is over it. It fails if
// more is pinned than the new bound allows.
func (c *Cache) Resize(bound int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if bound < minBound || c.pins.bytes > bound*pinnedShare/100 {
		return fmt.Errorf("cache in %s: a bound of %d bytes is too small for %d pinned ones", c.cfg.Dir, bound, c.pins.bytes)
	}
	c.bound = bound
	for c.used > c.bound && c.evict() {
	}
	return nil
}

// Stats describes a cache.
type Stats struct {
	Bound   int64 `json:"bound"`
	Used    int64 `json:"used"` // bytes of disk taken, at most
	Pinned  int64 `json:"pinned"`
	Chunks  int   `json:"chunks"`
	Files   int   `json:"files"`
	Hits    int64 `json:"hits"`
	Misses  int64 `json:"misses"`
	Evicted int64 `json:"evicted"`
}

// Stats returns the counters as they are now.
func (c *Cache) Stats() Stats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return Stats{
		Bound: c.bound, Used: c.used, Pinned: c.pins.bytes, Chunks: len(c.items),
		Files: len(c.queues[small].segments) + len(c.queues[main].segments) + len(c.pins.files),
		Hits:  c.hits.Load(), Misses: c.misses.Load(), Evicted: c.evicted.Load(),
	}
}

// ghosts remember what was evicted without being read again: who comes back
// after so short a time belongs to the main queue.
type ghosts struct {
	set   map[uint64]bool
	order []uint64
}

func ghost(d chunks.Digest) uint64 { return xxhash.Sum64(d[:]) }

func (g *ghosts) add(d chunks.Digest, most int) {
	if g.set == nil {
		g.set = map[uint64]bool{}
	}
	h := ghost(d)
	if !g.set[h] {
		g.set[h] = true
		g.order = append(g.order, h)
	}
	for len(g.order) > max(most, 64) {
		delete(g.set, g.order[0])
		g.order = g.order[1:]
	}
}

func (g *ghosts) take(d chunks.Digest) bool {
	h := ghost(d)
	was := g.set[h]
	delete(g.set, h)
	return was
}
