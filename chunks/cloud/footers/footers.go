// Package footers reads what packs in a bucket say of themselves. It is for when the
// index object that says it is gone: one listing for a thousand packs, and one or two
// short reads of each.
package footers

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

const (
	tailBytes = 64 << 10 // holds the footer of most packs
	parallel  = 8
)

// Found is what was read.
type Found struct {
	Packs    []layout.Pack
	Unread   int // packs that do not say what is in them
	Requests int // at least: what broke on its way was asked for again
}

// Read lists the packs of a store and reads the footers of those that are not known.
// Each chunk is compared with its digest when it is read, as always.
func Read(ctx context.Context, b *bucket.Bucket, open *layout.Opener, known func(format.ID) bool) (f Found, err error) {
	type object struct {
		id   format.ID
		info bucket.Info
	}
	var all []object
	f.Requests = 1
	seen := 0
	err = b.List(ctx, layout.PackDir, func(page []bucket.Info) error {
		if seen += len(page); seen > len(page) {
			f.Requests++
		}
		for _, o := range page {
			if id, ok := layout.ParsePackKey(o.Key); ok && !known(id) {
				all = append(all, object{id, o})
			}
		}
		return nil
	})
	if err != nil {
		return f, err
	}
	var mu sync.Mutex
	var asked atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, o := range all {
		g.Go(func() error {
			r := &reader{ctx: gctx, b: b, key: o.info.Key, size: o.info.Size, asked: &asked}
			p, err := open.ReadPack(r, o.id, o.info.Size)
			if r.failed != nil {
				return r.failed
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				f.Unread++
				return nil
			}
			p.Created = o.info.Time.Truncate(time.Second)
			f.Packs = append(f.Packs, p)
			return nil
		})
	}
	err = g.Wait()
	f.Requests += int(asked.Load())
	return f, err
}

// A reader reads an object from its end.
type reader struct {
	ctx    context.Context
	b      *bucket.Bucket
	key    string
	size   int64
	asked  *atomic.Int64
	tail   []byte // the last of it
	failed error  // why the bucket gave no answer; what is gone or cut is one
}

// ReadAt implements io.ReaderAt.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if r.tail == nil {
		tail := make([]byte, min(r.size, tailBytes))
		if err := r.get(tail, r.size-int64(len(tail))); err != nil {
			return 0, err
		}
		r.tail = tail
	}
	n := min(int64(len(p)), r.size-off)
	if off < 0 || n < 0 {
		return 0, io.EOF
	}
	if at := off - (r.size - int64(len(r.tail))); at >= 0 {
		copy(p[:n], r.tail[at:])
	} else if err := r.get(p[:n], off); err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func (r *reader) get(p []byte, off int64) error {
	r.asked.Add(1)
	err := r.b.GetRange(r.ctx, r.key, p, off, r.size)
	if err != nil && (!errors.Is(err, bucket.ErrNotFound) && !errors.Is(err, bucket.ErrShort) || errors.Is(err, bucket.ErrNoBucket)) {
		r.failed = err
	}
	return err
}
