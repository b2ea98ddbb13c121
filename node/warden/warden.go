// Package warden has the datastores of a node keep what the guard of the node
// has promised: floors of retention hold when a snapshot is forgotten, when a
// prune is planned, and again when the trash is emptied; and the breaker opens
// when a datastore is about to lose much at once.
//
// What has gone to the trash can be taken back. So only what ends that waits: for
// a person to look, if the breaker is open, and for the ledger, if this node has
// not heard of it for a day, since a hold may have been decided elsewhere.
package warden

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
)

// Config says what the datastores ask. All but Copies and Log are required.
type Config struct {
	Guard *guard.Guard
	// Age is how long the ledger was not heard of.
	Age func() time.Duration
	// Room is how full the disk of a datastore is.
	Room func(store string) (disk.Space, error)
	// Copies is how many proven copies of a snapshot others have; default: none.
	Copies func(store string, ns catalog.Namespace, s catalog.Snapshot) int
	Log    *slog.Logger // default: discard
}

// MaxAge is for how long the trash is emptied without the ledger.
const MaxAge = 24 * time.Hour

// fullDisk is the part of a disk from which on room counts more than the ledger:
// a hold that nobody could tell us does not help who cannot back up.
const fullDisk = 0.95

// A Warden is that of one datastore.
type Warden struct {
	Config
	store string
}

// Of returns the warden of a datastore.
func (c Config) Of(store string) *Warden {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Warden{c, store}
}

// Forbids says why a snapshot may not be removed, as far as floors say.
func (w *Warden) Forbids(ns catalog.Namespace, s catalog.Snapshot) string {
	err := w.Guard.MayForget(w.store, string(ns), time.Unix(s.Time, 0), func() int {
		if w.Copies == nil {
			return 0
		}
		return w.Copies(w.store, ns, s)
	})
	return reason(err)
}

// reason is an error of the guard without what catalog says anyway.
func reason(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimPrefix(err.Error(), guard.ErrHeld.Error()+": ")
}

// Keeps says what has to stay in the trash. It opens the breaker if more is about
// to go for good than retention does from day to day. all says that the operator
// of this machine empties the trash, whom only floors stop.
func (w *Warden) Keeps(d *catalog.Datastore, trash []catalog.Trashed, all bool) func(catalog.Trashed) string {
	floors := func(t catalog.Trashed) string { return w.Forbids(t.Namespace, t.Snapshot) }
	if all {
		return floors
	}
	why := w.waits(d, trash)
	return func(t catalog.Trashed) string {
		if why != "" {
			return why
		}
		return floors(t)
	}
}

// notHeard says for how long; a node that never heard of it has its first hour in 1970.
func notHeard(age time.Duration) string {
	if age > 20*365*24*time.Hour {
		return "never heard of"
	}
	return fmt.Sprintf("not heard of for %s", age.Round(time.Hour))
}

// waits says why nothing goes from the trash now.
func (w *Warden) waits(d *catalog.Datastore, trash []catalog.Trashed) string {
	if why := w.Guard.Tripped(); why != "" {
		return "the breaker is open: " + why
	}
	if age := w.Age(); age > MaxAge && !w.Guard.MaySweep() && !w.full() {
		return "the ledger was " + notHeard(age) + ", and something may be held that this node does not know"
	}
	losses, err := w.losses(d, trash)
	if err != nil {
		return "it cannot be seen how much would go: " + err.Error()
	}
	why := guard.Mass(losses)
	if why == "" {
		return ""
	}
	return w.trip(why)
}

// trip opens the breaker.
func (w *Warden) trip(why string) string {
	why = "datastore " + w.store + ": " + why
	w.Log.Error("the breaker is open: nothing goes for good on this node until somebody has looked; `holdfast guard close` closes it", "why", why)
	if err := w.Guard.Trip("node", why); err != nil {
		return reason(err)
	}
	return "the breaker is open: " + why
}

func (w *Warden) full() bool {
	space, err := w.Room(w.store)
	return err == nil && space.TotalBytes > 0 && float64(space.TotalBytes-space.FreeBytes) > fullDisk*float64(space.TotalBytes)
}

