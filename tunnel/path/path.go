// Package path decides which address of a peer to send to. It only decides:
// time is an argument, and what to do is a result, so that every case can be
// tested without a network or a clock.
//
// A candidate is an address at which the peer may be. It becomes reachable when
// a small ping is answered, and proven when one as large as the largest packet
// is: a path with a black hole for large packets is of no use. The best proven
// candidate is the current path. A path that carries much is pinged often, one
// that carries little when it owes an answer ([Selector.Suspect]): silence first
// means doubt, and then loss of the path.
package path

import (
	"net/netip"
	"slices"
	"time"
)

const (
	heartbeat = 400 * time.Millisecond // between pings of the current path when busy or suspect
	quietly   = 10 * time.Second       // the same when it carries little
	keepAlive = 25 * time.Second       // the same of a path not in use: NATs forget after 30 s
	idleSlack = 4 * time.Second        // of the end that hears pings instead of sending them
	fresh     = 2 * time.Second        // an answer so old proves that a quiet path works
	doubtful  = 1100 * time.Millisecond
	lost      = 2500 * time.Millisecond
	settle    = 250 * time.Millisecond // grace for a first answer before a relay is asked

	retryLost    = 2 * time.Second  // of all candidates, in use but without a path
	retryQuiet   = 10 * time.Second // the same, after searchTime and when little is sent
	searchTime   = 30 * time.Second
	retryBetter  = 30 * time.Second // of all others, in use
	retryIdle    = 60 * time.Second
	fullEvery    = 30 * time.Second // of a quiet path: a black hole may have opened
	retryPending = 2 * time.Second  // of an idle path that did not answer
	expire       = 5 * time.Second  // of a ping without answer

	missedLost = 3 // pings without answer before a path is lost

	// MaxCandidates bounds what a peer can make us send.
	MaxCandidates = 24

	// TrainLength is how many full pings test segmentation offload at once.
	TrainLength = 8
)

// burst is when candidates are pinged after something new was learnt.
var burst = [...]time.Duration{0, 200 * time.Millisecond, time.Second}

// A Use is how much there is to carry between us and a peer.
type Use uint8

const (
	Idle  Use = iota // nothing
	Quiet            // now and then a packet
	Busy
)

// A Source is who says that a candidate is one.
type Source uint8

const (
	Configured Source = 1 << iota // the desired table of peers
	Called                        // the peer itself
	Reflexive                     // a ping came from there
)

// A Ping is one to send. Full ones are as large as the largest packet; a train
// of several goes out in one call, to test segmentation offload.
type Ping struct {
	To   netip.AddrPort
	IDs  []uint64
	Full bool
}

// A Route says where packets go.
type Route struct {
	Direct netip.AddrPort // zero: no path is known to work
	Doubt  bool           // the path may have died: send another way, too
}

// A Selector chooses the path to one peer. It is not safe for concurrent use.
type Selector struct {
	random     func() uint64
	candidates []*candidate
	current    *candidate
	pings      map[uint64]sent
	use        Use
	since      time.Time // of being in use
	search     time.Time // began, for a path
	stale      bool      // nothing was asked since the peer was idle
	offload    bool      // trains are possible
	broken     bool      // trains do not arrive
}

type sent struct {
	to    *candidate
	at    time.Time
	full  bool
	train bool
}

// New returns a selector without candidates. random numbers name pings; they
// must not be guessed by others.
func New(random func() uint64) *Selector {
	return &Selector{random: random, pings: map[uint64]sent{}}
}

// SetCandidates replaces the candidates that source names.
func (s *Selector) SetCandidates(now time.Time, source Source, addrs []netip.AddrPort) {
	for _, c := range s.candidates {
		if !slices.Contains(addrs, c.addr) {
			c.sources &^= source
		}
	}
	for _, a := range addrs {
		s.Add(now, source, a)
	}
	s.candidates = slices.DeleteFunc(s.candidates, func(c *candidate) bool {
		return c.sources == 0 && c != s.current
	})
}

// Add adds one candidate, and has it pinged soon.
func (s *Selector) Add(now time.Time, source Source, addr netip.AddrPort) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if !addr.IsValid() || addr.Port() == 0 || addr.Addr().IsUnspecified() || addr.Addr().IsMulticast() {
		return
	}
	if c := s.find(addr); c != nil {
		if c.sources |= source; c.state == unknown && source != Configured {
			c.again(now)
		}
		return
	}
	if len(s.candidates) >= MaxCandidates && !s.evict() {
		return
	}
	c := &candidate{addr: addr, sources: source}
	c.again(now)
	s.candidates = append(s.candidates, c)
}

