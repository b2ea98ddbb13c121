package host

import (
	"errors"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
)

// strangerTime is how long a stranger may be connected: long enough to join
// through a relay on a bad line.
const strangerTime = 90 * time.Second

// settleTime is how long a connection that was let in may take to be counted.
const settleTime = 3 * time.Second

// A gate decides who is let in, at every step of a connection; it is libp2p's
// gater and the ACL of its relay.
type gate struct{ h *Host }

func (h *Host) member(p peer.ID) bool  { return h.cfg.Roster.Member(p.String()) }
func (h *Host) removed(p peer.ID) bool { return h.cfg.Roster.Removed(p.String()) }

// guest tells whether we dial p although it may be no member.
func (h *Host) guest(p peer.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.guests[p] > 0
}

// mayConnect tells whether there may be a connection to p that we opened, or
// that it opened.
func (h *Host) mayConnect(p peer.ID, inbound bool) bool {
	switch {
	case h.member(p):
		return true
	case h.guest(p):
		return true
	}
	return inbound && h.cfg.Strangers > 0 && !h.removed(p) // the number is counted later
}

func (g *gate) InterceptPeerDial(p peer.ID) bool { return g.h.mayConnect(p, false) }
func (g *gate) InterceptAddrDial(p peer.ID, m ma.Multiaddr) bool {
	return g.h.dials == nil || g.h.dials(p, m)
}
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true } // the limits count it
func (g *gate) AllowReserve(p peer.ID, _ ma.Multiaddr) bool { return g.h.member(p) }
func (g *gate) InterceptSecured(d network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.h.mayConnect(p, d == network.DirInbound)
}

// InterceptUpgraded counts the strangers.
func (g *gate) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	id := c.RemotePeer()
	if g.h.member(id) || g.h.guest(id) {
		return true, 0
	}
	p, err := g.h.now()
	if err != nil {
		return false, 0
	}
	g.h.mu.Lock()
	defer g.h.mu.Unlock()
	from, same := source(c.RemoteMultiaddr()), 0
	for old, s := range g.h.strangers {
		if time.Since(s.since) > settleTime && len(p.Network().ConnsToPeer(old)) == 0 {
			delete(g.h.strangers, old)
		} else if s.from == from && old != id {
			same++
		}
	}
	if len(g.h.strangers) >= g.h.cfg.Strangers || same >= max(g.h.cfg.Strangers/2, 1) {
		return false, 0
	}
	g.h.strangers[id] = stranger{time.Now(), from}
	return true, 0
}

// A stranger was let in to join.
type stranger struct {
	since time.Time
	from  netip.Prefix
}

// source is what one machine has of addresses: one of IPv4, a /56 of IPv6. Who comes by a
// relay shares its.
func source(m ma.Multiaddr) netip.Prefix {
	ip := ipOf(m)
	bits := 56
	if ip.Is4() {
		bits = 32
	}
	from, _ := ip.Prefix(bits) // of no address: none, which is a source too
	return from
}

// AllowConnect lets members reach members through us, and strangers who want
// to join by a member that only we can reach.
func (g *gate) AllowConnect(from peer.ID, _ ma.Multiaddr, to peer.ID) bool {
	return g.h.member(to) && g.h.mayConnect(from, true)
}

var errStranger = errors.New("this protocol is for members")

// mayOpen tells whether p may use a protocol with us.
func (h *Host) mayOpen(p peer.ID, d network.Direction, proto protocol.ID) error {
	switch {
	case h.member(p):
		return nil
	case d == network.DirOutbound && h.guest(p):
		return nil
	case !h.mayConnect(p, d == network.DirInbound) && !h.guest(p):
		return errStranger
	case h.handler[proto].anyone || proto == identify.ID || proto == circuit.ProtoIDv2Hop:
		return nil // libp2p needs to identify; the relay has its own list
	case proto == circuit.ProtoIDv2Stop && h.guest(p):
		return nil
	}
	return errStranger
}

// watched is a resource manager that also asks who opens which protocol: every
// stream passes it, also those of libp2p's own protocols.
type watched struct {
	network.ResourceManager
	h *Host
}

func (w *watched) OpenStream(p peer.ID, d network.Direction) (network.StreamManagementScope, error) {
	s, err := w.ResourceManager.OpenStream(p, d)
	if err != nil {
		return nil, err
	}
	return &watchedStream{s, w.h, p, d}, nil
}

type watchedStream struct {
	network.StreamManagementScope
	h   *Host
	p   peer.ID
	dir network.Direction
}

func (s *watchedStream) SetProtocol(proto protocol.ID) error {
	if err := s.h.mayOpen(s.p, s.dir, proto); err != nil {
		return err
	}
	return s.StreamManagementScope.SetProtocol(proto)
}

// Recheck closes every connection that the roster does not allow any more,
// with all its streams. It is called when the roster changed; without that, it
// happens within a second.
func (h *Host) Recheck() {
	if p, err := h.now(); err == nil {
		h.recheck(p)
		h.nudge()
	}
}

func (h *Host) recheck(p host.Host) {
	now := time.Now()
	for _, c := range p.Network().Conns() {
		id := c.RemotePeer()
		if h.member(id) {
			h.forgetStranger(id)
			continue
		}
		if h.guest(id) || h.stranger(id) && !h.removed(id) && now.Sub(c.Stat().Opened) < strangerTime {
			continue
		}
		h.cfg.Log.Debug("connection closed: not a member", "node", id)
		c.Close()
	}
}

// stranger tells whether p was let in to join. Whoever was let in as a member
// and is none any more is no stranger.
func (h *Host) stranger(p peer.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, is := h.strangers[p]
	return is
}

func (h *Host) forgetStranger(p peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.strangers, p)
}
