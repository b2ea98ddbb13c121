package facts

import (
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
)

// A Holding is one copy of a snapshot: where it is, and what is known of it.
type Holding struct {
	Origin feed.Origin
	Store  string
	Copy
}

// Usable tells whether a restore from it can be expected to work.
func (h Holding) Usable() bool { return !h.Damaged && h.Quarantined == 0 }

// Holders returns every copy of a snapshot, ordered by node and datastore.
func (m *Model) Holders(g Group, at int64) (all []Holding) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, o := range m.origins() {
		for _, p := range m.nodes[o].places() {
			if p.group != g {
				continue
			}
			copies := m.nodes[o].copies[p]
			if i, found := find(copies, at); found {
				all = append(all, Holding{o, p.store, copies[i]})
			}
		}
	}
	return all
}

// Held returns all copies that a node holds, ordered by datastore, group and
// time. It is called with the group and each copy until yield returns false.
func (m *Model) Held(o feed.Origin, yield func(Group, Holding) bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := m.nodes[o]
	if s == nil {
		return
	}
	for _, p := range s.places() {
		for _, c := range s.copies[p] {
			if !yield(p.group, Holding{o, p.store, c}) {
				return
			}
		}
	}
}

// A GroupView is a group over all nodes.
type GroupView struct {
	Group  Group
	Newest int64 // time of the newest snapshot that anybody holds
	Count  int   // different times
	Nodes  []GroupAt
}

// A GroupAt is what one node holds of a group.
type GroupAt struct {
	Origin  feed.Origin
	Count   int   // snapshots, in any of its datastores
	Newest  int64 // time of the newest
	Behind  int   // how many snapshots are newer elsewhere
	Bad     int   // damaged or in quarantine
	Checked int64 // when the copy that was verified longest ago was, 0: one never was
}

// Lag is how much older the newest snapshot of a node is than that of all.
func (v GroupView) Lag(n GroupAt) time.Duration {
	return time.Duration(v.Newest-n.Newest) * time.Second
}

// Groups returns all groups, ordered by name, and who holds how much of each.
func (m *Model) Groups() []GroupView {
	m.mu.RLock()
	defer m.mu.RUnlock()
	views := map[Group]*GroupView{}
	times := map[Group][]int64{}
	for _, o := range m.origins() {
		for _, p := range m.nodes[o].places() {
			copies := m.nodes[o].copies[p]
			v := views[p.group]
			if v == nil {
				v = &GroupView{Group: p.group}
				views[p.group] = v
			}
			v.add(o, copies)
			for _, c := range copies {
				times[p.group] = append(times[p.group], c.Time)
			}
		}
	}
	all := make([]GroupView, 0, len(views))
	for g, v := range views {
		distinct := times[g]
		slices.Sort(distinct)
		distinct = slices.Compact(distinct)
		v.Count, v.Newest = len(distinct), distinct[len(distinct)-1]
		for i := range v.Nodes {
			at, found := slices.BinarySearch(distinct, v.Nodes[i].Newest)
			if found {
				at++
			}
			v.Nodes[i].Behind = len(distinct) - at
		}
		all = append(all, *v)
	}
	slices.SortFunc(all, func(a, b GroupView) int { return a.Group.compare(b.Group) })
	return all
}

// add counts the copies in one datastore of a node.
func (v *GroupView) add(o feed.Origin, copies []Copy) {
	if n := len(v.Nodes); n == 0 || v.Nodes[n-1].Origin != o {
		v.Nodes = append(v.Nodes, GroupAt{Origin: o, Checked: copies[0].Verified})
	}
	at := &v.Nodes[len(v.Nodes)-1]
	at.Count += len(copies)
	at.Newest = max(at.Newest, copies[len(copies)-1].Time)
	for _, c := range copies {
		at.Checked = min(at.Checked, c.Verified)
		if c.Damaged || c.Quarantined != 0 {
			at.Bad++
		}
	}
}

// A NodeView is what one node says, in short.
type NodeView struct {
	Origin    feed.Origin
	At        feed.Head // the last record that was read, without its hash
	Newest    time.Time // when that was written
	Snapshots int
	Groups    int
	Bytes     uint64 // of the files of all snapshots, before deduplication
	Bad       int    // damaged or in quarantine
	Behind    int    // groups of which somebody else has a newer snapshot
	Running   []Run  // oldest first
	Last      []Run  // the last of each job, newest first
	Skipped   int    // records that this version did not understand
}

// Nodes returns what each node says, ordered by origin.
func (m *Model) Nodes() []NodeView {
	behind := map[feed.Origin]int{}
	for _, g := range m.Groups() {
		for _, n := range g.Nodes {
			if n.Behind > 0 {
				behind[n.Origin]++
			}
		}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := make([]NodeView, 0, len(m.nodes))
	for _, o := range m.origins() {
		s := m.nodes[o]
		v := NodeView{Origin: o, At: s.at, Newest: s.newest, Snapshots: s.count, Behind: behind[o], Skipped: s.skipped}
		groups := map[Group]bool{}
		for p, copies := range s.copies {
			groups[p.group] = true
			for _, c := range copies {
				v.Bytes += c.Size
				if c.Damaged || c.Quarantined != 0 {
					v.Bad++
				}
			}
		}
		v.Groups = len(groups)
		for _, r := range s.running {
			v.Running = append(v.Running, r)
		}
		for _, r := range s.runs {
			v.Last = append(v.Last, r)
		}
		slices.SortFunc(v.Running, func(a, b Run) int { return a.Started.Compare(b.Started) })
		slices.SortFunc(v.Last, func(a, b Run) int { return b.Ended.Compare(a.Ended) })
		all = append(all, v)
	}
	return all
}
