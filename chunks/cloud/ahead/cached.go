package ahead

import (
	"context"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A Cache keeps copies of chunks nearer than the bucket.
type Cache interface {
	Get(d chunks.Digest, buf []byte) (chunks.Blob, bool)
	Has(d chunks.Digest) bool
	Put(d chunks.Digest, b chunks.Blob)
	Bound() int64 // 0: it keeps nothing
}

// Cached is a store as the [Plan] of one index sees it. It implements [Source].
type Cached struct {
	Store interface {
		Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error)
		Find(d chunks.Digest) (Want, bool)
	}
	Reader Reader
	Cache  Cache
	Size   int64 // of the content of the index
}

// Get implements [Source].
func (c Cached) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	return c.Store.Get(ctx, d, buf)
}

// Find implements [Source].
func (c Cached) Find(d chunks.Digest) (w Want, ok bool) {
	if c.Cache.Has(d) {
		return w, false
	}
	return c.Store.Find(d)
}

// Alone implements [Source].
func (c Cached) Alone(ctx context.Context, d chunks.Digest, buf []byte) (blob chunks.Blob, err error) {
	w, ok := c.Store.Find(d)
	if !ok {
		return c.Store.Get(ctx, d, buf)
	}
	if b, ok := c.Cache.Get(d, buf); ok {
		return b, nil
	}
	err = c.Reader.Read(ctx, []Want{w}, func(_ Want, d chunks.Digest, b chunks.Blob, err error) error {
		if err == nil {
			blob = append(buf[:0], b...)
			c.Cache.Put(d, b)
		}
		return err
	})
	return blob, err
}

// Fetch implements [Source]. Of an index that is small against the cache it keeps
// everything; a long restore would only push out what people use.
func (c Cached) Fetch(ctx context.Context, wants []Want, keep bool, fn func(Want, chunks.Digest, chunks.Blob, error) error) error {
	keep = keep || c.Size <= c.Cache.Bound()/10
	return c.Reader.Read(ctx, wants, func(w Want, d chunks.Digest, b chunks.Blob, err error) error {
		if err == nil && keep {
			c.Cache.Put(d, b)
		}
		return fn(w, d, b, err)
	})
}
