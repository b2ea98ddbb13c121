package catalog

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// A place is where a snapshot may be. What was acknowledged has one; what was
// under way when the power went has two.
type place uint8

const (
	nowhere place = 1 << iota
	live
	inTrash
)

func (p place) String() string {
	var s []string
	for i, name := range []string{"nowhere", "live", "in the trash"} {
		if p&(1<<i) != 0 {
			s = append(s, name)
		}
	}
	return strings.Join(s, " or ")
}

// id names a snapshot of any namespace.
type id struct {
	ns Namespace
	s  Snapshot
}

// gid names a group of any namespace.
type gid struct {
	ns Namespace
	g  Group
}

// fact is what may be found of one thing: one value once that is
// acknowledged, and the one before as well until then.
type fact[T comparable] []T

func (f fact[T]) has(v T) bool { return slices.Contains(f, v) }

// record is what is known of a snapshot.
type record struct {
	seeds     []uint64
	place     place
	notes     fact[string]
	protected fact[bool]
}

// A history is a datastore on a disk that may lose power, and what of it was
// acknowledged.
type history struct {
	mem    *disktest.Mem
	clock  *clock
	d      *Datastore
	snaps  map[id]*record
	owners map[gid]*fact[string] // of groups that are sure to be there
	notes  map[gid]*fact[string]
	spaces map[Namespace]bool // true: sure to be there
	acked  int                // operations that succeeded
}

func newHistory() *history {
	return &history{
		mem: newMem(), clock: newClock(), snaps: map[id]*record{},
		owners: map[gid]*fact[string]{}, notes: map[gid]*fact[string]{}, spaces: map[Namespace]bool{"": true},
	}
}

// clone copies the history for another of the states that a crash may leave.
func (h *history) clone(mem *disktest.Mem) *history {
	c := *h
	c.mem, c.d, c.clock = mem, nil, &clock{now: h.clock.Now(), up: h.clock.up, boots: h.clock.boots}
	c.snaps = map[id]*record{}
	for id, r := range h.snaps {
		own := *r
		c.snaps[id] = &own
	}
	c.owners, c.notes, c.spaces = cloneFacts(h.owners), cloneFacts(h.notes), maps.Clone(h.spaces)
	return &c
}

func cloneFacts(m map[gid]*fact[string]) map[gid]*fact[string] {
	c := map[gid]*fact[string]{}
	for g, f := range m {
		own := slices.Clone(*f)
		c[g] = &own
	}
	return c
}

func (h *history) init(context.Context) error {
	_, err := identity.Init(h.mem, storeDir, 0)
	return err
}

func (h *history) open(ctx context.Context) (err error) {
	h.d, err = Open(ctx, Config{Dir: storeDir, FS: h.mem, Now: h.clock.Now, Uptime: h.clock.uptime})
	return err
}

func (h *history) close(context.Context) error { return h.d.Close() }

// move says that snapshots are on their way, and when do has succeeded, that
// they have arrived.
func (h *history) move(to place, do func() error, ids ...id) error {
	for _, id := range ids {
		h.snaps[id].place |= to
	}
	err := do()
	if err != nil {
		return err
	}
	h.acked++
	for _, id := range ids {
		h.snaps[id].place = to
	}
	return nil
}

func (h *history) backup(ctx context.Context, ns Namespace, s Snapshot, seeds ...uint64) error {
	id := id{ns, s}
	if h.snaps[id] == nil {
		h.snaps[id] = &record{place: nowhere, seeds: seeds, notes: fact[string]{""}, protected: fact[bool]{false}}
	}
	err := h.move(live, func() error { return backup(ctx, h.d, ns, s, alice, seeds...) }, id)
	if err == nil && h.owners[gid{ns, s.Group}] == nil {
		h.owners[gid{ns, s.Group}] = &fact[string]{alice}
	}
	return err
}

// abort begins a snapshot and gives it up.
func (h *history) abort(ctx context.Context, ns Namespace, s Snapshot, seeds ...uint64) error {
	w, err := h.d.Begin(ctx, ns, s, alice)
	if err != nil {
		return err
	}
	if _, err := fill(ctx, w, s, seeds...); err != nil {
		return errors.Join(err, w.Abort())
	}
	return w.Abort()
}

