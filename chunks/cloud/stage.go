package cloud

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/staging"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

func (s *Store) builder() *staging.Builder {
	b := &staging.Builder{Queue: s.queue, Store: s.format.Store, Limit: s.cfg.PackBytes, Log: s.cfg.Log}
	if b.Limit <= 0 {
		b.Limit = s.format.PackBytes
	}
	if s.format.KeyID != "" {
		b.Key = s.key
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.Epoch = s.owner.Epoch
	return b
}

// Adopt brings chunks of another store on this disk into the bucket, packs as
// they are where that can be, and writes a root that names them. Then it calls
// pin, before anybody could think that nothing needs them.
func (s *Store) Adopt(ctx context.Context, loads []staging.Load, pin func() error) (r staging.Sent, err error) {
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.writable(); err != nil {
		return r, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.Parallel)
	b := s.builder()
	s.adopted = map[format.ID]bool{}
	defer func() { s.adopted = nil }()
	send := func(id format.ID) {
		s.adopted[id] = true
		g.Go(func() error { return s.queue.Send(gctx, id) })
	}
	for _, l := range loads {
		n, lerr := b.Load(gctx, l, s.unused, send)
		r.Packs, r.Whole = r.Packs+n.Packs, r.Whole+n.Whole
		if err = lerr; err != nil {
			break
		}
	}
	if err = errors.Join(g.Wait(), err); err != nil {
		return r, fmt.Errorf("send packs to %s: %w", s, err)
	}
	err = behindItself(func() error { _, err := s.commit(ctx, plainSwitch); return err })
	if err == nil {
		err = pin()
	}
	return r, err
}

// unused reports whether the bucket never had a pack of that ID, as far as is
// known: a name is never used again, least of all that of a dead pack.
func (s *Store) unused(id format.ID) bool {
	s.table.mu.RLock()
	_, known := s.table.numbers[id]
	s.table.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return !known && !s.head.Buried()[id]
}
