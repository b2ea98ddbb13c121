package cloud

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/audit"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bitmap"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/exhume"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/identity"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/notes"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/refs"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/staging"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// there asks whether the bucket has the store at all: the answer to a HEAD of one
// that is gone is the same as to that of a pack.
func (s *Store) there(ctx context.Context) error {
	_, err := identity.ReadFormat(ctx, s.b, s.format.Store)
	return err
}

// gone asks for packs, each alone.
func (s *Store) gone(ctx context.Context, packs []*remote) (map[format.ID]bool, error) {
	ask := make([]audit.Pack, len(packs))
	for i, p := range packs {
		ask[i] = audit.Pack{ID: p.id, Size: p.size}
	}
	return audit.Gone(ctx, s.b, ask, s.there)
}

// missed is told of a pack that was to be read and is not in the bucket. If that
// is so, its chunks are denied from then on: whoever has them stores them again.
func (s *Store) missed(ctx context.Context, id format.ID) error {
	s.missing.Lock()
	defer s.missing.Unlock()
	p := s.table.byID(id)
	if p == nil || s.table.lost(p) {
		return nil
	}
	gone, err := s.gone(ctx, []*remote{p})
	if err != nil || !gone[id] { // a pack that is there, and cannot be read, stays known
		return err
	}
	return s.judged(ctx, []*remote{p}, gone)
}

// compared takes in what a listing has shown: of packs that seem to be gone each
// is asked for before it is believed. It returns how many of their chunks were
// still here.
func (s *Store) compared(ctx context.Context, packs []*remote, suspects ...[]format.ID) (rescued int, err error) {
	var ask []*remote
	for _, p := range packs {
		if slices.Contains(slices.Concat(suspects...), p.id) {
			ask = append(ask, p)
		}
	}
	gone, err := s.gone(ctx, ask)
	if err == nil {
		err = s.judged(ctx, packs, gone)
	}
	if err != nil {
		return 0, err
	}
	return s.rescue(ctx)
}

// judged notes of packs whether the bucket has them. Chunks that lie elsewhere too
// are found there from then on.
func (s *Store) judged(ctx context.Context, packs []*remote, gone map[format.ID]bool) error {
	t, turned := &s.table, false
	t.mu.Lock()
	for _, p := range packs {
		if p.lost != gone[p.id] {
			p.lost, turned = gone[p.id], true
			s.note(notes.Note{Kind: notes.Lost, Pack: p.id, On: p.lost})
			if p.lost {
				s.cfg.Log.Error("a pack is not in the bucket any more", "pack", p.id.String())
			} else {
				s.cfg.Log.Info("a pack that was lost is in the bucket again", "pack", p.id.String())
			}
		}
		if p.seen = !p.lost; p.doubt {
			p.doubt, turned = false, true
		}
	}
	t.mu.Unlock()
	if !turned {
		return nil
	}
	return errors.Join(s.replace(ctx), s.journal.Sync())
}

// replace finds the best place of each chunk anew.
func (s *Store) replace(ctx context.Context) error {
	h := s.Newest()
	packs, err := s.meta.Packs(ctx, &h)
	if err != nil {
		return err
	}
	t := &s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	packs = slices.DeleteFunc(packs, func(p layout.Pack) bool { return t.packs[t.numbers[p.ID]] == nil })
	for d, l := range t.locs(packs) {
		s.place(d, l)
	}
	t.gen++
	return nil
}

// Secure is for before a collection of garbage: what this machine still has of
// packs that are lost is kept, and for the packs of chunks of which there are
// copies on the disk the bucket is asked. While it does not answer, or is not ours,
// those stay.
func (s *Store) Secure(ctx context.Context) error {
	s.work.Lock()
	defer s.work.Unlock()
	if _, err := s.rescue(ctx); err != nil {
		return err
	}
	entries, err := s.local.Entries(ctx, func(pack.Info) bool { return true })
	return errors.Join(err, s.prove(ctx, entries))
}

