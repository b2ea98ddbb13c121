package path

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// A world answers pings of a selector, after the round trip of their address.
type world struct {
	t       *testing.T
	s       *Selector
	now     time.Time
	use     Use
	offload bool
	rtt     map[string]time.Duration // answers by address; none: no answer
	narrow  map[string]bool          // full pings are not answered
	trains  bool                     // trains arrive
	due     []answer
	sent    int
	full    int // of those
}

type answer struct {
	id uint64
	at time.Time
}

func newWorld(t *testing.T) *world {
	id := uint64(0)
	w := &world{t: t, now: time.Unix(1e9, 0), use: Busy, offload: true, trains: true,
		rtt: map[string]time.Duration{}, narrow: map[string]bool{}}
	w.s = New(func() uint64 { id++; return id })
	return w
}

// run lets so much time pass, in steps of a tenth of a second.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(10 * time.Millisecond) {
		w.due = slices.DeleteFunc(w.due, func(a answer) bool {
			if a.at.After(w.now) {
				return false
			}
			w.s.Pong(w.now, a.id)
			return true
		})
		if w.now.UnixMilli()%100 == 0 {
			for _, p := range w.s.Tick(w.now, w.use, w.offload) {
				w.ping(p)
			}
		}
	}
}

func (w *world) ping(p Ping) {
	w.sent += len(p.IDs)
	if p.Full {
		w.full += len(p.IDs)
	}
	rtt, ok := w.rtt[p.To.String()]
	if !ok || p.Full && w.narrow[p.To.String()] || len(p.IDs) > 1 && !w.trains {
		return
	}
	for _, id := range p.IDs {
		w.due = append(w.due, answer{id, w.now.Add(rtt)})
	}
}

func (w *world) want(direct string, doubt bool) {
	w.t.Helper()
	want := Route{Doubt: doubt}
	if direct != "" {
		want.Direct = netip.MustParseAddrPort(direct)
	}
	if got := w.s.Route(w.now); got != want {
		w.t.Errorf("the route is %+v, want %+v", got, want)
	}
}

func (w *world) candidates(source Source, addrs ...string) {
	var all []netip.AddrPort
	for _, a := range addrs {
		all = append(all, netip.MustParseAddrPort(a))
	}
	w.s.SetCandidates(w.now, source, all)
}

const here, there = "192.0.2.1:1", "192.0.2.2:2"

func TestFirstProvenPathIsTaken(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here, there)
	w.rtt[there] = 30 * time.Millisecond
	w.run(time.Second)
	w.want(there, false)
}

func TestSilenceIsDoubtAndThenLoss(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.rtt[here] = 10 * time.Millisecond
	w.run(5 * time.Second)
	w.want(here, false)
	delete(w.rtt, here)
	w.run(800 * time.Millisecond)
	w.want(here, false)
	w.run(800 * time.Millisecond)
	w.want(here, true)
	if !w.s.WantsRelay(w.now) {
		t.Error("a path in doubt asks for no relay")
	}
	w.run(2 * time.Second)
	w.want("", false)
	w.rtt[here] = 10 * time.Millisecond
	w.run(2500 * time.Millisecond)
	w.want(here, false)
}

func TestOneLostPingIsNoDoubt(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.rtt[here] = 10 * time.Millisecond
	w.run(5 * time.Second)
	delete(w.rtt, here)
	w.run(heartbeat)
	w.rtt[here] = 10 * time.Millisecond
	for range 10 {
		w.run(100 * time.Millisecond)
		w.want(here, false)
	}
}

func TestPathWithBlackHoleForLargePacketsIsNotTaken(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.rtt[here], w.narrow[here] = 10*time.Millisecond, true
	w.run(20 * time.Second)
	w.want("", false)
	if !w.s.WantsRelay(w.now) {
		t.Error("no relay is asked for")
	}
	w.narrow[here] = false
	w.run(2 * retryIdle)
	w.want(here, false)
}

func TestBlackHoleThatOpensLaterEndsThePath(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.rtt[here] = 10 * time.Millisecond
	w.run(5 * time.Second)
	w.narrow[here] = true
	w.run(5 * time.Second)
	w.want("", false)
}

