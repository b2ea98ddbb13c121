// Package held is what the guard of a datastore holds: what may not be removed, and
// what may not leave the trash yet.
package held

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
)

// ErrGuarded is what every refusal is.
var ErrGuarded = errors.New("the guard of this datastore forbids it")

// A Guard says what nobody may remove, whoever asks and however authorised:
// it lies in guard.json in the datastore's directory, which only the operator
// of this machine can write. Nothing that comes over a network changes it.
type Guard struct {
	// MinRetention keeps every finished snapshot for so long after its
	// backup time.
	MinRetention retention.Duration `json:"min-retention,omitempty"`

	// DeletionDelay is the least time that removed snapshots stay in the
	// trash, whatever the settings and whoever empties it say.
	DeletionDelay retention.Duration `json:"deletion-delay,omitempty"`

	// Frozen are groups of which nothing is removed.
	Frozen naming.Filters `json:"frozen,omitempty"`
}

// Forbids says why a snapshot may not be removed at the time now, "" if it may. age
// tells how old at least what bears a time is, by a clock that does not jump; nil if
// there is none but that of the machine.
func (g Guard) Forbids(s naming.Snapshot, now time.Time, age func(time.Time) time.Duration) string {
	if len(g.Frozen) > 0 && g.Frozen.Match(s.Group) {
		return "its group is frozen"
	}
	taken, keep := time.Unix(s.Time, 0), time.Duration(g.MinRetention)
	if keep <= 0 {
		return ""
	}
	old := now.Sub(taken)
	if age != nil {
		old = age(taken)
	}
	switch until := taken.Add(keep); {
	case old >= keep:
		return ""
	case now.Before(until):
		return fmt.Sprintf("it is kept for %s, until %s", keep, until.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("it is kept for %s, and is %s old by the guard's own clock, which does not jump and goes while the node runs", keep, max(0, old))
}

// InTrash is what stays in a trash that was to be emptied, as an error.
type InTrash struct {
	Delay   time.Duration // of the guard
	Delayed int           // that wait for it
	Until   time.Time     // when the last of them may go
	Others  int           // that stay for another reason
	Why     string        // that of the first of them
}

// Count is how many snapshots stay.
func (t *InTrash) Count() int { return t.Delayed + t.Others }

// Keeps tells whether something stays, and counts it: its delay ends at a time, which
// was or was not, and there is another reason, or "".
func (t *InTrash) Keeps(until time.Time, was bool, why string) bool {
	switch {
	case !was:
		if t.Delayed++; until.After(t.Until) {
			t.Until = until.UTC().Truncate(time.Second)
		}
	case why != "":
		t.Others++
		t.Why = cmp.Or(t.Why, why)
	default:
		return false
	}
	return true
}

// Beside adds t to an error if anything stays: alone if there is no other.
func (t *InTrash) Beside(err error) error {
	switch {
	case t.Count() == 0:
		return err
	case err == nil:
		return t
	}
	return errors.Join(err, t)
}

func (t *InTrash) Error() string {
	text := fmt.Sprintf("%d snapshots stay in the trash", t.Count())
	if t.Delayed > 0 {
		text += fmt.Sprintf(": the guard's deletion-delay keeps %d for %s since they were forgotten, the last until %s", t.Delayed, t.Delay, t.Until.Format(time.RFC3339))
	}
	if t.Others > 0 {
		text += fmt.Sprintf(": %d for other reasons, the first: %s", t.Others, t.Why)
	}
	return text
}

// Cure is what to do about it.
const Cure = "they go with a garbage collection after that; the guard is changed on this machine only: holdfast datastore guard, holdfast guard show"

// Hint is where that is looked at and changed.
func (t *InTrash) Hint() string { return Cure }

func (t *InTrash) Unwrap() error { return ErrGuarded }
