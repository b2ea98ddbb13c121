package bind

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/tunnel/path"
	"github.com/holdfast-mesh/holdfast/tunnel/probe"
)

const (
	tick         = 100 * time.Millisecond // between looks at peers, at least
	idleTick     = time.Second            // and at most
	addressCheck = 2 * time.Second        // and at the addresses of the host
	overslept    = 4 * time.Second
)

// Run decides about paths until ctx ends; then it has closed all streams and
// none of its goroutines is left. The bind must be open.
func (b *Bind) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		b.decide(ctx, group)
		return nil
	})
	err := group.Wait()
	for _, p := range b.peers.Load().byID {
		p.hangUp()
	}
	b.serving.Wait()
	return err
}

// decide looks at all peers, when it is time and when kicked.
func (b *Bind) decide(ctx context.Context, group *errgroup.Group) {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	addresses, _ := b.cfg.Addresses()
	last := time.Now()
	idleAt, addressesAt := last, last
	for {
		now := time.Now()
		if gap := gapBetween(last, now); gap > overslept {
			b.cfg.Log.Info("the host slept; looking for paths again", "for", gap.Round(time.Second))
			b.Wake()
			b.cfg.Slept(gap)
		}
		last = now
		if now.Sub(addressesAt) >= addressCheck {
			addressesAt = now
			addresses = b.compareAddresses(addresses)
		}
		idle := now.Sub(idleAt) >= idleTick
		if idle {
			idleAt = now
		}
		timer.Reset(b.lookAll(ctx, group, idle))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-b.kick:
		}
	}
}

// gapBetween returns the time between two looks at the clock: the wall's time
// if that went further, because the other clock stands still while the host
// sleeps.
func gapBetween(last, now time.Time) time.Duration {
	return max(now.Sub(last), now.Round(0).Sub(last.Round(0)))
}

// compareAddresses looks for paths again if the host's addresses changed.
func (b *Bind) compareAddresses(before []netip.Addr) []netip.Addr {
	now, err := b.cfg.Addresses()
	if err != nil || slices.Equal(before, now) {
		return before
	}
	b.cfg.Log.Info("the host's addresses changed; looking for paths again", "addresses", now)
	b.observed.forgetAll()
	b.Wake()
	return now
}

// Wake trusts no path until it has proven itself again: after a sleep, or when
// the network changed.
func (b *Bind) Wake() {
	now := time.Now()
	for _, p := range b.peers.Load().byID {
		p.mu.Lock()
		p.selector.Restart(now)
		p.mu.Unlock()
	}
	b.callAll()
	b.wake()
}

// lookAll looks at the peers in use, and at idle ones if idle is set. It
// returns the time until the next look.
func (b *Bind) lookAll(ctx context.Context, group *errgroup.Group, idle bool) time.Duration {
	now, wait := b.now(), idleTick
	for _, p := range b.peers.Load().byID {
		p.weigh(now)
		used := p.inUse(now)
		if used || p.awake.Load() || idle {
			p.awake.Store(used)
			b.look(p)
			b.tendRelay(ctx, group, p, used)
		}
		if used {
			for _, k := range *p.pairs.Load() {
				if again := k.handshake.due(now, p.rtt()); again != nil {
					b.resend(p, again)
				}
			}
			wait = min(wait, b.next(p))
		}
	}
	return wait
}

// unstick sends handshake messages that had to wait for a path.
func (b *Bind) unstick(p *Peer) {
	for _, k := range *p.pairs.Load() {
		if m := k.handshake.unstick(b.now()); m != nil {
			b.resend(p, m)
		}
	}
}

// resend sends a handshake message again, past the notes of Send.
func (b *Bind) resend(p *Peer, m []byte) {
	r := p.route.Load()
	if r.direct.IsValid() {
		b.sendRaw([][]byte{m}, r.direct)
	}
	if r.relay {
		b.sendRelayed(p, [][]byte{m})
	}
}

// look has the selector of p decide, sends the pings that it wants, and makes
// its route the peer's.
func (b *Bind) look(p *Peer) {
	now, at := time.Now(), b.now()
	s := b.socket.Load()
	p.mu.Lock()
	if owed := time.Duration(p.owed.Load()); owed > 0 && at-owed > owes+p.selector.RTT() {
		p.selector.Suspect(now, now.Add(owed-at))
	}
	pings := p.selector.Tick(now, p.use(at), s != nil && (*s).Offload())
	r := p.selector.Route(now)
	next := route{direct: r.Direct, relay: !r.Direct.IsValid() || r.Doubt}
	before := p.route.Load()
	if next != *before {
		p.route.Store(&next)
	}
	broken := p.selector.OffloadBroken()
	p.mu.Unlock()
	b.sendPings(p, pings)
	if before.direct != next.direct {
		b.tellPath(p, next.direct)
		b.unstick(p)
	}
	if broken && s != nil && (*s).Offload() {
		(*s).NoOffload()
		b.cfg.Log.Warn("datagrams sent in trains do not arrive: UDP segmentation offload of this host is broken and now off",
			"peer", p.id, "hint", "set HOLDFAST_NO_UDP_GSO=1 and update the kernel or the network driver")
	}
}

func (b *Bind) tellPath(p *Peer, direct netip.AddrPort) {
	if direct.IsValid() {
		b.cfg.Log.Info("packets go directly", "peer", p.id, "to", direct)
	} else {
		b.cfg.Log.Info("no direct path works", "peer", p.id)
		b.observeAgain()
	}
}

// observeAgain asks a few peers for our address as they see it: a router that
// got another one may be why a path was lost. Peers in use are asked anyway.
func (b *Bind) observeAgain() {
	const few = 3
	asked := 0
	for _, p := range b.peers.Load().byID {
		if p.awake.Load() || !p.route.Load().direct.IsValid() {
			continue
		}
		p.mu.Lock()
		p.selector.Ask(time.Now())
		p.mu.Unlock()
		b.look(p)
		if asked++; asked == few {
			return
		}
	}
}

func (p *Peer) rtt() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.selector.RTT()
}

// Candidates returns the addresses at which peers may reach us.
func (b *Bind) Candidates() []netip.AddrPort {
	local := b.LocalAddr()
	all := slices.Clone(b.cfg.Advertise)
	switch {
	case !local.IsValid():
	case !local.Addr().IsUnspecified():
		all = append(all, local)
	default:
		addresses, _ := b.cfg.Addresses()
		for _, a := range addresses {
			all = append(all, netip.AddrPortFrom(a, local.Port()))
		}
	}
	if m := b.mapped.Load(); m != nil {
		all = append(all, *m...)
	}
	all = append(all, b.observed.all()...)
	var once []netip.AddrPort
	for _, a := range all {
		if !slices.Contains(once, a) && len(once) < min(probe.MaxCandidates, path.MaxCandidates) {
			once = append(once, a)
		}
	}
	return once
}

// Observed returns our own addresses as peers see them.
func (b *Bind) Observed() []netip.AddrPort { return b.observed.all() }

// SetMapped sets the addresses that a gateway forwards to us.
func (b *Bind) SetMapped(addrs []netip.AddrPort) {
	before := b.mapped.Swap(&addrs)
	if before == nil || !slices.Equal(*before, addrs) {
		b.callAll()
	}
}