// A place is a group in a namespace.
type place struct {
	ns catalog.Namespace
	g  catalog.Group
}

// losses are what each group would lose. What somebody has looked at counts no
// more, and what newer snapshots of the same group have replaced is no loss.
func (w *Warden) losses(d *catalog.Datastore, trash []catalog.Trashed) ([]guard.Loss, error) {
	looked, now := w.looked(), time.Now()
	lost, oldest := map[place]int{}, map[place]time.Time{}
	for _, t := range trash {
		p := place{t.Namespace, t.Snapshot.Group}
		if t.Removed.Before(looked) || now.Before(t.Until) {
			continue
		}
		if lost[p]++; oldest[p].IsZero() || t.Removed.Before(oldest[p]) {
			oldest[p] = t.Removed
		}
	}
	if len(lost) == 0 {
		return nil, nil
	}
	counts, err := count(context.Background(), d.Tree, oldest)
	if err != nil {
		return nil, err
	}
	var all []guard.Loss
	for p, c := range counts {
		all = append(all, guard.Loss{Had: c.all + lost[p], Lost: max(0, lost[p]-c.newer)})
		delete(lost, p)
	}
	for _, n := range lost { // groups that are gone
		all = append(all, guard.Loss{Had: n, Lost: n})
	}
	return all, nil
}

// looked is when a person closed the breaker last. If that is to come, the clock was
// wrong then, and for years it would be said of everything that it had been looked at.
func (w *Warden) looked() time.Time {
	at := w.Guard.Looked()
	if at.After(time.Now().Add(time.Minute)) {
		return time.Time{}
	}
	return at
}

type counted struct{ all, newer int }

// count counts the snapshots of all groups, and those that are newer than a time.
func count(ctx context.Context, t catalog.Tree, since map[place]time.Time) (map[place]counted, error) {
	all := map[place]counted{}
	spaces, err := t.Namespaces(ctx, "", -1)
	if err != nil {
		return nil, err
	}
	for _, ns := range spaces {
		groups, err := t.Groups(ctx, ns)
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			snaps, err := t.Snapshots(ctx, ns, g)
			if err != nil {
				return nil, err
			}
			p, c := place{ns, g}, counted{all: len(snaps)}
			for _, s := range snaps {
				if at := since[p]; !at.IsZero() && time.Unix(s.Time, 0).After(at) {
					c.newer++
				}
			}
			if c.all > 0 {
				all[p] = c
			}
		}
	}
	return all, nil
}

// lookedFor is how long a look at the breaker is good for the destruction of a
// whole datastore.
const lookedFor = time.Hour

// MayLeave returns nil if the datastore may be taken out of the settings, with its
// data or without. A floor has the name of its datastore: under another name the
// data would have none.
func (w *Warden) MayLeave() error {
	for _, f := range w.Guard.Floors() {
		if f.Scope == w.store || strings.HasPrefix(f.Scope, w.store+"/") {
			err := fmt.Errorf("%w: there is a floor of %s, which would go with its name", catalog.ErrGuarded, f.Scope)
			return &guard.Error{Err: err, Cure: "release it first, which takes the operators and 14 days: `holdfast guard release " + f.Scope + " --reason …`"}
		}
	}
	return nil
}

// MayDestroy returns nil if all of a datastore may be removed at once.
func (w *Warden) MayDestroy(ctx context.Context, t catalog.Tree) error {
	if why := w.Guard.Tripped(); why != "" {
		return fmt.Errorf("%w: the breaker is open: %s", catalog.ErrGuarded, why)
	}
	if time.Since(w.looked()) < lookedFor {
		return nil
	}
	groups, err := count(ctx, t, nil)
	if err != nil {
		return err
	}
	var all []guard.Loss
	for _, c := range groups {
		all = append(all, guard.Loss{Had: c.all, Lost: c.all})
	}
	if why := guard.Mass(all); why != "" {
		return fmt.Errorf("%w: %s", catalog.ErrGuarded, w.trip(why)+"; within an hour after `holdfast guard close` it may be removed")
	}
	return nil
}
