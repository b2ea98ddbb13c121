package wire

import (
	"fmt"
	"slices"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A reach is the set of chunks that a peer may be given: those that snapshots
// name which it may read. A question for a chunk is else an oracle for what
// other people have backed up. nil is the reach of somebody who may read the
// whole datastore.
type reach struct {
	mu         sync.Mutex
	set        *pack.Set
	snapshots  map[string]bool // that are in set
	scope      string          // namespaces that it was made for
	generation uint64          // of the store, when it was made
}

func (r *reach) has(ref pack.Ref) bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set.Has(ref)
}

// reachable returns what the peer may be given, as things are now.
func (s *Server) reachable(q request) (*reach, error) {
	st, ch, err := s.open(q, "")
	if err != nil {
		return nil, err
	}
	all, err := st.Namespaces(q.ctx(), "", -1)
	if err != nil {
		return nil, err
	}
	mine := slices.DeleteFunc(slices.Clone(all), func(ns naming.Namespace) bool { return !s.may(q, ns) })
	if len(mine) == len(all) {
		return nil, nil
	}
	s.mu.Lock()
	key := q.peer + "\x00" + q.store
	r := s.reach[key]
	if r == nil {
		r = &reach{}
		s.reach[key] = r
	}
	s.mu.Unlock()
	return r, r.update(q, st, ch, mine)
}

// update adds what is new, and begins again where something that was counted
// is there no more, or chunks have moved.
func (r *reach) update(q request, st Store, ch Chunks, mine []naming.Namespace) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	scope := fmt.Sprint(mine)
	now := map[string]Snapshot{}
	for _, ns := range mine {
		list, err := st.List(q.ctx(), catalog.ListOptions{Namespace: ns, Depth: 0})
		if err != nil {
			return err
		}
		for _, i := range list {
			if i.Finished() {
				s := Snapshot{ns, i.Snapshot()}
				now[s.String()] = s
			}
		}
	}
	gone := false
	for s := range r.snapshots {
		_, there := now[s]
		gone = gone || !there
	}
	if g := ch.Generation(); gone || r.set == nil || scope != r.scope || g != r.generation {
		r.set, r.snapshots, r.scope, r.generation = &pack.Set{}, map[string]bool{}, scope, g
	}
	for name, s := range now {
		if r.snapshots[name] {
			continue
		}
		if err := r.add(st, ch, s); err != nil {
			return err
		}
		r.snapshots[name] = true
	}
	return nil
}

func (r *reach) add(st Store, ch Chunks, s Snapshot) error {
	names, err := st.Files(s.Namespace, s.Snapshot)
	if err != nil {
		return nil // it has just been removed
	}
	for _, name := range names {
		if !roots.IsIndex(name) {
			continue
		}
		x, err := st.ReadIndex(s.Namespace, s.Snapshot, name)
		if err != nil {
			return fmt.Errorf("read %s of %s: %w", name, s, err)
		}
		var batch []chunks.Digest
		flush := func() {
			ch.LocateMany(batch, func(_ int, ref pack.Ref, held bool) {
				if held {
					r.set.Add(ref)
				}
			})
			batch = batch[:0]
		}
		for _, d := range x.All() {
			if batch = append(batch, d); len(batch) == 4096 {
				flush()
			}
		}
		flush()
	}
	return nil
}