// evict removes the oldest candidate that was only seen and never worked.
func (s *Selector) evict() bool {
	i := slices.IndexFunc(s.candidates, func(c *candidate) bool {
		return c.sources == Reflexive && c != s.current && c.state != proven
	})
	if i >= 0 {
		s.candidates = slices.Delete(s.candidates, i, i+1)
	}
	return i >= 0
}

func (s *Selector) find(addr netip.AddrPort) *candidate {
	for _, c := range s.candidates {
		if c.addr == addr {
			return c
		}
	}
	return nil
}

// Candidates returns the addresses of all candidates.
func (s *Selector) Candidates() []netip.AddrPort {
	var all []netip.AddrPort
	for _, c := range s.candidates {
		all = append(all, c.addr)
	}
	return all
}

// Restart forgets what is known of all paths, as after a change of the network
// or a sleep, and has all pinged. The current path stays, in doubt.
func (s *Selector) Restart(now time.Time) {
	clear(s.pings)
	s.since, s.search, s.stale = now, now, true
	for _, c := range s.candidates {
		c.reset(now)
	}
}

// Prod has all candidates that do not work pinged again soon.
func (s *Selector) Prod(now time.Time) {
	for _, c := range s.candidates {
		if c.state == unknown {
			c.again(now)
		}
	}
}

// Heard notes a ping of the peer from an address. One of the two keeps an idle
// path alive, so the other need not. On a quiet one the peer may have a reason
// to ask, so we ask, too.
func (s *Selector) Heard(now time.Time, from netip.AddrPort) {
	c := s.current
	switch {
	case c == nil || c.addr != from || c.missed > 0:
	case s.use == Idle:
		c.next = now.Add(keepAlive + idleSlack)
	case s.use == Quiet && c.age(now) > fresh:
		c.next = now
	}
}

// Suspect says that what went out at that time by the current path was not
// answered, by packets of any kind: a ping is to find out why.
func (s *Selector) Suspect(now, since time.Time) {
	if c := s.current; c != nil && c.missed == 0 && s.use != Idle && since.After(c.heard) {
		c.owed, c.next = since, now
	}
}

// Ask has the current path pinged now.
func (s *Selector) Ask(now time.Time) {
	if s.current != nil {
		s.current.next = now
	}
}

// Route returns where packets go at this moment.
func (s *Selector) Route(now time.Time) Route {
	if s.current == nil {
		return Route{}
	}
	return Route{Direct: s.current.addr, Doubt: s.doubts(s.current, now)}
}

// doubts reports whether the current path is silent where it should not be.
func (s *Selector) doubts(c *candidate, now time.Time) bool {
	if s.use == Idle || s.stale {
		return c.age(now) > doubtful+c.rtt
	}
	return c.silence(now) > doubtful+c.rtt
}

// WantsRelay reports whether packets wait for another way than UDP.
func (s *Selector) WantsRelay(now time.Time) bool {
	r := s.Route(now)
	return s.use != Idle && (!r.Direct.IsValid() || r.Doubt) &&
		(now.Sub(s.since) > settle || len(s.candidates) == 0)
}

// RTT returns the round trip of the current path, zero without one.
func (s *Selector) RTT() time.Duration {
	if s.current == nil {
		return 0
	}
	return s.current.rtt
}

// OffloadBroken reports that trains do not arrive where single datagrams do.
func (s *Selector) OffloadBroken() bool { return s.broken }

// Tick returns the pings that are due. use is how much the peer is spoken with,
// offload whether several datagrams may be sent as a train.
func (s *Selector) Tick(now time.Time, use Use, offload bool) []Ping {
	s.offload = offload
	if use > s.use {
		s.Ask(now)
		s.Prod(now)
		if s.use == Idle {
			s.since, s.search, s.stale = now, now, true
		}
	}
	s.use = use
	s.expire(now)
	s.leave(now)
	s.choose(now)
	var due []Ping
	for _, c := range s.candidates {
		if p, ok := s.due(c, now); ok {
			due = append(due, p)
		}
	}
	return due
}

