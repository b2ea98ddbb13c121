package facts

import (
	"cmp"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
	"github.com/holdfast-mesh/holdfast/mesh/record"
)

// A GroupView is a group over all nodes: one place where its backups arrive,
// and those that have copies, whatever they call it.
type GroupView struct {
	Home   GroupAt // who had the newest snapshot first
	Newest int64   // time of that
	Count  int     // different times
	Places []GroupAt
}

// A GroupAt is what one datastore of one node holds of a group.
type GroupAt struct {
	Origin  feed.Origin
	Store   string
	Group   Group // as it is called there
	Count   int   // snapshots
	Newest  int64 // time of the newest
	Behind  int   // how many snapshots are newer elsewhere
	Bad     int   // damaged or in quarantine
	Checked int64 // when the copy that was verified longest ago was, 0: one never was
}

// Lag is how much older the newest snapshot of a place is than that of all.
func (v GroupView) Lag(n GroupAt) time.Duration {
	return time.Duration(v.Newest-n.Newest) * time.Second
}

// Copies is how many nodes hold the newest snapshot.
func (v GroupView) Copies() int {
	n := 0
	for i, p := range v.Places {
		if p.Newest == v.Newest && !slices.ContainsFunc(v.Places[:i], func(q GroupAt) bool { return q.Origin == p.Origin && q.Newest == v.Newest }) {
			n++
		}
	}
	return n
}

// An identity is what makes two copies the same: their manifests. Where a node
// does not say what that is, group and time count.
type identity struct {
	manifest [32]byte
	group    Group
	time     int64
}

func (c Copy) identity(g Group) identity {
	if c.Manifest != [32]byte{} {
		return identity{manifest: c.Manifest}
	}
	return identity{group: g, time: c.Time}
}

// A holder is a place, and the copies there.
type holder struct {
	GroupAt
	copies []Copy
	graves []identity // of what was there, and was removed on purpose
}

// Groups returns all groups, ordered by the name that they have at home, and
// who holds how much of each. Two places hold the same group if one snapshot of
// theirs is the same: two guests with one number, at two sites, are two groups. One
// that a place has removed on purpose counts too: a copy that was not brought up to
// date before the retention of its source had passed it is late, and no group of its own.
func (m *Model) Groups() []GroupView {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var all []holder
	for _, o := range m.origins() {
		s := m.nodes[o]
		graves := map[place][]identity{}
		for n, r := range s.gone {
			if p := (place{n.Store, n.Group}); r.Manifest != [32]byte{} && len(s.copies[p]) > 0 {
				graves[p] = append(graves[p], identity{manifest: r.Manifest})
			}
		}
		for _, p := range s.places() {
			all = append(all, holder{GroupAt{Origin: o, Store: p.store, Group: p.group}, s.copies[p], graves[p]})
		}
	}
	views := []GroupView{}
	for _, together := range clusters(all) {
		views = append(views, viewOf(together))
	}
	slices.SortStableFunc(views, func(a, b GroupView) int { return a.Home.Group.compare(b.Home.Group) })
	return views
}

// clusters puts places together that hold the same snapshot, or held it, in order.
func clusters(all []holder) (out [][]holder) {
	parent := make([]int, len(all))
	root := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	first := map[identity]int{}
	for i, h := range all {
		parent[i] = i
		ids := slices.Clone(h.graves)
		for _, c := range h.copies {
			ids = append(ids, c.identity(h.Group))
		}
		for _, id := range ids {
			if j, known := first[id]; known {
				a, b := root(i), root(j)
				parent[max(a, b)] = min(a, b)
			} else {
				first[id] = i
			}
		}
	}
	at := map[int]int{}
	for i, h := range all {
		r := root(i)
		if _, known := at[r]; !known {
			at[r] = len(out)
			out = append(out, nil)
		}
		out[at[r]] = append(out[at[r]], h)
	}
	return out
}

// viewOf sums up the places of one group.
func viewOf(all []holder) (v GroupView) {
	var times []int64
	for i := range all {
		h := &all[i]
		h.Count, h.Newest, h.Checked = len(h.copies), h.copies[len(h.copies)-1].Time, h.copies[0].Verified
		for _, c := range h.copies {
			times = append(times, c.Time)
			h.Checked = min(h.Checked, c.Verified)
			if c.Damaged || c.Quarantined != 0 {
				h.Bad++
			}
		}
	}
	slices.Sort(times)
	times = slices.Compact(times)
	v.Count, v.Newest = len(times), times[len(times)-1]
	home := slices.MinFunc(all, func(a, b holder) int { return a.precedes(b, v.Newest) })
	for i := range all {
		at, _ := slices.BinarySearch(times, all[i].Newest+1)
		if all[i].Behind = len(times) - at; all[i].cameBack(home) {
			all[i].Behind = 0
		}
		v.Places = append(v.Places, all[i].GroupAt)
	}
	v.Home = home.GroupAt
	return v
}

// cameBack tells whether what a place holds is a copy of the node's own snapshots that
// another node had pulled before: in a ring of pulls, it is as old as that one was then,
// and nobody is late for what they have themselves.
func (h holder) cameBack(home holder) bool {
	from := h.copies[len(h.copies)-1].From
	return h.Origin == home.Origin && from != "" && from != record.Key(h.Origin).NodeID()
}

// precedes orders places by who had the snapshot of a time first. What was
// pulled from another node came there first.
func (h holder) precedes(other holder, at int64) int {
	rank := func(h holder) (absent, pulled int, added int64) {
		i, found := find(h.copies, at)
		if !found {
			return 1, 0, 0
		}
		if h.copies[i].From != "" {
			pulled = 1
		}
		return 0, pulled, h.copies[i].Added
	}
	a1, p1, t1 := rank(h)
	a2, p2, t2 := rank(other)
	return cmp.Or(cmp.Compare(a1, a2), cmp.Compare(p1, p2), cmp.Compare(t1, t2))
}
