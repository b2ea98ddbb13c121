package bind

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel/path"
	"github.com/holdfast-mesh/holdfast/tunnel/probe"
)

const (
	// mostStale bounds answers to probes that may be recordings, per peer and
	// second.
	mostStale = 20

	callEvery = 30 * time.Second // while packets go over a relay
	callSoon  = 3 * time.Second  // between answers to calls
)

// handleProbe opens and answers a probe, which came over s if that is not nil,
// and else from an address. What no peer made costs no more than a look-up and
// a failed decryption.
func (b *Bind) handleProbe(m, scratch []byte, from netip.AddrPort, s *stream) {
	name, ok := probe.NameOf(m)
	if !ok {
		b.dropped.forged.Add(1)
		return
	}
	k := b.peers.Load().byName[name]
	if k == nil || s != nil && s.peer != k.peer {
		b.dropped.forged.Add(1)
		return
	}
	o, err := k.Open(scratch, m)
	if err != nil {
		b.dropped.forged.Add(1)
		return
	}
	switch o.Kind {
	case probe.Ping:
		b.handlePing(k, o, from, s)
	case probe.Pong:
		b.handlePong(k, o, from, s)
	case probe.Call:
		if o.Fresh || s != nil { // a stream replays nothing
			b.handleCall(k.peer, o.Candidates)
		}
	}
}

// handlePing answers. A ping that may be a recording proves nothing, but is a
// reason to ask its address.
func (b *Bind) handlePing(k *keyed, o probe.Opened, from netip.AddrPort, s *stream) {
	p := k.peer
	if !o.Fresh && s == nil && !p.stale.allow(b.now(), mostStale) {
		return
	}
	got, lost := p.meter.counts()
	b.sendProbe(k, probe.Message{Kind: probe.Pong, ID: o.ID, Seen: from, Got: got, Lost: lost}, from, s)
	if o.Fresh {
		p.reported.Store(uint64(o.Got)<<32 | uint64(o.Lost))
		b.cfg.UsesKey(p.id, k.theirs)
	}
	if s != nil {
		return
	}
	if o.Fresh {
		b.admitFrom(p, from, false)
	}
	p.mu.Lock()
	p.selector.Add(time.Now(), path.Reflexive, from)
	if o.Fresh {
		p.selector.Heard(time.Now(), from)
	}
	p.mu.Unlock()
	b.look(p)
}

// handlePong takes an answer: the only proof that a path works.
func (b *Bind) handlePong(k *keyed, o probe.Opened, from netip.AddrPort, s *stream) {
	p := k.peer
	if s != nil {
		if s.answered(o.ID, b.now()) {
			k.Confirm(o.Session)
		}
		return
	}
	p.mu.Lock()
	ours := p.selector.Pong(time.Now(), o.ID)
	p.mu.Unlock()
	if !ours {
		return
	}
	p.owed.Store(0)
	k.Confirm(o.Session)
	p.reported.Store(uint64(o.Got)<<32 | uint64(o.Lost))
	b.admitFrom(p, from, true)
	if b.observed.note(p.id, o.Seen) {
		b.callAll()
	}
	b.look(p)
}

// handleCall takes the addresses of a peer, and answers with ours.
func (b *Bind) handleCall(p *Peer, candidates []netip.AddrPort) {
	now := time.Now()
	p.mu.Lock()
	p.selector.SetCandidates(now, path.Called, candidates)
	p.selector.Prod(now)
	answer := now.Sub(p.lastCall) > callSoon
	p.mu.Unlock()
	if answer {
		b.call(p)
	}
	b.look(p)
}

// call tells p where we can be reached, by every way that it may hear us.
func (b *Bind) call(p *Peer) {
	m := probe.Message{Kind: probe.Call, Candidates: b.Candidates()}
	p.mu.Lock()
	p.lastCall = time.Now()
	s := p.relay.out
	p.mu.Unlock()
	direct := p.route.Load().direct
	for _, k := range p.current() {
		if s != nil {
			b.sendProbe(k, m, netip.AddrPort{}, s)
		}
		if direct.IsValid() {
			b.sendProbe(k, m, direct, nil)
		}
	}
}

// callAll tells all peers in use that our addresses changed.
func (b *Bind) callAll() {
	for _, p := range b.peers.Load().byID {
		if p.awake.Load() {
			b.call(p)
		}
	}
}

// current returns the pairs with keys of ours that are in use. Probes go out by
// each: a peer that hears us by the old key, too, need not hurry to the new one.
func (p *Peer) current() []*keyed {
	return slices.DeleteFunc(slices.Clone(*p.pairs.Load()), func(k *keyed) bool { return !k.live.Load() })
}

func (b *Bind) sendProbe(k *keyed, m probe.Message, to netip.AddrPort, s *stream) {
	sealed := k.Seal(nil, m)
	if s != nil {
		s.push(sealed)
		return
	}
	b.sendRaw([][]byte{sealed}, to)
}

func (b *Bind) sendRaw(bufs [][]byte, to netip.AddrPort) {
	if s := b.socket.Load(); s != nil {
		_ = (*s).Send(bufs, to) // a probe that is lost is a probe without answer
	}
}

// sendPings sends what the selector asks for. Which of its keys a peer uses is
// not known for sure while it changes them, so each gets its ping.
func (b *Bind) sendPings(p *Peer, pings []path.Ping) {
	got, lost := p.meter.counts()
	for _, ping := range pings {
		for _, k := range p.current() {
			var bufs [][]byte
			for _, id := range ping.IDs {
				m := probe.Message{Kind: probe.Ping, ID: id, Got: got, Lost: lost}
				if ping.Full {
					m.Size = int(p.mtu.Load()) + wireGuardOverhead - probe.Overhead
				}
				bufs = append(bufs, k.Seal(nil, m))
			}
			b.sendRaw(bufs, ping.To)
		}
	}
}

// observed is our own address as peers see it.
type observed struct {
	mu sync.Mutex
	by map[NodeID]netip.AddrPort
}

// note reports whether the address is new to us.
func (o *observed) note(by NodeID, seen netip.AddrPort) bool {
	if !seen.IsValid() {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	known := false
	for _, a := range o.by {
		known = known || a == seen
	}
	o.by[by] = seen
	return !known
}

func (o *observed) forget(by NodeID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.by, by)
}

func (o *observed) forgetAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.by)
}

// all returns each address once, in order.
func (o *observed) all() []netip.AddrPort {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []netip.AddrPort
	for _, a := range o.by {
		all = append(all, a)
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}
