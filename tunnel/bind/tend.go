package bind

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/tunnel/probe"
)

// tendRelay opens a stream to p when packets need one, asks whether it lives,
// and closes it when it does not or is of no use any more.
func (b *Bind) tendRelay(ctx context.Context, group *errgroup.Group, p *Peer, used bool) {
	now := b.now()
	p.mu.Lock()
	wants := p.selector.WantsRelay(time.Now())
	s := p.relay.out
	open := wants && s == nil && !p.relay.opening && now >= p.relay.next && b.cfg.Relay != nil
	if open {
		p.relay.opening = true
	}
	callAgain := s != nil && wants && time.Since(p.lastCall) > callEvery
	p.mu.Unlock()
	switch {
	case open:
		group.Go(func() error {
			b.openRelay(ctx, p)
			return nil
		})
	case s == nil:
	case s.dead(now):
		b.cfg.Log.Info("relay stream does not answer; closing it", "peer", p.id)
		if c, is := s.conn.(interface{ Silent() }); is {
			c.Silent()
		}
		s.close()
	case s.mine && now-time.Duration(s.used.Load()) > relayIdle:
		s.close()
	case used && wants && s.pingDue(now):
		b.pingRelay(s, now)
	}
	if callAgain {
		b.call(p)
	}
}

// openRelay opens a stream and serves it to its end.
func (b *Bind) openRelay(ctx context.Context, p *Peer) {
	defer func() {
		p.mu.Lock()
		p.relay.opening = false
		p.mu.Unlock()
	}()
	conn, err := b.cfg.Relay.Open(ctx, p.id)
	if err != nil {
		p.mu.Lock()
		p.relay.retry = min(max(2*p.relay.retry, firstRetry), latestRetry)
		p.relay.next = b.now() + p.relay.retry
		p.mu.Unlock()
		if ctx.Err() == nil {
			b.cfg.Log.Debug("no relay stream", "peer", p.id, "err", err)
		}
		return
	}
	p.mu.Lock()
	p.relay.opening, p.relay.retry = false, 0
	p.relay.next = b.now() + firstRetry
	p.mu.Unlock()
	b.cfg.Log.Info("packets go over a relay stream", "peer", p.id)
	if err := b.serve(ctx, p, conn, true); err != nil {
		b.cfg.Log.Debug("relay stream ended", "peer", p.id, "err", err)
	}
}

// pingRelay asks whether the stream lives; the answer confirms the session of
// the peer's probes, too.
func (b *Bind) pingRelay(s *stream, now time.Duration) {
	id := random()
	s.mu.Lock()
	s.asked, s.askedAt = id, now
	s.mu.Unlock()
	for _, k := range s.peer.current() {
		b.sendProbe(k, probe.Message{Kind: probe.Ping, ID: id}, netip.AddrPort{}, s)
	}
}

func (s *stream) pingDue(now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked == 0 && now-s.askedAt >= relayPing
}

// answered takes the answer to a ping, and reports whether we asked.
func (s *stream) answered(id uint64, now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id != s.asked || s.asked == 0 {
		return false
	}
	s.rtt, s.asked = now-s.askedAt, 0
	return true
}

// dead reports whether the last ping was in vain.
func (s *stream) dead(now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked != 0 && now-s.askedAt > relayDead
}

func (s *stream) trip() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rtt
}
