package cloud

import (
	"context"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/files"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/notes"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
)

// Refresh makes what others wrote since visible: one listing, and if there is
// a newer root, that and its new index objects.
func (s *Store) Refresh(ctx context.Context) error {
	s.work.Lock()
	defer s.work.Unlock()
	return s.refresh(ctx)
}

// refresh is Refresh for whoever holds work.
func (s *Store) refresh(ctx context.Context) error {
	h, err := s.meta.Newest(ctx)
	if err != nil {
		return err
	}
	return s.take(ctx, h)
}

// take makes h the head.
func (s *Store) take(ctx context.Context, h *layout.Head) error {
	s.mu.Lock()
	same := h.Seq == s.head.Seq && !s.meta.Doubtful() // else it may be whole again
	s.stale = s.stale && !same
	s.mu.Unlock()
	if same {
		return nil
	}
	packs, err := s.meta.Packs(ctx, h)
	if err != nil {
		return err
	}
	s.adopt(h, packs)
	s.mu.Lock()
	if s.owner.Epoch > 0 && h.Seq.Epoch > s.owner.Epoch { // whoever wrote it owns the bucket, whatever that says of its owner
		s.fence(h.Node, h.Seq.Epoch)
	}
	s.mu.Unlock()
	return s.tidy()
}

// GoOn settles what is in doubt: a root is written that does not name what cannot be
// read, but in its place what packs have said, and from then on garbage is collected in
// the bucket again. With whole that is done only if nothing is missing then.
func (s *Store) GoOn(ctx context.Context, whole bool) error {
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.writable(); err != nil || !s.meta.Doubtful() || whole && !s.meta.Doubt().Instead() {
		return err
	}
	h := s.Newest()
	packs, err := s.meta.Footers(ctx, &h)
	if err != nil {
		return err
	}
	h.Index, h.Bundles = s.meta.Without(h.Index), s.meta.Without(h.Bundles)
	if err := s.meta.PutIndex(ctx, &h, packs); err != nil {
		return err
	}
	s.mu.Lock()
	s.head.Index, s.head.Bundles, s.head.Dead, s.dirty = h.Index, h.Bundles, h.Dead, true
	s.mu.Unlock()
	if _, err = s.commit(ctx, plainSwitch); err == nil {
		s.meta.Settle()
	}
	return err
}

// adopt takes a head as the truth: packs that it lacks or buries go from the
// table, those that are new come. Whether it counts is for check to say.
func (s *Store) adopt(h *layout.Head, packs []layout.Pack) {
	t, buried := &s.table, h.Buried()
	named := map[format.ID]bool{}
	var fresh, left []layout.Pack
	s.mu.Lock()
	doomed := map[format.ID]bool{}
	for _, d := range s.doomed {
		doomed[d.Pack] = true
	}
	s.head, s.stale = *h, false
	s.mu.Unlock()
	t.mu.Lock()
	for _, p := range packs {
		if buried[p.ID] || doomed[p.ID] {
			continue
		}
		named[p.ID], left = true, append(left, p)
		n, first := t.number(p.ID)
		if first {
			s.note(notes.Note{Kind: notes.Number, Pack: p.ID, Number: n})
		}
		if t.packs[n] == nil {
			t.add(p, n, nil)
			fresh = append(fresh, p)
		}
	}
	for n, p := range t.packs {
		if !named[p.id] && (buried[p.id] || !s.meta.Doubtful()) {
			delete(t.packs, n)
			if !buried[p.id] && !doomed[p.id] { // of a root that never counted: older packs may have the same chunks
				fresh = left
			}
		}
	}
	t.sure = false
	t.gen++
	for d, l := range t.locs(fresh) {
		s.place(d, l)
	}
	t.mu.Unlock()
}

// place lets the index point to l unless it has a better place. The caller
// holds the table's mu.
func (s *Store) place(d [32]byte, l index.Loc) {
	t := &s.table
	old, inserted := t.idx.InsertIfAbsent(d, l)
	if !inserted && old != l && t.better(d, old, l) == l {
		t.idx.Replace(d, old, l)
		s.mended(old.Pack, old.Entry)
	}
}

// moved says that chunks which snapshots may name have got other places.
func (t *table) moved() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gen++
}

// PutFile keeps a file for the next root, durably: a manifest or an index of a snapshot.
func (s *Store) PutFile(name string, content []byte) error { return s.files.Add(name, content) }

// RemoveFile lets the next root forget a file.
func (s *Store) RemoveFile(name string) error { return s.files.Drop(name) }

// Pending are the files that wait for the next root, which names or forgets them.
func (s *Store) Pending() *files.Pending { return &s.files }

func (s *Store) noteFile(c files.Change) {
	n := notes.Note{Kind: notes.File, Name: c.Name, On: c.Keep}
	if c.Done {
		n = notes.Note{Kind: notes.Filed, Name: c.Name}
	}
	s.note(n)
}

// EachFile calls fn with every file of the newest root: what a new machine
// needs to see the snapshots. It takes one request for each bundle that is not
// on the disk.
func (s *Store) EachFile(ctx context.Context, fn func(name string, content []byte) error) error {
	h := s.Newest()
	return s.meta.EachFile(ctx, &h, fn)
}
