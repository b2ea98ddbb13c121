package cloud

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bitmap"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/notes"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/refs"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/staging"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// keepRoots is how many roots stay, for looking back.
const keepRoots = 30

// A change is the step from one head to the next. Nothing of it counts before
// the root is in the bucket.
type change struct {
	head  layout.Head
	packs []layout.Pack // that the root names first
	files map[string]bool
}

// commit writes index object, bundle and root for what waits, and then takes
// what the root names off the disk. It returns how many chunks that were.
func (s *Store) commit(ctx context.Context, switchover func([]pack.Move, func())) (evicted int, err error) {
	defer func() {
		if err != nil {
			s.queue.Doubt()
		}
	}()
	c, err := s.prepare(ctx)
	if err == nil && c == nil && !s.table.trusted() {
		err = s.check(ctx) // a root was adopted that says it all: nobody relies on it unasked
	}
	if err != nil || c == nil {
		return 0, err
	}
	if err := s.meta.PutIndex(ctx, &c.head, c.packs); err != nil {
		return 0, err
	}
	if err := s.meta.PutFiles(ctx, &c.head, c.files, s.files.Get); err != nil {
		return 0, err
	}
	if err := s.writeRoot(ctx, c); err != nil {
		return 0, err
	}
	return s.evict(ctx, c, switchover)
}

// A grave is a pack that is to be buried. What was brought home from it has to
// be in the bucket in another pack before: until then a new machine needs it.
type grave struct {
	layout.Tombstone
	home []chunks.Digest
}

// Graves returns what was brought home from each pack that is to be buried.
func (s *Store) Graves() (homes [][]chunks.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.doomed {
		homes = append(homes, g.home)
	}
	return homes
}

// onlyHere reports whether a chunk lives on the disk and not in the bucket.
func (s *Store) onlyHere(d chunks.Digest) bool { return !s.Confirmed(d) && s.local.Known(d) }

func (s *Store) here(r layout.Row) bool { return s.local.Known(r.Digest) }

// prepare collects what waits; nil if that is nothing.
func (s *Store) prepare(ctx context.Context) (*change, error) {
	packs, err := s.confirmed(ctx)
	if err != nil {
		return nil, err
	}
	files := s.files.All()
	s.mu.Lock()
	c := &change{head: s.head, packs: packs, files: files}
	c.head.Index, c.head.Bundles = slices.Clone(s.head.Index), slices.Clone(s.head.Bundles)
	c.head.Dead, c.head.Removed = slices.Clone(s.head.Dead), slices.Clone(s.head.Removed)
	stones := 0
	for _, g := range s.doomed {
		if !slices.ContainsFunc(g.home, s.onlyHere) {
			c.head.Dead, stones = append(c.head.Dead, g.Tombstone), stones+1
		}
	}
	c.head.Seq = layout.Seq{Epoch: s.owner.Epoch, N: s.head.Seq.N + 1}
	dirty := s.dirty
	s.mu.Unlock()
	if len(c.packs)+len(c.files)+stones == 0 && !dirty {
		return nil, nil
	}
	if p := s.b.Lock(); c.head.Seq.N == 1 && !p.IsZero() { // what comes first says whether all was locked when it was written
		if at, err := s.b.Retention(ctx, layout.FormatKey); err == nil && !at.Before(p.Until(s.format.Created)) {
			c.head.Locked, c.head.LockDays = s.format.Created, p.Days
		}
	}
	return c, nil
}