// prove is for before copies on the disk may go because the bucket has the chunks. It
// asks the bucket whether it is ours, after the root that names their packs: else
// somebody may have taken it over who never saw that root. Then it asks for the packs
// that it has not shown since the start. Until both are answered the copies stay.
func (s *Store) prove(ctx context.Context, entries []pack.Entry) error {
	if !slices.ContainsFunc(entries, func(e pack.Entry) bool { return s.Confirmed(e.Digest) }) {
		return nil
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	return s.sighted(ctx, entries)
}

// sighted asks for the packs of chunks that the bucket has not shown since the start.
func (s *Store) sighted(ctx context.Context, entries []pack.Entry) error {
	unproved := map[*remote]bool{}
	for _, e := range entries {
		if p, _ := s.table.find(e.Digest); p != nil && s.Confirmed(e.Digest) && !s.table.proved(e.Digest) {
			unproved[p] = true
		}
	}
	ask := slices.Collect(maps.Keys(unproved))
	gone, err := s.gone(ctx, ask)
	if err != nil {
		return err
	}
	return s.judged(ctx, ask, gone)
}

// rescue stores anew, on the disk, what there is still of packs that are lost: here, in
// the cache, or condemned and not yet reclaimed; or in packs of the bucket that are
// dead, and were not deleted yet.
func (s *Store) rescue(ctx context.Context) (n int, err error) {
	if s.table.stats().Lost == 0 {
		return 0, nil
	}
	h := s.Newest()
	packs, err := s.meta.Packs(ctx, &h)
	if err != nil {
		return 0, err
	}
	saved, wanted, places := &pack.Set{}, map[chunks.Digest]bool{}, map[chunks.Digest]pack.Ref{}
	save := func(d chunks.Digest, b chunks.Blob) error {
		_, _, err := s.Append(ctx, d, b, nil)
		if err == nil && saved.Add(places[d]) {
			n++
		}
		return err
	}
	for _, p := range packs {
		r := s.table.byID(p.ID)
		if r == nil || !s.table.lost(r) {
			continue
		}
		for i, row := range p.Rows {
			ref, held := s.Locate(row.Digest)
			if !held || ref != refs.Cloud(r.number, uint32(i)) {
				continue // it is elsewhere, or nothing needs it
			}
			places[row.Digest] = ref
			if b := staging.Remains(ctx, s.cache, s.local, row.Digest); b == nil {
				wanted[row.Digest] = true
			} else if err := save(row.Digest, b); err != nil {
				return n, err
			}
		}
	}
	dead := exhume.Place{Reader: s.reader(), Gap: s.cfg.Gap, Dead: s.dead(), Known: packs, Want: wanted}
	if err := dead.Each(ctx, save); err != nil || n == 0 {
		return n, err
	}
	s.cfg.Log.Warn("chunks of packs that are lost were still on this machine, or in dead packs of the bucket, and are kept", "chunks", n)
	if err := s.local.Commit(ctx); err != nil {
		return n, err
	}
	s.Condemn(saved)
	return n, s.journal.Sync()
}

// Exhume stores anew, on the disk, chunks that are wanted and live nowhere, from packs
// that are dead: a later owner named these who did not know our snapshots. What was
// found goes from want.
func (s *Store) Exhume(ctx context.Context, want map[chunks.Digest]bool) error {
	s.work.Lock()
	defer s.work.Unlock()
	h := s.Newest()
	packs, err := s.meta.Packs(ctx, &h)
	if err != nil {
		return err
	}
	dead := exhume.Place{Reader: s.reader(), Gap: s.cfg.Gap, Dead: s.dead(), Known: packs, Want: want}
	err = dead.Each(ctx, func(d chunks.Digest, b chunks.Blob) error {
		_, _, err := s.local.Append(ctx, d, b, nil)
		return err
	})
	return errors.Join(err, s.local.Commit(ctx))
}

// dead returns the packs that nothing needs and that are in the bucket still.
func (s *Store) dead() map[format.ID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	dead := s.head.Resting()
	for _, g := range s.doomed {
		dead[g.Pack] = true
	}
	return dead
}

// proved reports whether d lives in a pack that the bucket has shown, and that a root
// names which counts.
func (t *table) proved(d chunks.Digest) bool {
	loc, ok := t.idx.Lookup(d)
	if !ok {
		return false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	p := t.packs[loc.Pack]
	return p != nil && t.sure && p.live(loc.Entry) && p.seen && !p.doubt
}

// doubted notes that a copy on the disk was preferred to one in a pack that the
// bucket has not shown: until it has, the pack stays as it is.
func (t *table) doubted(number uint32, is bool) {
	if !is {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.packs[number]; p != nil {
		p.doubt = true
	}
}

// mended condemns denied entries whose chunks a root names elsewhere now. The
// caller holds mu.
func (s *Store) mended(old uint32, entry uint32) {
	p := s.table.packs[old]
	if p == nil || p.live(entry) || bitmap.Has(p.dead, entry) {
		return
	}
	bitmap.Add(&p.dead, entry)
	s.note(notes.Note{Kind: notes.Dead, Pack: p.id, Bits: p.dead})
}
