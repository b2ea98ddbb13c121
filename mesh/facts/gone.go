package facts

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
)

// Gone says, in a base, which snapshots of a group were removed on purpose.
type Gone struct {
	Store     string    `cbor:"1,keyasint"`
	Group     Group     `cbor:"2,keyasint"`
	Snapshots []Removal `cbor:"3,keyasint"`
}

func (Gone) kind() uint16 { return KindGone }

// A Removal is a snapshot that a node has removed on purpose: its retention did,
// or somebody. That one is merely there no more is no removal.
type Removal struct {
	Time     int64    `cbor:"1,keyasint"` // of the backup
	At       int64    `cbor:"2,keyasint"` // when it was said
	Manifest [32]byte `cbor:"3,keyasint"` // of the copy that went
	Why      string   `cbor:"4,keyasint,omitempty"`
}

// What a model remembers of removals of one node: so many, the newest, and in a
// base for so long.
const (
	maxGone = 100_000
	goneFor = 90 * 24 * time.Hour
)

// prune takes a snapshot out of what is held, and remembers it if it was removed
// on purpose.
func (s *state) prune(v Pruned, at time.Time) {
	n := v.Snapshot
	r := Removal{Time: n.Time, At: at.Unix(), Why: v.Why}
	if i, found := find(s.copies[place{n.Store, n.Group}], n.Time); found {
		r.Manifest = s.copies[place{n.Store, n.Group}][i].Manifest
	}
	s.remove(n)
	if v.Why != "" {
		s.bury(n, r)
	}
}

func (s *state) bury(n Snapshot, r Removal) {
	s.gone[n] = r
	if len(s.gone) <= maxGone {
		return
	}
	var times []int64
	for _, g := range s.gone {
		times = append(times, g.At)
	}
	slices.Sort(times)
	oldest := times[len(times)/2] // at once, so that it is rare
	maps.DeleteFunc(s.gone, func(_ Snapshot, g Removal) bool { return g.At <= oldest })
}

// graves returns the removals that a base goes on with, by group.
func (s *state) graves() (all []Gone) {
	by := map[place][]Removal{}
	for n, r := range s.gone {
		if s.newest.Sub(time.Unix(r.At, 0)) <= goneFor {
			by[place{n.Store, n.Group}] = append(by[place{n.Store, n.Group}], r)
		}
	}
	places := slices.SortedFunc(maps.Keys(by), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.store, b.store), a.group.compare(b.group))
	})
	for _, p := range places {
		slices.SortFunc(by[p], func(a, b Removal) int { return cmp.Compare(a.Time, b.Time) })
		for part := range slices.Chunk(by[p], maxCopies) {
			all = append(all, Gone{p.store, p.group, part})
		}
	}
	return all
}

// Removed returns what a node says of a snapshot that it has removed on purpose
// and has not had again since.
func (m *Model) Removed(o feed.Origin, n Snapshot) (r Removal, is bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if s := m.nodes[o]; s != nil {
		r, is = s.gone[n]
	}
	return r, is
}
