package calendar

import "time"

// longAgo is how far [Event.Last] looks back at least: past the leap year that a century
// leaves out.
const longAgo = 9 * 366 * 24 * time.Hour

// Last returns the newest time, not after at, at which the event happens; false
// if there was none for many years. However many there were, it takes some
// dozens of steps.
func (e Event) Last(at time.Time) (time.Time, bool) {
	next := func(second int64) (time.Time, bool) {
		t, ok := e.Next(time.Unix(second, 0).In(at.Location()))
		return t, ok && !t.After(at)
	}
	late := at.Unix() // after this second there is none up to at
	early, step := late-1, int64(1)
	for {
		if _, ok := next(early); ok {
			break
		}
		if at.Unix()-early > int64(longAgo/time.Second) {
			return time.Time{}, false
		}
		late, step = early, 2*step
		early -= step
	}
	for late-early > 1 {
		middle := early + (late-early)/2
		if _, ok := next(middle); ok {
			early = middle
		} else {
			late = middle
		}
	}
	return next(early)
}