// writeRoot writes and signs the root, and asks whether it counts.
func (s *Store) writeRoot(ctx context.Context, c *change) error {
	h := &c.head
	h.Store, h.Node, h.Created = s.format.Store, s.cfg.Node, time.Now().UTC()
	now := s.table.stats()
	h.Packs, h.Bytes = now.Packs, now.Bytes
	for _, p := range c.packs {
		h.Packs, h.Bytes = h.Packs+1, h.Bytes+p.Size
	}
	plain, err := layout.SignRoot(h, s.key.Signer())
	if err != nil {
		return err
	}
	key := layout.RootKey(h.Seq)
	body := s.meta.Sealed(key, plain)
	_, err = s.b.PutBytes(ctx, key, body, bucket.PutOption{New: s.b.Can().CreateOnce, Keep: true})
	if errors.Is(err, bucket.ErrExists) { // see behindItself
		return errors.Join(err, s.refresh(ctx))
	}
	if err != nil {
		return err
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	if old := h.Seq; old.N > keepRoots && s.b.Lock().IsZero() { // else the audit sees to it
		old.N -= keepRoots
		if err := s.b.Delete(ctx, layout.RootKey(old)); err != nil {
			s.cfg.Log.Warn("old root was not deleted", "root", old.String(), "err", err)
		}
	}
	return s.meta.SaveRoot(body, h.Seq)
}

// evict lets chunks live in the bucket and not on the disk any more. What was
// condemned here while it was on its way is condemned there at once.
func (s *Store) evict(ctx context.Context, c *change, switchover func([]pack.Move, func())) (evicted int, err error) {
	s.mu.Lock()
	buried := c.head.Buried()
	s.doomed = slices.DeleteFunc(s.doomed, func(g grave) bool { return buried[g.Pack] })
	s.head, s.dirty = c.head, false
	s.mu.Unlock()
	if len(c.packs) > 0 {
		evicted = s.switchPlaces(c.packs, switchover)
	}
	if err := errors.Join(s.local.SyncState(ctx), s.tidy()); err != nil {
		return evicted, err
	}
	for _, p := range c.packs {
		if err := s.queue.Finish(p.ID); err != nil {
			return evicted, err
		}
	}
	if err := s.files.Done(c.files); err != nil {
		return evicted, err
	}
	if s.table.idx.NeedsFlush() {
		if err := s.table.idx.Flush(ctx, nil); err != nil {
			return evicted, err
		}
	}
	return evicted, errors.Join(s.meta.Sweep(&c.head), staging.Free(ctx, s.local))
}

// switchPlaces makes packs of the bucket known and condemns the copies on the
// disk, in one step for whoever looks up or pins.
func (s *Store) switchPlaces(packs []layout.Pack, switchover func([]pack.Move, func())) int {
	t := &s.table
	var moves []pack.Move
	live := map[uint32][]uint64{}
	t.mu.Lock()
	for _, p := range packs {
		n, fresh := t.number(p.ID)
		if fresh {
			s.note(notes.Note{Kind: notes.Number, Pack: p.ID, Number: n})
		}
		adopted := s.adopted[p.ID] || !slices.ContainsFunc(p.Rows, s.here) // it was never here
		for i, row := range p.Rows {
			if r, ok := s.local.Lookup(row.Digest); ok {
				moves = append(moves, pack.Move{Digest: row.Digest, Old: refs.Local(r), New: refs.Cloud(n, uint32(i))})
			} else if adopted {
				words := live[n]
				bitmap.Add(&words, uint32(i))
				live[n] = words
			}
		}
	}
	t.mu.Unlock()
	gone := &pack.Set{}
	switchover(moves, func() {
		for _, m := range moves {
			old := pack.Ref{Pack: m.Old.Pack / 2, Entry: m.Old.Entry}
			if r, ok := s.local.Lookup(m.Digest); !ok || r != old {
				continue // condemned or moved since
			}
			gone.Add(old)
			words := live[m.New.Pack/2]
			bitmap.Add(&words, m.New.Entry)
			live[m.New.Pack/2] = words
		}
		t.mu.Lock()
		for _, p := range packs {
			n := t.numbers[p.ID]
			dead := bitmap.Others(live[n], len(p.Rows))
			t.add(p, n, dead)
			t.packs[n].seen = true
			if len(dead) > 0 {
				s.note(notes.Note{Kind: notes.Dead, Pack: p.ID, Bits: dead})
			}
		}
		for d, l := range t.locs(packs) {
			s.place(d, l)
		}
		t.gen++
		t.mu.Unlock()
		if s.cfg.Stay {
			gone = &pack.Set{}
		}
		s.local.Condemn(gone)
	})
	return gone.Len()
}

// note appends a record. It is durable after the journal's next Sync.
func (s *Store) note(n notes.Note) { s.journal.Append(n.Encode()) }

// memory returns what the journal must say now. The caller holds mu, work, and
// the table's mu.
func (s *Store) memory() *notes.Memory {
	m := notes.New()
	m.Seen, m.Files = s.seen, s.files.All()
	for id, n := range s.table.numbers {
		if s.table.packs[n] != nil || n+1 == s.table.next {
			m.Numbers[id] = n
		}
	}
	for _, p := range s.table.packs {
		m.Dead[p.id], m.Bad[p.id], m.Lost[p.id] = p.dead, p.bad, p.lost
	}
	for _, d := range s.doomed {
		m.Doomed[d.Pack] = d.Since
	}
	return m
}

// tidy keeps the journal small.
func (s *Store) tidy() error {
	if s.journal.Size() < notes.RewriteFrom {
		return s.journal.Sync()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.mu.RLock()
	defer s.table.mu.RUnlock()
	return s.journal.Rewrite(s.memory().Records())
}