func TestFasterPathIsTakenLater(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here, there)
	w.rtt[here] = 50 * time.Millisecond
	w.run(5 * time.Second)
	w.want(here, false)
	w.rtt[there] = 45 * time.Millisecond
	w.run(3 * retryBetter)
	w.want(here, false) // not worth it
	w.rtt[there] = 10 * time.Millisecond
	w.run(20 * retryBetter)
	w.want(there, false)
}

func TestPrivateNetworkIsPreferred(t *testing.T) {
	const private = "192.168.1.9:51820"
	w := newWorld(t)
	w.candidates(Configured, here, private)
	w.rtt[here], w.rtt[private] = 2*time.Millisecond, 2*time.Millisecond
	w.run(5 * time.Second)
	w.want(private, false)
}

func TestRestartDoubtsAndFindsAgain(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here, there)
	w.rtt[here] = 10 * time.Millisecond
	w.run(5 * time.Second)
	w.s.Restart(w.now)
	w.want(here, true)
	delete(w.rtt, here)
	w.rtt[there] = 20 * time.Millisecond
	w.run(5 * time.Second)
	w.want(there, false)
}

func TestIdlePathCostsLittleAndIsKept(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.rtt[here] = 10 * time.Millisecond
	w.run(5 * time.Second)
	w.use, w.sent = Idle, 0
	w.run(10 * time.Minute)
	w.want(here, true) // true: the first packet asks again
	if most := int(10*time.Minute/keepAlive) + 2; w.sent > most || w.sent < most/2 {
		t.Errorf("%d pings in ten minutes, want about %d", w.sent, most)
	}
	w.use = Busy
	w.run(200 * time.Millisecond)
	w.want(here, false)
}

func TestTheEndThatHearsPingsSendsNone(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.rtt[here] = 10 * time.Millisecond
	w.run(5 * time.Second)
	w.use, w.sent = Idle, 0
	w.run(time.Second)
	w.sent = 0
	for range 20 {
		w.s.Heard(w.now, netip.MustParseAddrPort(here))
		w.run(keepAlive)
	}
	if w.sent > 0 {
		t.Errorf("%d pings, want none", w.sent)
	}
}

func TestIdlePathThatDiesIsLeft(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.rtt[here] = 10 * time.Millisecond
	w.run(5 * time.Second)
	w.use = Idle
	delete(w.rtt, here)
	w.run(2 * time.Minute)
	w.want("", false)
}

func TestBrokenOffloadIsFound(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.rtt[here], w.trains = 10*time.Millisecond, false
	w.run(5 * time.Second)
	w.want(here, false) // single datagrams arrive
	if !w.s.OffloadBroken() {
		t.Error("trains never arrive, and nobody noticed")
	}
}

func TestWorkingOffloadIsNotBlamed(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here, there)
	w.rtt[here] = 10 * time.Millisecond
	w.rtt[there], w.narrow[there] = 10*time.Millisecond, true
	w.run(time.Minute)
	if w.s.OffloadBroken() {
		t.Error("trains arrive, and are said to be broken")
	}
}

func TestUnknownAnswersAreNotBelieved(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.run(time.Second)
	if w.s.Pong(w.now, 1<<40) {
		t.Error("an answer that nobody asked for was taken")
	}
	w.want("", false)
}

func TestCandidatesAreBounded(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	for i := range 1000 {
		w.s.Add(w.now, Reflexive, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), uint16(i+1)))
	}
	if n := len(w.s.Candidates()); n > MaxCandidates {
		t.Errorf("%d candidates, want at most %d", n, MaxCandidates)
	}
	if !slices.Contains(w.s.Candidates(), netip.MustParseAddrPort(here)) {
		t.Error("what was only seen pushed out what was configured")
	}
}

func TestRelayIsNotAskedBeforeUDPHadAChance(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.run(100 * time.Millisecond)
	if w.s.WantsRelay(w.now) {
		t.Error("a relay is asked for at once")
	}
	w.run(400 * time.Millisecond)
	if !w.s.WantsRelay(w.now) {
		t.Error("no relay is asked for")
	}
}

