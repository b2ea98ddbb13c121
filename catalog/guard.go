package catalog

import (
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/held"
)

// A Guard says what nobody may remove, see [held.Guard].
type Guard = held.Guard

// A Warden says what else stays, beside what the guard keeps: why, or "".
type Warden interface {
	Forbids(Namespace, Snapshot) string
	// AgeOf is how old at least what bears a time is, whatever the machine's clock says.
	AgeOf(time.Time) time.Duration
	// Keeps is asked before what is in the trash goes for good.
	Keeps(d *Datastore, trash []Trashed, all bool) func(Trashed) string
}

// Forbids says why a snapshot may not be removed, "" if it may.
func (d *Datastore) Forbids(ns Namespace, s Snapshot) string {
	if d.warden == nil {
		return d.Guard().Forbids(s, d.now(), nil)
	}
	if why := d.Guard().Forbids(s, d.now(), d.warden.AgeOf); why != "" {
		return why
	}
	return d.warden.Forbids(ns, s)
}

// Keeps returns why what is in the trash is guarded, though its delay may be over;
// "" if it is not. So is what was forgotten before it was.
func (d *Datastore) Keeps(trash []Trashed, all bool) func(Trashed) string {
	g, now := d.Guard(), d.now()
	more, age := func(Trashed) string { return "" }, (func(time.Time) time.Duration)(nil)
	if d.warden != nil {
		more, age = d.warden.Keeps(d, trash, all), d.warden.AgeOf
	}
	return func(t Trashed) string {
		if why := g.Forbids(t.Snapshot, now, age); why != "" {
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

// mayGo is when what is in the trash has been there for a delay, and whether that is so.
func (d *Datastore) mayGo(t Trashed, delay time.Duration) (time.Time, bool) {
	left := delay - d.waiting.Waited(t.id, delay)
	return d.now().Add(left), left <= 0
}
