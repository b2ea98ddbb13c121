package facts

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
)

// maxStores bounds how many datastores of one node are remembered.
const maxStores = 1024

// A StoreView is what a node says of one of its datastores.
type StoreView struct {
	Kept
	Said      time.Time // when it said so
	Snapshots int
}

func (s *state) keep(v Kept, at time.Time) {
	if _, known := s.stores[v.Store]; known || len(s.stores) < maxStores {
		v.Store, v.State = strings.Clone(v.Store), strings.Clone(v.State)
		s.stores[v.Store] = StoreView{Kept: v, Said: at}
	}
}

func (s *state) drop(store string) {
	delete(s.stores, store)
	for p, copies := range s.copies {
		if p.store == store {
			s.count -= len(copies)
			delete(s.copies, p)
		}
	}
	maps.DeleteFunc(s.gone, func(n Snapshot, _ Removal) bool { return n.Store == store })
}

// Stores returns what a node says of its datastores, by name.
func (m *Model) Stores(o feed.Origin) []StoreView {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := m.nodes[o]
	if s == nil {
		return nil
	}
	counts := map[string]int{}
	for p, copies := range s.copies {
		counts[p.store] += len(copies)
	}
	all := slices.SortedFunc(maps.Values(s.stores), func(a, b StoreView) int { return cmp.Compare(a.Store, b.Store) })
	for i := range all {
		all[i].Snapshots = counts[all[i].Store]
	}
	return all
}

// News is that a node has snapshots in a datastore that it had not before.
type News struct {
	Origin feed.Origin
	Store  string
}

// news returns the datastore to which a fact adds.
func news(f Fact) (store string, is bool) {
	switch v := f.(type) {
	case Added:
		return v.Snapshot.Store, true
	case Held: // of a base: what came before it was perhaps never seen
		return v.Store, true
	}
	return "", false
}

// Subscribe has f called when a feed that is followed brings snapshots. The
// model says so already when f is called; f must be quick, for the feed waits.
func (m *Model) Subscribe(f func(News)) (cancel func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told[:len(m.told):len(m.told)], &f)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.told = slices.DeleteFunc(slices.Clone(m.told), func(g *func(News)) bool { return g == &f })
	}
}

func (m *Model) tell(o feed.Origin, stores map[string]bool) {
	if len(stores) == 0 {
		return
	}
	m.mu.RLock()
	told := m.told
	m.mu.RUnlock()
	for _, store := range slices.Sorted(maps.Keys(stores)) {
		for _, f := range told {
			(*f)(News{o, store})
		}
	}
}
