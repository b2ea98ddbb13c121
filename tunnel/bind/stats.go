package bind

import (
	"net/netip"
	"time"
)

// Stats is what is known of one peer's packets.
type Stats struct {
	ID             NodeID
	Direct         netip.AddrPort // zero: no direct path
	Relay          bool           // packets go over a stream, too or only
	RTT            time.Duration  // of the path; zero: not known
	Sent, Received uint64         // bytes by UDP
	RelaySent      uint64         // bytes over streams
	RelayReceived  uint64
	RelayDropped   uint64  // packets
	SendErrors     uint64  // of the socket
	Handshakes     uint64  // whose sessions the peer used
	LossOut        float64 // share of direct packets of late that the peer missed
	LossIn         float64 // and that we missed
	InUse          bool
}

// Stats returns what is known of each peer, in no order.
func (b *Bind) Stats() []Stats {
	now := b.now()
	var all []Stats
	for _, p := range b.peers.Load().byID {
		r := p.route.Load()
		s := Stats{
			ID: p.id, Direct: r.direct, InUse: p.inUse(now),
			Sent: p.sentBytes.Load(), Received: p.receivedBytes.Load(),
			RelaySent: p.relaySentBytes.Load(), RelayReceived: p.relayReceivedBytes.Load(),
			RelayDropped: p.relayDropped.Load(), SendErrors: p.sendErrors.Load(), Handshakes: p.handshakes.Load(),
		}
		s.LossIn = share(p.meter.counts())
		reported := p.reported.Load()
		s.LossOut = share(uint32(reported>>32), uint32(reported))
		p.mu.Lock()
		s.RTT = p.selector.RTT()
		out := p.relay.out
		p.mu.Unlock()
		if s.Relay = r.relay && out != nil; s.Relay && !r.direct.IsValid() {
			s.RTT = out.trip()
		}
		all = append(all, s)
	}
	return all
}

// Dropped counts what came to the mesh port in vain: WireGuard packets from
// addresses that no peer has proven, probes that no peer made, and the rest.
func (b *Bind) Dropped() (strangers, forged, unknown uint64) {
	return b.dropped.stranger.Load(), b.dropped.forged.Load(), b.dropped.unknown.Load()
}
