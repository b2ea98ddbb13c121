package path

import (
	"net/netip"
	"time"
)

// A state is what is known of a candidate.
type state uint8

const (
	unknown   state = iota
	reachable       // small pings are answered
	narrow          // small ones are, and full ones are not
	proven          // full ones are
)

type candidate struct {
	addr    netip.AddrPort
	sources Source
	state   state
	rtt     time.Duration // smoothed
	base    time.Duration // lowest of late: without queues
	heard   time.Time     // of the last answer
	next    time.Time     // of the next ping
	step    int           // in burst
	missed  int           // pings since the last answer
	first   time.Time     // of those
	owed    time.Time     // what went out then waits for an answer; zero: nothing
	full    time.Time     // of the last full ping

	trial     trial
	retryFull time.Time // of a narrow path
}

func (c *candidate) age(now time.Time) time.Duration { return now.Sub(c.heard) }

// silence returns for how long c owes an answer.
func (c *candidate) silence(now time.Time) time.Duration {
	if c.missed == 0 && !c.heard.IsZero() {
		return 0
	}
	return min(c.age(now), now.Sub(c.first)+heartbeat)
}

// again starts the burst of pings.
func (c *candidate) again(now time.Time) { c.step, c.next = 0, now }

// reset forgets all answers.
func (c *candidate) reset(now time.Time) {
	c.state, c.missed, c.trial = unknown, 0, trial{}
	c.heard, c.owed = time.Time{}, time.Time{}
	c.again(now)
}

func (c *candidate) answer(now time.Time, rtt time.Duration) {
	c.missed, c.heard, c.owed = 0, now, time.Time{}
	if c.rtt == 0 {
		c.rtt, c.base = rtt, rtt
	}
	c.rtt += (rtt - c.rtt) / 4
	c.base = min(rtt, c.base+c.base/16)
}

// better reports whether c is worth leaving o for: clearly faster, or about as
// fast and within the same private network.
func (c *candidate) better(o *candidate) bool {
	const noise = time.Millisecond
	if c.base+noise < o.base*8/10 {
		return true
	}
	private := c.addr.Addr().IsPrivate() && !o.addr.Addr().IsPrivate()
	return private && c.base < o.base+o.base/4+noise
}

// A trial sends full pings to a reachable candidate: a train, a single one, and
// once more both. A train that half arrives ends it; trains that do not, where
// single ones do, show that segmentation offload is broken.
type trial struct {
	step    int // 1 to trialSteps; 0: none
	until   time.Time
	arrived int  // of the last train
	single  bool // a single one arrived
	bad     int  // trains that did not arrive
}

const trialSteps = 4

func (t *trial) running() bool { return t.step > 0 }

// trialPing sends what the step of the trial asks for.
func (s *Selector) trialPing(c *candidate, now time.Time) Ping {
	count := 1
	if s.offload && c.trial.step%2 == 1 {
		count = TrainLength
	}
	c.trial.arrived = 0
	c.trial.until = now.Add(max(300*time.Millisecond, 3*c.rtt))
	c.next = max2(c.next, c.trial.until)
	p := s.ping(c, now, true, count)
	c.trial.step++
	return p
}

// judge looks at the step that is over, and ends the trial if all is known.
func (s *Selector) judge(c *candidate) {
	t := &c.trial
	if t.step == 1 {
		return // nothing was sent yet
	}
	train := s.offload && (t.step-1)%2 == 1
	switch {
	case train && t.arrived >= TrainLength/2, !s.offload && t.single:
		*t = trial{}
		return
	case train:
		t.bad++
	}
	if t.step <= trialSteps {
		return
	}
	switch {
	case t.single && t.bad > 1:
		s.broken = true
	case c.state == reachable:
		c.state, c.retryFull = narrow, t.until.Add(retryIdle)
		c.step = len(burst)
	}
	*t = trial{}
}

func max2(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
