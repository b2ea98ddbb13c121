package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Schedule is work with a name and a time. Its runs are tasks.
type Schedule struct {
	Name    string  // unique in a [Scheduler]: "prunejob:daily", at most 200 bytes
	Event   string  // calendar event; "" is never: the work runs by [Scheduler.Trigger] alone
	CatchUp CatchUp // default [CatchUpOnce]

	After   string         // name of another schedule: it runs when that has run well; has no Event then
	Stagger bool           // it begins a part of its period later, which its name says: not all at once
	Zone    *time.Location // in which Event is meant; default: the scheduler's
	Share   Share          // nil: the work is this node's alone

	Type string // of the task: "prunejob"
	ID   string // of the task: what is worked on
	Auth string // whose task it is when the time starts it

	Work func(ctx context.Context, t *Task) error
}

// CatchUp says what becomes of times at which a schedule should have run and
// did not: the node was down or asleep, the clock jumped, the run before took
// too long.
type CatchUp string

// The rules for missed times.
const (
	CatchUpOnce CatchUp = "once" // run once for all of them, as soon as it can be, as PBS does
	CatchUpSkip CatchUp = "skip" // wait for the next time
)

// ParseCatchUp reads "once" or "skip"; "" is once.
func ParseCatchUp(s string) (CatchUp, error) {
	switch c := CatchUp(s); c {
	case "":
		return CatchUpOnce, nil
	case CatchUpOnce, CatchUpSkip:
		return c, nil
	}
	return "", fmt.Errorf("%.40q is no rule for missed times, want once or skip", s)
}

// check completes s and parses its event.
func (s Schedule) check() (Schedule, Event, error) {
	var e Event
	var err error
	switch s.CatchUp, err = ParseCatchUp(string(s.CatchUp)); {
	case err != nil:
	case s.Name == "" || len(s.Name) > maxWord:
		err = fmt.Errorf("the name has %d bytes, want 1 to %d", len(s.Name), maxWord)
	case s.Work == nil:
		err = errors.New("it has no work")
	case s.After != "" && (s.Event != "" || s.After == s.Name || s.Share != nil):
		err = fmt.Errorf("it comes after %s, and so it can have no time of its own, be that, or be shared", s.After)
	case s.Share != nil && s.CatchUp == CatchUpSkip:
		err = errors.New("what nodes share is always made up for: this one cannot know that none of them ran it")
	case s.Event != "":
		e, err = ParseEvent(s.Event)
	}
	if err == nil {
		err = UPID{Node: "x", Type: s.Type, ID: s.ID, AuthID: s.Auth}.Check()
	}
	if err != nil {
		err = fmt.Errorf("schedule %q: %w", s.Name, err)
	}
	return s, e, err
}

const (
	// missedAfter is when a time counts as missed. The scheduler looks at the
	// clock at least every lookEvery.
	missedAfter = 2 * lookEvery
	lookEvery   = time.Minute

	// clockWrong is how far the last run may lie in the future before the
	// clock counts as put back. A smaller step (a leap second, NTP, a reboot
	// with a clock that drifts) must not repeat a run.
	clockWrong = time.Hour
)

// A verdict is what becomes of a schedule at some time.
type verdict struct {
	run  bool
	base time.Time // count from here on
	next time.Time // zero: never

	missed time.Time // when it should have run and did not; zero: nothing was missed
}

// decide says what becomes of a schedule that counts from base: its last run,
// or when it was made or changed. It runs if the first time after base has
// come. All times that were missed are one.
func decide(e Event, base, now time.Time, rule CatchUp) verdict {
	if base.Sub(now) > clockWrong {
		base = now
	}
	next, ok := e.Next(base)
	if !ok {
		return verdict{base: base}
	}
	late := now.Sub(next)
	if late >= missedAfter && rule == CatchUpSkip {
		missed := next
		next, _ = e.Next(now) // zero: never
		return verdict{base: now, next: next, missed: missed}
	}
	if late >= missedAfter {
		return verdict{run: true, base: now, next: next, missed: next}
	}
	if late >= 0 {
		return verdict{run: true, base: now, next: next}
	}
	return verdict{base: base, next: next}
}
