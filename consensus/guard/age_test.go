package guard

import (
	"testing"
	"time"
)

const (
	hour = time.Hour
	day  = 24 * hour
	year = 365 * day
)

// A node whose machine's clock can be set.
type node struct {
	t    *testing.T
	dir  string
	wall time.Time
	ran  time.Duration
	*Guard
}

func newNode(t *testing.T) *node {
	n := &node{t: t, dir: t.TempDir(), wall: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
	n.boot()
	t.Cleanup(func() { must(t, n.Close()) })
	return n
}

func (n *node) boot() {
	n.t.Helper()
	g, err := Open(Config{Dir: n.dir, Now: func() time.Time { return n.wall }, Ran: func() time.Duration { return n.ran }})
	must(n.t, err)
	n.Guard = g
}

// off has the node stopped for a while.
func (n *node) off(d time.Duration) {
	n.t.Helper()
	must(n.t, n.Close())
	n.jump(d)
	n.boot()
}

func (n *node) jump(d time.Duration) {
	n.wall = n.wall.Add(d)
}

// run has time pass, in which the node does as it does every hour.
func (n *node) run(d time.Duration) {
	n.t.Helper()
	for step := hour; d > 0; d -= step {
		step = min(step, d)
		n.jump(step)
		n.ran += step
		must(n.t, n.Look(), n.Tick())
	}
}

// is fails unless what bears a time has an age, now and after a restart. A jump of
// minutes may make it younger by as much, since the clock showed that time twice.
func (n *node) is(what string, stamp time.Time, want, jump time.Duration) {
	n.t.Helper()
	var off time.Duration
	if jump = jump.Abs(); jump < hour {
		off = jump
	}
	for range 2 {
		if got := n.Age(stamp); got > want || got < want-off {
			n.t.Errorf("jump of %s: %s: %s old, want %s", jump, what, got, want)
		}
		n.off(0)
		what += ", after a restart"
	}
}

// A clock that was three years ahead for a moment made everything old enough to be
// removed. One that was set back kept it until the same day came again, and what was
// made while it was wrong as well.
func TestAgeOutlivesAWrongClock(t *testing.T) {
	for _, jump := range []time.Duration{3 * year, -3 * year, -50 * year, 2 * time.Minute, -2 * time.Minute} {
		n := newNode(t)
		before := n.wall.Add(-10 * day)
		n.run(10 * day)
		made := n.wall
		n.run(20 * time.Second)
		n.jump(jump)
		n.is("just before", made, 20*time.Second, jump)
		n.run(hour)
		wrong := n.wall
		n.run(day)
		n.is("of the wrong time", wrong, day, 0)
		n.is("right before", made, 25*hour+20*time.Second, jump)
		n.is("from before the guard", before, 20*day+25*hour+20*time.Second, jump)
		n.jump(-jump)
		n.is("of the wrong time, at once after it", wrong, day, jump)
		n.run(2 * day)
		n.is("of the wrong time, later", wrong, 3*day, jump)
		n.is("right before, later", made, 73*hour+20*time.Second, jump)
		n.is("from before the guard, later", before, 20*day+73*hour+20*time.Second, jump)
		fresh := n.wall
		n.run(5 * hour)
		n.is("after all that", fresh, 5*hour, 0)
		n.is("from tomorrow", n.wall.Add(day), -day, 0)
	}
}

// While a node is off its clock goes by a day at most, and what comes to it from those
// times is as old as the guard has known for sure; it is on its way to be old enough.
func TestAgeOverTimesOff(t *testing.T) {
	n := newNode(t)
	n.run(hour)
	made := n.wall
	n.run(hour)
	n.off(3 * year)
	n.is("made before", made, 25*hour, 0)
	n.is("from elsewhere, of that time", n.wall.Add(-100*day), 0, 0)
	n.run(day)
	n.is("made before, later", made, 49*hour, 0)
	n.is("from elsewhere, later", n.wall.Add(-100*day), day, 0)
	for range 5 { // it is on for an hour a week
		n.off(7*day - hour)
		n.run(hour)
	}
	n.is("made before, after five weeks", made, 49*hour+5*25*hour, 0)
}

// A machine without a battery begins at the same day at each start, and has the time
// some seconds later. With a rule that takes each jump for a beginning, nothing on it
// ever became older than its last start.
func TestAgeOnAMachineWithoutABattery(t *testing.T) {
	n := newNode(t)
	before, began := n.wall.Add(-100*day), n.wall
	made := began.Add(hour)
	n.run(2 * hour)
	now := n.wall
	for range 10 {
		must(t, n.Close())
		n.wall = time.Unix(0, 0)
		n.boot()
		n.run(10 * time.Second)
		now = now.Add(day)
		n.wall = now
		must(t, n.Look())
		n.run(day)
		now = n.wall
	}
	n.is("made on the first day", made, 10*day+hour+100*time.Second, 0)
	n.is("from before the guard", before, 110*day+2*hour+100*time.Second, 0)
}

// A guard that was made while the clock was ahead believes that clock no longer than
// it was so.
func TestAgeOfAGuardFromTheFuture(t *testing.T) {
	n := newNode(t)
	n.run(hour)
	n.jump(-3 * year)
	n.is("a week old", n.wall.Add(-7*day), 7*day, 0)
	made := n.wall
	n.run(day)
	n.jump(3 * year)
	n.is("a week old", made.Add(-7*day), 8*day, 0)
	n.is("a day old", made, day, 0)
}
