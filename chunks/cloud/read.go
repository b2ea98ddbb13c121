package cloud

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/ahead"
)

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
	if b, ok := s.cache.Get(d, buf); ok {
		return b, nil
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
	first := p.want(entry)
	first.Digest = d
	wants := []ahead.Want{first}
	limit := s.ahead.Window(p.number, entry)
	for next := entry + 1; int(next) < len(p.offs); next++ {
		w := p.want(next)
		if w.Off+w.N-first.Off > limit {
			break
		}
		if p.live(next) {
			wants = append(wants, w)
		}
	}
	failed := s.problem(d, chunks.ErrMissing)
	err = s.reader().Read(ctx, wants, func(w ahead.Want, got chunks.Digest, b chunks.Blob, err error) error {
		if w.Entry == entry {
			if blob, failed = nil, err; err == nil {
				blob = append(buf[:0], b...)
			}
		} else if err == nil {
			s.ahead.Put(got, b)
		}
		if err == nil {
			s.cache.Put(got, b)
		}
		return nil
	})
	s.ahead.Read(p.number, wants[len(wants)-1].Entry)
	if err != nil {
		return nil, err
	}
	return blob, failed
}

func (s *Store) reader() ahead.Reader {
	return ahead.Reader{Bucket: s.b, Open: s.open, Place: s.String(), Missed: s.missed}
}

// Plan returns a reader of the chunks of x, which will be asked for about in
// order: packs are read in as large parts as the room in memory allows. Who jumps
// gets each chunk by itself, through the cache. See [chunks.Planner].
func (s *Store) Plan(x chunks.Index) chunks.Plan {
	return ahead.NewPlan(ahead.Cached{Store: s, Reader: s.reader(), Cache: s.cache, Size: x.Size()}, x, &s.room, s.cfg.Gap)
}

// Find tells where a chunk is read in the bucket; false: it is on the disk.
func (s *Store) Find(d chunks.Digest) (w ahead.Want, ok bool) {
	p, entry := s.table.find(d)
	if p == nil || s.local.Known(d) {
		return w, false
	}
	w = p.want(entry)
	w.Digest = d
	return w, true
}

// GetMany reads many chunks: those on the disk from there, the others in
// stretches of packs, several at the same time. See [chunks.BatchSource]. It
// fills the cache only with batches that are small against it.
func (s *Store) GetMany(ctx context.Context, digests []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	return s.getMany(ctx, digests, fn, true)
}

// Bypass is the store for verify, sync and offload. What is in the bucket is read
// there: the cache neither answers nor is filled, nor does what was read ahead.
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

func (s *Store) getMany(ctx context.Context, digests []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error, cached bool) error {
	var here []chunks.Digest
	var wants []ahead.Want
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
		if cached {
			if b, ok := s.cache.Get(d, buf); ok {
				if err := fn(d, b, nil); err != nil {
					return err
				}
				buf = b[:0]
				continue
			}
		}
		w := p.want(entry)
		w.Digest = d
		wants = append(wants, w)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.b.Account().Conns())
	if len(here) > 0 {
		g.Go(func() error { return s.local.GetMany(gctx, here, s.renamed(fn)) })
	}
	fill := cached && ahead.Sum(wants) <= s.cache.Bound()/10
	for _, stretch := range ahead.Stretches(wants, s.cfg.Gap) {
		g.Go(func() error {
			return s.reader().Each(gctx, stretch, func(w ahead.Want, d chunks.Digest, b chunks.Blob, err error) error {
				if err == nil && fill {
					s.cache.Put(d, b)
				}
				return fn(d, b, err)
			})
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

// readPack reads the entries of a pack that keep accepts, in order, without
// the cache.
func (s *Store) readPack(ctx context.Context, p *remote, keep func(uint32) bool, fn func(uint32, chunks.Digest, chunks.Blob, error) error) error {
	var wants []ahead.Want
	for i := range uint32(len(p.offs)) {
		if keep(i) {
			wants = append(wants, p.want(i))
		}
	}
	for _, stretch := range ahead.Stretches(wants, s.cfg.Gap) {
		err := s.reader().Read(ctx, stretch, func(w ahead.Want, d chunks.Digest, b chunks.Blob, err error) error {
			return fn(w.Entry, d, b, err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
