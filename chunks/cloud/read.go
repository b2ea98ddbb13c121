package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/ahead"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
)

// A want is a chunk that has to be read from the bucket.
type want struct {
	d     chunks.Digest
	p     *remote
	entry uint32
	off   int64
	n     int64 // of the frame
}

func (w want) span() ahead.Span {
	return ahead.Span{Pack: w.p.number, Of: w.p.size, Off: w.off, N: w.n}
}

// maxInFlight bounds what a batch holds in memory, in bytes.
const maxInFlight = 256 << 20

// Get returns the blob of d from the disk, the cache or the bucket. Reads that
// go through a pack in order are answered from what was read ahead, so that a
// restore takes a request for some megabytes and not for each chunk.
func (s *Store) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, entry := s.table.find(d)
	if p == nil || s.local.Known(d) {
		b, err := s.local.Get(ctx, d, buf)
		if named := (*chunks.Error)(nil); errors.As(err, &named) {
			return nil, s.problem(d, named.Err)
		}
		return b, err
	}
	if s.cache != nil {
		if b, ok := s.cache.Get(d, buf); ok {
			return b, nil
		}
	}
	if b, ok := s.ahead.Get(d, buf); ok {
		return b, nil
	}
	return s.getAhead(ctx, p, entry, d, buf)
}

func (s *Store) problem(d chunks.Digest, err error) error {
	return &chunks.Error{Op: "read", Digest: d, Place: s.String(), Err: err}
}

// getAhead reads a chunk, and with it what follows if reads go on in order.
func (s *Store) getAhead(ctx context.Context, p *remote, entry uint32, d chunks.Digest, buf []byte) (blob chunks.Blob, err error) {
	first := want{d: d, p: p, entry: entry}
	first.off, first.n = p.frame(entry)
	wants := []want{first}
	limit := s.ahead.Window(p.number, entry)
	for next := entry + 1; int(next) < len(p.offs); next++ {
		w := want{p: p, entry: next}
		w.off, w.n = p.frame(next)
		if w.off+w.n-first.off > limit {
			break
		}
		if p.live(next) {
			wants = append(wants, w)
		}
	}
	failed := s.problem(d, chunks.ErrMissing)
	err = s.readRange(ctx, wants, func(w want, got chunks.Digest, b chunks.Blob, err error) error {
		if w.entry == entry {
			if blob, failed = nil, err; err == nil {
				blob = append(buf[:0], b...)
			}
		} else if err == nil {
			s.ahead.Put(got, b)
		}
		if err == nil && s.cache != nil {
			s.cache.Put(got, b)
		}
		return nil
	})
	s.ahead.Read(p.number, wants[len(wants)-1].entry)
	if err != nil {
		return nil, err
	}
	return blob, failed
}

// readRange reads a stretch of a pack with one request, and hands over each of
// wants, which lie in order. Blobs are valid only during the call.
func (s *Store) readRange(ctx context.Context, wants []want, fn func(want, chunks.Digest, chunks.Blob, error) error) error {
	first, last := wants[0], wants[len(wants)-1]
	p := first.p
	buf := make([]byte, last.off+last.n-first.off)
	err := s.b.GetRange(ctx, layout.PackKey(p.id), buf, first.off, p.size)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, w := range wants {
		var d chunks.Digest
		var b chunks.Blob
		werr := err
		if err == nil {
			at := w.off - first.off
			d, b, werr = s.open.Frame(p.id, p.sealed, w.off, buf[at:at+w.n:at+w.n])
			if werr == nil && w.d != (chunks.Digest{}) && d != w.d {
				werr = fmt.Errorf("%w: another chunk lies in its place", chunks.ErrCorrupt)
			}
		}
		if werr != nil {
			if w.d != (chunks.Digest{}) {
				d = w.d
			}
			werr = s.problem(d, chunkError(werr))
		}
		if err := fn(w, d, b, werr); err != nil {
			return err
		}
	}
	return nil
}

// chunkError says what an error of a bucket means for a chunk.
func chunkError(err error) error {
	if errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrNoBucket) {
		return fmt.Errorf("%w: %w", chunks.ErrMissing, err)
	}
	if errors.Is(err, bucket.ErrShort) {
		return fmt.Errorf("%w: %w", chunks.ErrCorrupt, err)
	}
	return err
}

