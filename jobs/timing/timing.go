// Package timing decides when a schedule runs: of its calendar event, the part of
// its period by which it is staggered, the windows in which it may run, and the
// rule for times that were missed. All of it is a pure function of two times.
package timing

import (
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/jobs/calendar"
)

// CatchUp says what becomes of times at which a schedule should have run and
// did not: the node was down or asleep, the clock jumped, the run before took
// too long.
type CatchUp string

// The rules for missed times.
const (
	Once CatchUp = "once" // run once for all of them, as soon as it can be, as PBS does
	Skip CatchUp = "skip" // wait for the next time
)

// ParseCatchUp reads "once" or "skip"; "" is once.
func ParseCatchUp(s string) (CatchUp, error) {
	switch c := CatchUp(s); c {
	case "":
		return Once, nil
	case Once, Skip:
		return c, nil
	}
	return "", fmt.Errorf("%.40q is no rule for missed times, want once or skip", s)
}

// Overlap says what becomes of a time that comes while the run before goes on. A
// schedule never runs twice at once.
type Overlap string

// The rules for overlaps.
const (
	Forbid  Overlap = "forbid"  // it was missed: told, and made up for as CatchUp says
	Queue   Overlap = "queue"   // it runs when the run before has ended, and nobody is told
	Replace Overlap = "replace" // the run before is stopped for it
)

// ParseOverlap reads one of them; "" is forbid.
func ParseOverlap(s string) (Overlap, error) {
	switch o := Overlap(s); o {
	case "":
		return Forbid, nil
	case Forbid, Queue, Replace:
		return o, nil
	}
	return "", fmt.Errorf("%.40q is no rule for overlaps, want forbid, queue or replace", s)
}

// AtEnd says what becomes of a run at the end of its window.
type AtEnd string

// What may become of it.
const (
	Pause  AtEnd = "pause"  // it is stopped, and goes on in the next window
	Finish AtEnd = "finish" // it goes on
	Abort  AtEnd = "abort"  // it is stopped, and the next run is at the next time
)

// ParseAtEnd reads one of them; "" is pause.
func ParseAtEnd(s string) (AtEnd, error) {
	switch a := AtEnd(s); a {
	case "":
		return Pause, nil
	case Pause, Finish, Abort:
		return a, nil
	}
	return "", fmt.Errorf("%.40q is no end of a window, want pause, finish or abort", s)
}

const (
	// MissedAfter is when a time counts as missed. Who uses this package looks at
	// the clock at least every half of that.
	MissedAfter = 2 * time.Minute

	// clockWrong is how far the last run may lie in the future before the
	// clock counts as put back. A smaller step (a leap second, NTP, a reboot
	// with a clock that drifts) must not repeat a run.
	clockWrong = time.Hour
)

// A Rule says when a schedule is due. Its zone is that of the times it is asked about.
type Rule struct {
	Event   calendar.Event
	Delay   time.Duration // after the times of Event
	Windows Windows       // in which it may run
	CatchUp CatchUp
}

// Next returns the first time of the event after base, and when the schedule is due
// for it: later by the delay, and not before a window opens. false is never.
func (r Rule) Next(base time.Time) (slot, due time.Time, ok bool) {
	if slot, ok = r.Event.Next(base); !ok {
		return slot, due, false
	}
	due, ok = r.Windows.Open(slot.Add(r.Delay))
	return slot, due, ok
}

// A Verdict is what becomes of a schedule at some time.
type Verdict struct {
	Run  bool
	Base time.Time // count from here on: times of the event up to this one are seen to
	Next time.Time // when it is due next; zero: never

	Missed time.Time // when it should have run and did not; zero: nothing was missed
}

// Decide says what becomes of a schedule that counts from base. It runs if the first
// time after base has come, and a window is open. All times that were missed are one.
func (r Rule) Decide(base, now time.Time) Verdict {
	seen := now.Add(-r.Delay)
	if base.Sub(seen) > clockWrong {
		base = seen
	}
	_, due, ok := r.Next(base)
	if !ok {
		return Verdict{Base: base}
	}
	switch late := now.Sub(due); {
	case late >= MissedAfter && r.CatchUp == Skip:
		_, next, _ := r.Next(seen) // zero: never
		return Verdict{Base: seen, Next: next, Missed: due}
	case late < 0 || !r.Windows.Contain(now):
		return Verdict{Base: base, Next: due}
	case late >= MissedAfter:
		return Verdict{Run: true, Base: seen, Next: due, Missed: due}
	}
	return Verdict{Run: true, Base: seen, Next: due}
}

// The delay of a schedule that is staggered is less than either.
const (
	maxStagger  = 15 * time.Minute
	staggerPart = 10 // of its period
)

// Stagger is how long after its times a schedule of a name runs, so that not all
// begin at once: always the same.
func Stagger(name string, e calendar.Event) time.Duration {
	first, _ := e.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
	second, ok := e.Next(first)
	if !ok {
		return 0
	}
	most := min(maxStagger, second.Sub(first)/staggerPart)
	return time.Duration(xxhash.Sum64String(name)%uint64(max(1, most/time.Second))) * time.Second
}
