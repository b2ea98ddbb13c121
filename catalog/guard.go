package catalog

import (
	"fmt"
	"time"
)

// A Guard says what nobody may remove, whoever asks and however authorised:
// it lies in guard.json in the datastore's directory, which only the operator
// of this machine can write. Nothing that comes over a network changes it.
type Guard struct {
	// MinRetention keeps every finished snapshot for so long after its
	// backup time.
	MinRetention Duration `json:"min-retention,omitempty"`

	// DeletionDelay is the least time that removed snapshots stay in the
	// trash, whatever the settings say.
	DeletionDelay Duration `json:"deletion-delay,omitempty"`

	// Frozen are groups of which nothing is removed.
	Frozen Filters `json:"frozen,omitempty"`
}

// A Warden says what else stays, beside what the guard keeps: why, or "".
type Warden interface {
	Forbids(Namespace, Snapshot) string
	// Keeps is asked before what is in the trash goes for good.
	Keeps(d *Datastore, trash []Trashed, all bool) func(Trashed) string
}

// Forbids says why a snapshot may not be removed, "" if it may.
func (d *Datastore) Forbids(ns Namespace, s Snapshot) string {
	if why := d.Guard().Forbids(s, d.now()); why != "" || d.warden == nil {
		return why
	}
	return d.warden.Forbids(ns, s)
}

// Keeps returns why what is in the trash is guarded, also against who empties all of it;
// "" if it is not. So is what was forgotten while a clock was wrong.
func (d *Datastore) Keeps(trash []Trashed, all bool) func(Trashed) string {
	more := func(Trashed) string { return "" }
	if d.warden != nil {
		more = d.warden.Keeps(d, trash, all)
	}
	g, now := d.Guard(), d.now()
	return func(t Trashed) string {
		if delay := time.Duration(g.DeletionDelay); d.waiting.Waited(t.id, delay) < delay {
			return fmt.Sprintf("the guard of the datastore keeps what is in the trash for %s", delay)
		}
		if why := g.Forbids(t.Snapshot, now); why != "" {
			return "the guard of the datastore: " + why
		}
		return more(t)
	}
}

// Guard reads the guard file.
func (t Tree) Guard() (Guard, error) {
	var g Guard
	return g, t.readJSON(guardFile, &g)
}

// Guard returns the guard.
func (d *Datastore) Guard() Guard {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.guard
}

// SetGuard replaces the guard, durably. Only a command that the operator
// gives on this machine may call it.
func (d *Datastore) SetGuard(g Guard) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.writeJSON(guardFile, g); err != nil {
		return fmt.Errorf("change guard: %w", err)
	}
	d.guard = g
	return nil
}

// Forbids says why a snapshot may not be removed at the time now, "" if it
// may.
func (g Guard) Forbids(s Snapshot, now time.Time) string {
	if len(g.Frozen) > 0 && g.Frozen.Match(s.Group) {
		return "its group is frozen"
	}
	keep := time.Duration(g.MinRetention)
	if until := time.Unix(s.Time, 0).Add(keep); keep > 0 && now.Before(until) {
		return fmt.Sprintf("it is kept for %s, until %s", keep, until.UTC().Format(time.RFC3339))
	}
	return ""
}

// trashDelay is how long removed snapshots stay in the trash.
func (d *Datastore) trashDelay() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	delay := DefaultTrashDelay
	if d.settings.TrashDelay != nil {
		delay = time.Duration(*d.settings.TrashDelay)
	}
	return max(delay, time.Duration(d.guard.DeletionDelay))
}