// GetMany reads many chunks: those on the disk from there, the others in
// stretches of packs, several at the same time. See [chunks.BatchSource]. It
// fills the cache only with batches that are small against it.
func (s *Store) GetMany(ctx context.Context, digests []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	return s.getMany(ctx, digests, fn, true)
}

// Bypass is the store for verify, sync and offload: reads that pass through
// and must not push out of the cache what people use.
func (s *Store) Bypass() chunks.BatchSource { return bypass{s} }

type bypass struct{ *Store }

func (b bypass) GetMany(ctx context.Context, digests []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	return b.getMany(ctx, digests, fn, false)
}

func (b bypass) Get(ctx context.Context, d chunks.Digest, buf []byte) (blob chunks.Blob, err error) {
	err = b.getMany(ctx, []chunks.Digest{d}, func(_ chunks.Digest, got chunks.Blob, err error) error {
		blob = append(buf[:0], got...)
		return err
	}, false)
	return blob, err
}

func (s *Store) getMany(ctx context.Context, digests []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error, fill bool) error {
	var here []chunks.Digest
	var wants []want
	var buf []byte
	for _, d := range digests {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, entry := s.table.find(d)
		if p == nil || s.local.Known(d) {
			here = append(here, d)
			continue
		}
		if s.cache != nil {
			if b, ok := s.cache.Get(d, buf); ok {
				if err := fn(d, b, nil); err != nil {
					return err
				}
				buf = b[:0]
				continue
			}
		}
		w := want{d: d, p: p, entry: entry}
		w.off, w.n = p.frame(entry)
		wants = append(wants, w)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.b.Account().Conns())
	if len(here) > 0 {
		g.Go(func() error { return s.local.GetMany(gctx, here, s.renamed(fn)) })
	}
	fill = fill && s.cache != nil && sumOf(wants) <= s.cache.Bound()/10
	room := semaphore.NewWeighted(maxInFlight)
	for _, stretch := range ahead.Stretches(wants, want.span, s.cfg.Gap) {
		last := stretch[len(stretch)-1]
		n := min(last.off+last.n-stretch[0].off, maxInFlight)
		if room.Acquire(gctx, n) != nil {
			break
		}
		g.Go(func() error {
			defer room.Release(n)
			return s.handOver(gctx, stretch, fn, fill)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// renamed says of errors of the local store that they are ours.
func (s *Store) renamed(fn func(chunks.Digest, chunks.Blob, error) error) func(chunks.Digest, chunks.Blob, error) error {
	return func(d chunks.Digest, b chunks.Blob, err error) error {
		if named := (*chunks.Error)(nil); errors.As(err, &named) {
			err = s.problem(d, named.Err)
		}
		return fn(d, b, err)
	}
}

// handOver reads one stretch. A chunk that was asked for twice lies in it twice.
func (s *Store) handOver(ctx context.Context, wants []want, fn func(chunks.Digest, chunks.Blob, error) error, fill bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	unique := slices.CompactFunc(slices.Clone(wants), func(a, b want) bool { return a.off == b.off })
	i := 0
	return s.readRange(ctx, unique, func(w want, d chunks.Digest, b chunks.Blob, err error) error {
		if err == nil && fill {
			s.cache.Put(d, b)
		}
		for ; i < len(wants) && wants[i].off == w.off; i++ {
			if cerr := ctx.Err(); cerr != nil {
				return cerr
			}
			if ferr := fn(d, b, err); ferr != nil {
				return ferr
			}
		}
		return nil
	})
}

func sumOf(wants []want) (n int64) {
	for _, w := range wants {
		n += w.n
	}
	return n
}

// readPack reads the entries of a pack that keep accepts, in order, without
// the cache.
func (s *Store) readPack(ctx context.Context, p *remote, keep func(uint32) bool, fn func(uint32, chunks.Digest, chunks.Blob, error) error) error {
	var wants []want
	for i := range uint32(len(p.offs)) {
		if keep(i) {
			w := want{p: p, entry: i}
			w.off, w.n = p.frame(i)
			wants = append(wants, w)
		}
	}
	for _, stretch := range ahead.Stretches(wants, want.span, s.cfg.Gap) {
		err := s.readRange(ctx, stretch, func(w want, d chunks.Digest, b chunks.Blob, err error) error {
			return fn(w.entry, d, b, err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
