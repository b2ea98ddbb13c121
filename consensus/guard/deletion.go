package guard

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Scopes are those whose floors hold in a namespace of a datastore, the widest
// first: "main", "main/a", "main/a/b".
func Scopes(store, namespace string) []string {
	all := []string{store}
	for _, part := range strings.Split(namespace, "/") {
		if part != "" {
			all = append(all, all[len(all)-1]+"/"+part)
		}
	}
	return all
}

// MayForget returns nil if a snapshot that was taken at a time may be removed, as
// far as floors say. copies tells how many proven ones there are elsewhere.
func (g *Guard) MayForget(store, namespace string, taken time.Time, copies func() int) error {
	g.mu.Lock()
	now, broken := g.trusted(), g.broken
	var floors []Floor
	for _, scope := range Scopes(store, namespace) {
		if f, is := g.s.floors[scope]; is {
			floors = append(floors, f)
		}
	}
	g.mu.Unlock()
	if broken != nil {
		return broken
	}
	for _, f := range floors {
		switch until := time.Unix(taken.Unix()+f.MinAge, 0).UTC(); {
		case now < until.Unix():
			return held("", "%s keeps snapshots for %s, this one until %s", f.Scope, time.Duration(f.MinAge)*time.Second, until.Format(time.DateTime))
		case now < f.LockUntil:
			return held("", "%s is locked until %s", f.Scope, time.Unix(f.LockUntil, 0).UTC().Format(time.DateTime))
		case f.MinCopies > 0 && copies() < f.MinCopies:
			return held("", "%s wants %d copies elsewhere, and %d are proven", f.Scope, f.MinCopies, copies())
		}
	}
	return nil
}

// Tripped returns why the breaker is open, "" if it is closed.
func (g *Guard) Tripped() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.s.trip == nil {
		return ""
	}
	return cmp.Or(g.s.trip.Reason, "no reason was given")
}

// Looked is when a person closed the breaker last: what was removed before has
// been looked at.
func (g *Guard) Looked() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Unix(g.s.looked, 0)
}

// MaySweep tells whether operators have said that the trash may be emptied now,
// though the ledger was not heard of for long.
func (g *Guard) MaySweep() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.clock() < g.s.sweep
}

// Floors returns all floors, in the order of their scopes.
func (g *Guard) Floors() (all []Floor) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.s.floors {
		if f.MinAge != 0 || f.MinCopies != 0 || f.LockUntil != 0 {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b Floor) int { return cmp.Compare(a.Scope, b.Scope) })
	return all
}

// Blocks returns who is kept out.
func (g *Guard) Blocks() (all []Block) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range g.s.blocks {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b Block) int { return cmp.Compare(a.What, b.What) })
	return all
}

// A Loss is what a group of backups is about to lose for good.
type Loss struct {
	Had  int // snapshots, those that are about to go among them
	Lost int // that are about to go, and were not replaced by as many newer ones
}

// The breaker opens when a datastore is about to lose so much at once: a part of
// all snapshots, or of all groups as a whole. Small numbers are no mass.
const (
	massSnapshots = 20
	massGroups    = 5
	partSnapshots = 0.3
	partGroups    = 0.2
)

// Mass says why losses of the groups of a datastore are more than retention does
// to it from day to day, or "".
func Mass(groups []Loss) string {
	var had, lost, gone int
	for _, g := range groups {
		had += g.Had
		lost += g.Lost
		if g.Had > 0 && g.Lost >= g.Had {
			gone++
		}
	}
	switch {
	case lost >= massSnapshots && float64(lost) > partSnapshots*float64(had):
		return fmt.Sprintf("%d of %d snapshots would go for good, without newer ones in their place", lost, had)
	case gone >= massGroups && float64(gone) > partGroups*float64(len(groups)):
		return fmt.Sprintf("%d of %d groups would go for good, with all their snapshots", gone, len(groups))
	}
	return ""
}
