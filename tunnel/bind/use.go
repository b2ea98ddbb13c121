package bind

import (
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel/path"
)

const (
	inUse = 10 * time.Second // after the last packet that was not a keepalive

	// busyRate in bytes a second makes a peer busy, for busyFor.
	busyRate = 32 << 10
	busyFor  = 5 * time.Second

	// owes is how long what was sent may go without any packet from the peer:
	// TCP answers at once, but what it answers may have been lost.
	owes = 500 * time.Millisecond

	// A packet of at most acknowledges bytes within answering after one of the
	// peer is an answer of TCP, and is not answered itself.
	acknowledges = wireGuardOverhead + 80
	answering    = 100 * time.Millisecond
)

func (p *Peer) inUse(now time.Duration) bool { return now-time.Duration(p.used.Load()) < inUse }

// use returns how much there is to carry.
func (p *Peer) use(now time.Duration) path.Use {
	switch {
	case !p.inUse(now):
		return path.Idle
	case now < time.Duration(p.busy.Load()):
		return path.Busy
	}
	return path.Quiet
}

// touch notes that the peer is in use.
func (p *Peer) touch(b *Bind, now time.Duration) {
	if p.used.Load() != int64(now) {
		p.used.Store(int64(now))
	}
	if !p.awake.Load() {
		p.awake.Store(true)
		b.wake()
	}
}

// expect notes that the peer is to be heard from directly, after a packet of
// that size.
func (p *Peer) expect(now time.Duration, size int) {
	if size <= acknowledges && now-time.Duration(p.heard.Load()) < answering {
		return
	}
	if p.owed.Load() == 0 {
		p.owed.CompareAndSwap(0, int64(now))
	}
}

// came notes a packet of the peer. One over a stream, where we have a direct
// path, means that the peer has none: that is a reason to ask.
func (p *Peer) came(now time.Duration, direct bool) {
	if !direct {
		p.expect(now, 1<<16)
		return
	}
	if p.heard.Load() != int64(now) {
		p.heard.Store(int64(now))
	}
	if p.owed.Load() != 0 {
		p.owed.Store(0)
	}
}

// weigh finds out whether the peer is busy. Only Run calls it.
func (p *Peer) weigh(now time.Duration) {
	long := now - p.weighed.at
	if long < idleTick/2 {
		return
	}
	carried := p.sentBytes.Load() + p.receivedBytes.Load() + p.relaySentBytes.Load() + p.relayReceivedBytes.Load()
	if float64(carried-p.weighed.carried) > busyRate*long.Seconds() {
		p.busy.Store(int64(now + busyFor))
	}
	p.weighed.at, p.weighed.carried = now, carried
}

// next returns when p is to be looked at again, from now.
func (b *Bind) next(p *Peer) time.Duration {
	for _, k := range *p.pairs.Load() {
		if k.handshake.pending(b.now(), resendUntil) {
			return tick
		}
	}
	at := time.Now()
	p.mu.Lock()
	wait := p.selector.Next(at).Sub(at)
	p.mu.Unlock()
	if owed := time.Duration(p.owed.Load()); owed > 0 && p.route.Load().direct.IsValid() {
		wait = min(wait, owed+owes-b.now())
	}
	return min(max(wait, tick), idleTick)
}
