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
	Group  Group // as it is called there
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
				all = append(all, Holding{o, p.store, p.group, copies[i]})
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
			if !yield(p.group, Holding{o, p.store, p.group, c}) {
				return
			}
		}
	}
}

// Snapshots returns what a node holds in one of its datastores, ordered by
// group and time.
func (m *Model) Snapshots(o feed.Origin, store string) (all []Held) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := m.nodes[o]
	if s == nil {
		return nil
	}
	for _, p := range s.places() {
		if p.store == store {
			all = append(all, Held{store, p.group, slices.Clone(s.copies[p])})
		}
	}
	return all
}

// Copies returns every copy of what a manifest is the sum of, wherever it is
// and whatever its group is called there, ordered by node and datastore.
func (m *Model) Copies(manifest [32]byte) (all []Holding) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, o := range m.origins() {
		for _, p := range m.nodes[o].places() {
			for _, c := range m.nodes[o].copies[p] {
				if c.Manifest == manifest {
					all = append(all, Holding{o, p.store, p.group, c})
				}
			}
		}
	}
	return all
}

// A NodeView is what one node says, in short.
type NodeView struct {
	Origin    feed.Origin
	At        feed.Head // the last record that was read, without its hash
	Newest    time.Time // when that was written
	Snapshots int
	Groups    int
	Bytes     uint64        // of the files of all snapshots, before deduplication
	Bad       int           // damaged or in quarantine
	Behind    int           // groups of which somebody else has a newer snapshot
	Lag       time.Duration // how much older its newest of one of them is, at most
	Running   []Run         // oldest first
	Last      []Run         // the last of each job, newest first
	Alarms    []Alarm       // oldest first
	Skipped   int           // records that this version did not understand
}

// Nodes returns what each node says, ordered by origin.
func (m *Model) Nodes() []NodeView {
	behind, lag := map[feed.Origin]int{}, map[feed.Origin]time.Duration{}
	for _, g := range m.Groups() {
		for _, n := range g.Places {
			if n.Behind > 0 {
				behind[n.Origin]++
				lag[n.Origin] = max(lag[n.Origin], g.Lag(n))
			}
		}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := make([]NodeView, 0, len(m.nodes))
	for _, o := range m.origins() {
		s := m.nodes[o]
		v := NodeView{Origin: o, At: s.at, Newest: s.newest, Snapshots: s.count, Behind: behind[o], Lag: lag[o], Alarms: s.alarmed(), Skipped: s.skipped}
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