func (h *history) forget(ctx context.Context, ns Namespace, s Snapshot) error {
	return h.move(inTrash, func() error { return h.d.Forget(ctx, ns, s) }, id{ns, s})
}

func (h *history) undo(ctx context.Context, ns Namespace, s Snapshot) error {
	return h.move(live, func() error { return h.d.Undo(ctx, ns, s) }, id{ns, s})
}

// forgetGroup is for groups without protected snapshots.
func (h *history) forgetGroup(ctx context.Context, ns Namespace, g Group) error {
	delete(h.owners, gid{ns, g})
	delete(h.notes, gid{ns, g})
	return h.move(inTrash, func() error {
		_, err := h.d.ForgetGroup(ctx, ns, g)
		return err
	}, h.all(live, func(i id) bool { return i.ns == ns && i.s.Group == g })...)
}

func (h *history) removeNamespace(ctx context.Context, ns Namespace) error {
	inside := func(n Namespace) bool { return ns.Contains(n) }
	maps.DeleteFunc(h.owners, func(g gid, _ *fact[string]) bool { return inside(g.ns) })
	maps.DeleteFunc(h.notes, func(g gid, _ *fact[string]) bool { return inside(g.ns) })
	maps.DeleteFunc(h.spaces, func(n Namespace, _ bool) bool { return inside(n) })
	return h.move(inTrash, func() error { return h.d.RemoveNamespace(ctx, ns, true) },
		h.all(live, func(i id) bool { return inside(i.ns) })...)
}

func (h *history) createNamespace(_ context.Context, ns Namespace) error {
	if err := h.d.CreateNamespace(ns); err != nil {
		return err
	}
	h.spaces[ns] = true
	h.acked++
	return nil
}

// all returns the snapshots that are in one place for sure, in order.
func (h *history) all(in place, which func(id) bool) (ids []id) {
	for id, r := range h.snaps {
		if r.place == in && (which == nil || which(id)) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b id) int { return cmp.Or(cmp.Compare(a.ns, b.ns), a.s.Compare(b.s)) })
	return ids
}

// empty empties the trash of everything.
func (h *history) empty(ctx context.Context) error {
	return h.move(nowhere, func() error { _, err := h.d.EmptyTrash(ctx, true); return err }, h.all(inTrash, nil)...)
}

// collect lets time pass, so that a collection finds something to do.
func (h *history) collect(ctx context.Context) error {
	h.clock.advance(DefaultTrashDelay)
	return h.move(nowhere, func() error { _, err := h.d.Collect(ctx, gc.Options{Urgent: true}); return err }, h.all(inTrash, nil)...)
}

// prune keeps the last n of each group.
func (h *history) prune(ctx context.Context, n int) error {
	plan, err := h.d.Prune(ctx, PruneOptions{Depth: -1, Keep: Keep{Last: n}, DryRun: true})
	if err != nil {
		return err
	}
	var gone []id
	for _, p := range plan {
		if !p.Keep {
			gone = append(gone, id{p.Namespace, p.Snapshot()})
		}
	}
	return h.move(inTrash, func() error {
		_, err := h.d.Prune(ctx, PruneOptions{Depth: -1, Keep: Keep{Last: n}})
		return err
	}, gone...)
}

// learn says that a fact becomes v when do has succeeded.
func learn[T comparable](h *history, f *fact[T], v T, do func() error) error {
	*f = append(slices.Clone(*f), v)
	err := do()
	if err == nil {
		*f = fact[T]{v}
		h.acked++
	}
	return err
}

func (h *history) protect(_ context.Context, i id, on bool) error {
	return learn(h, &h.snaps[i].protected, on, func() error { return h.d.SetProtected(i.ns, i.s, on) })
}

func (h *history) note(_ context.Context, i id, text string) error {
	return learn(h, &h.snaps[i].notes, text, func() error { return h.d.SetNotes(i.ns, i.s, text) })
}

func (h *history) groupNote(_ context.Context, g gid, text string) error {
	if h.notes[g] == nil {
		h.notes[g] = &fact[string]{""}
	}
	return learn(h, h.notes[g], text, func() error { return h.d.SetGroupNotes(g.ns, g.g, text) })
}

func (h *history) give(_ context.Context, g gid, owner string) error {
	return learn(h, h.owners[g], owner, func() error { return h.d.SetOwner(g.ns, g.g, owner) })
}