// Next returns when Tick may have something to do, if nothing comes before.
func (s *Selector) Next(now time.Time) time.Time {
	c := s.current
	searches, asks := c == nil && now.Sub(s.search) < searchTime, c != nil && (s.stale || c.missed > 0)
	if s.use == Busy || s.use == Quiet && (searches || asks) {
		return now
	}
	next := now.Add(time.Hour)
	for _, c := range s.candidates {
		at := c.next
		if c.trial.running() {
			at = c.trial.until
		}
		if at.Before(next) {
			next = at
		}
	}
	return next
}

func (s *Selector) expire(now time.Time) {
	for id, p := range s.pings {
		if now.Sub(p.at) > expire {
			delete(s.pings, id)
		}
	}
}

// leave gives up the current path when it is silent for too long.
func (s *Selector) leave(now time.Time) {
	c := s.current
	if c == nil || c.missed < missedLost {
		return
	}
	silent := min(c.age(now), now.Sub(c.first))
	if s.use != Idle {
		silent = min(silent, now.Sub(s.since))
	}
	if silent <= lost+c.rtt {
		return
	}
	s.current, s.search = nil, now
	c.reset(now)
	s.Prod(now)
}

// choose makes the best proven candidate the current path.
func (s *Selector) choose(now time.Time) {
	for _, c := range s.candidates {
		if c.state == proven && c != s.current && c.age(now) < lost && s.prefers(c, now) {
			s.current, s.stale = c, false
			c.next = now
		}
	}
}

// prefers reports whether c is to be the path instead of the current one.
func (s *Selector) prefers(c *candidate, now time.Time) bool {
	o := s.current
	if o == nil {
		return true
	}
	silent := s.use != Idle && s.doubts(o, now) && c.age(now) < doubtful
	return silent || c.better(o)
}

// due returns the ping that c needs now.
func (s *Selector) due(c *candidate, now time.Time) (Ping, bool) {
	if c.trial.running() {
		if now.Before(c.trial.until) {
			return Ping{}, false
		}
		s.judge(c)
		if c.trial.running() {
			return s.trialPing(c, now), true
		}
	}
	if now.Before(c.next) {
		return Ping{}, false
	}
	c.next = now.Add(s.interval(c, now))
	full := c == s.current && (s.use == Busy || s.use == Quiet && (c.missed > 0 || s.stale || !c.owed.IsZero() || now.Sub(c.full) >= fullEvery))
	return s.ping(c, now, full, 1), true
}

// interval returns the time until the next ping of c, and counts on bursts.
func (s *Selector) interval(c *candidate, now time.Time) time.Duration {
	if c == s.current {
		return s.patience(c)
	}
	if c.step+1 < len(burst) {
		c.step++
		return burst[c.step] - burst[c.step-1]
	}
	switch {
	case s.use == Idle:
		return retryIdle
	case s.current != nil:
		return retryBetter
	case s.use == Quiet && now.Sub(s.search) > searchTime:
		return retryQuiet
	}
	return retryLost
}

// patience returns the time until the next ping of the current path, if the one
// that goes out now is answered; else the next comes sooner.
func (s *Selector) patience(c *candidate) time.Duration {
	switch {
	case s.use != Idle:
		return heartbeat
	case c.missed > 0:
		return retryPending
	}
	return keepAlive
}

func (s *Selector) ping(c *candidate, now time.Time, full bool, count int) Ping {
	p := Ping{To: c.addr, Full: full}
	for range count {
		id := s.random()
		p.IDs = append(p.IDs, id)
		s.pings[id] = sent{to: c, at: now, full: full, train: count > 1}
	}
	if full {
		c.full = now
	}
	if c.missed == 0 {
		c.first = now
		if late := c.owed.Add(heartbeat); !c.owed.IsZero() && late.Before(now) {
			c.first = late
		}
	}
	c.missed++
	return p
}

// Pong takes the answer to a ping. It reports whether we asked for it.
func (s *Selector) Pong(now time.Time, id uint64) bool {
	p, ok := s.pings[id]
	if !ok {
		return false
	}
	delete(s.pings, id)
	c := p.to
	c.answer(now, now.Sub(p.at))
	if c == s.current {
		s.stale = false
		if s.use == Quiet {
			c.next = p.at.Add(quietly)
		}
	}
	switch {
	case p.train:
		c.trial.arrived++
		c.state = proven
	case p.full:
		c.trial.single = true
		c.state = proven
	case c.state == unknown || c.state == narrow && now.After(c.retryFull):
		c.state = reachable
	}
	if c.state == reachable && !c.trial.running() {
		c.trial = trial{step: 1, until: now}
	}
	s.choose(now)
	return true
}