func TestQuietPathCostsLittle(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.rtt[here] = 10 * time.Millisecond
	w.run(5 * time.Second)
	w.use, w.sent, w.full = Quiet, 0, 0
	looks := 0
	for range 600 {
		w.run(time.Second)
		w.want(here, false)
		if !w.s.Next(w.now).After(w.now) {
			looks++
		}
	}
	if most := int(10*time.Minute/quietly) + 2; w.sent > most || w.sent < most/2 {
		t.Errorf("%d pings in ten minutes, want about %d", w.sent, most)
	}
	if most := int(10*time.Minute/fullEvery) + 2; w.full > most || w.full < most/2 {
		t.Errorf("%d full pings in ten minutes, want about %d", w.full, most)
	}
	if looks > 100 {
		t.Errorf("there was something to do in %d of 600 seconds, want one in ten", looks)
	}
}

// A path that carries little is left as soon as one that carries much, if what
// goes out is not answered.
func TestQuietPathThatOwesAnAnswer(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.rtt[here] = 10 * time.Millisecond
	w.run(5 * time.Second)
	w.use = Quiet
	w.run(5 * time.Second)

	w.s.Suspect(w.now, w.now.Add(-time.Second)) // the answer was only late
	w.run(500 * time.Millisecond)
	w.want(here, false)
	if next := w.s.Next(w.now).Sub(w.now); next < quietly/2 {
		t.Errorf("after an answer the next ping is in %v, want about %v", next, quietly)
	}

	delete(w.rtt, here)
	sent := w.now
	w.run(time.Second)
	w.s.Suspect(w.now, sent)
	w.run(sent.Add(1600 * time.Millisecond).Sub(w.now))
	w.want(here, true)
	if !w.s.WantsRelay(w.now) {
		t.Error("no relay is asked for")
	}
	w.run(sent.Add(3200 * time.Millisecond).Sub(w.now))
	w.want("", false)
	w.rtt[here] = 10 * time.Millisecond
	w.run(2500 * time.Millisecond)
	w.want(here, false)
}

// Without any sign a quiet path that died is left all the same, and so is one
// where only large packets are lost.
func TestQuietPathThatDies(t *testing.T) {
	for _, large := range []bool{false, true} {
		w := newWorld(t)
		w.candidates(Configured, here)
		w.rtt[here] = 10 * time.Millisecond
		w.run(5 * time.Second)
		w.use = Quiet
		w.run(5 * time.Second)
		if w.narrow[here] = large; !large {
			delete(w.rtt, here)
		}
		w.run(fullEvery + quietly + 5*time.Second)
		w.want("", false)
	}
}

// Where packets arrive in one direction only, the end that knows asks, and the
// other asks back.
func TestQuietPathIsAskedBack(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.rtt[here] = 10 * time.Millisecond
	w.run(5 * time.Second)
	w.use = Quiet
	w.run(5 * time.Second)
	w.sent = 0
	for range 10 {
		w.s.Heard(w.now, netip.MustParseAddrPort(here))
		w.run(100 * time.Millisecond)
	}
	if w.sent != 1 {
		t.Errorf("%d pings back, want 1", w.sent)
	}
	delete(w.rtt, here)
	w.run(3 * time.Second)
	w.s.Heard(w.now, netip.MustParseAddrPort(here))
	w.run(1600 * time.Millisecond)
	w.want(here, true)
}

// Who is alone with little to say does not call out for ever at full speed.
func TestQuietSearchSlowsDown(t *testing.T) {
	w := newWorld(t)
	w.candidates(Configured, here)
	w.use = Quiet
	w.run(2 * searchTime)
	w.sent = 0
	w.run(10 * time.Minute)
	if most := int(10*time.Minute/retryQuiet) + 1; w.sent > most {
		t.Errorf("%d pings in ten minutes, want %d", w.sent, most)
	}
	w.use = Busy
	w.rtt[here] = 10 * time.Millisecond
	w.run(retryLost + time.Second)
	w.want(here, false)
}
