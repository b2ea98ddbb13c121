package cache

import (
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Live is a cache that is made larger, smaller, taken away and given back while
// it is read. A nil Live keeps nothing, and so does one without a bound.
type Live struct {
	mu  sync.RWMutex // held shared during calls of c
	cfg Config
	c   *Cache // nil: there is none
}

// NewLive returns a cache that keeps nothing until it is given a bound.
func NewLive(cfg Config) *Live { return &Live{cfg: cfg.withDefaults()} }

// Resize changes the bound. With 0 no copies are kept, and the files of the cache
// go. If it fails, the cache is what it was.
func (l *Live) Resize(bound int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case bound == 0:
		if l.c != nil {
			c := l.c
			l.c = nil
			if err := c.Close(); err != nil {
				l.cfg.Log.Warn("file of the cache was not closed", "dir", l.cfg.Dir, "err", err)
			}
		}
		if err := Remove(l.cfg.FS, l.cfg.Dir); err != nil {
			l.cfg.Log.Warn("what is left of the cache was not removed", "dir", l.cfg.Dir, "err", err)
		}
		return nil
	case l.c != nil:
		return l.c.Resize(bound)
	}
	cfg := l.cfg
	cfg.Bound = bound
	c, err := Open(cfg)
	if err == nil {
		l.c = c
	}
	return err
}

// Close closes the files. What they hold is there again with the next cache.
func (l *Live) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c == nil {
		return nil
	}
	c := l.c
	l.c = nil
	return c.Close()
}

// use returns the cache, nil if there is none, until done is called.
func (l *Live) use() (c *Cache, done func()) {
	if l == nil {
		return nil, func() {}
	}
	l.mu.RLock()
	return l.c, l.mu.RUnlock
}

// Get is [Cache.Get].
func (l *Live) Get(d chunks.Digest, buf []byte) (chunks.Blob, bool) {
	c, done := l.use()
	defer done()
	if c == nil {
		return nil, false
	}
	return c.Get(d, buf)
}

// Has is [Cache.Has].
func (l *Live) Has(d chunks.Digest) bool {
	c, done := l.use()
	defer done()
	return c != nil && c.Has(d)
}

// Put is [Cache.Put].
func (l *Live) Put(d chunks.Digest, b chunks.Blob) {
	c, done := l.use()
	defer done()
	if c != nil {
		c.Put(d, b)
	}
}

// Bound returns the bytes of disk that the cache may take; 0: there is none.
func (l *Live) Bound() int64 {
	c, done := l.use()
	defer done()
	if c == nil {
		return 0
	}
	return c.Bound()
}

// Stats is [Cache.Stats].
func (l *Live) Stats() Stats {
	c, done := l.use()
	defer done()
	if c == nil {
		return Stats{}
	}
	return c.Stats()
}
