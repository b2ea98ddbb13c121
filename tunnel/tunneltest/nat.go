package tunneltest

import (
	"net/netip"
	"slices"
	"time"
)

// A Kind is how a NAT chooses ports.
type Kind int

const (
	// Preserving NATs keep the port, the same for all destinations, so that
	// two of them can be crossed by sending from both sides.
	Preserving Kind = iota
	// Symmetric NATs take another port for each destination, so that nobody
	// can know the port that will be used for him.
	Symmetric
)

// forgets is how long a NAT remembers a mapping that is not used.
const forgets = 30 * time.Second

// A NAT hides hosts behind one public address. It lets a packet in only from
// an address that one was sent to.
type NAT struct {
	kind  Kind
	net   *Network
	outer netip.Addr
	maps  map[uint16]*mapping // by outer port; guarded by net.mu
	next  uint16
}

type inner struct {
	host *Host
	port uint16
}

type mapping struct {
	inner
	to   netip.AddrPort // of a symmetric NAT
	sent map[netip.AddrPort]time.Time
}

// NAT adds a NAT with a public address.
func (n *Network) NAT(kind Kind, outer string) *NAT {
	return &NAT{kind: kind, net: n, outer: netip.MustParseAddr(outer), maps: map[uint16]*mapping{}, next: 20_000}
}

// Forget drops all mappings, as when the router restarts.
func (t *NAT) Forget() {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	clear(t.maps)
}

// outward returns the outer port for a packet.
func (t *NAT) outward(from inner, to netip.AddrPort) uint16 {
	now := time.Now()
	for port, m := range t.maps {
		if m.inner == from && (t.kind == Preserving || m.to == to) {
			m.sent[to] = now
			return port
		}
	}
	port := from.port
	for t.kind == Symmetric || t.maps[port] != nil {
		t.next++
		if port = t.next; t.maps[port] == nil {
			break
		}
	}
	t.maps[port] = &mapping{from, to, map[netip.AddrPort]time.Time{to: now}}
	return port
}

// inward returns who a packet is for, if it is let in.
func (t *NAT) inward(port uint16, from netip.AddrPort) (inner, bool) {
	m := t.maps[port]
	if m == nil {
		return inner{}, false
	}
	at, ok := m.sent[from]
	if !ok || time.Since(at) > forgets {
		return inner{}, false
	}
	m.sent[from] = time.Now()
	return m.inner, true
}

// route returns the host that dst leads to from a host, nil if there is none,
// and the source address as seen there; n.mu is held.
func (n *Network) route(from *Host, src, dst netip.AddrPort) (netip.AddrPort, *Host) {
	if !slices.Contains(from.addresses, src.Addr()) {
		return src, nil // the address is gone
	}
	if from.nat != nil {
		for _, h := range n.hosts { // the same side of the same NAT
			if h.nat == from.nat && slices.Contains(h.addresses, dst.Addr()) {
				return src, h
			}
		}
		src = netip.AddrPortFrom(from.nat.outer, from.nat.outward(inner{from, src.Port()}, dst))
	}
	for _, h := range n.hosts {
		switch {
		case h.nat == nil && slices.Contains(h.addresses, dst.Addr()):
			return src, h
		case h.nat != nil && h.nat.outer == dst.Addr() && h.nat != from.nat:
			if m := h.nat.maps[dst.Port()]; m != nil {
				return src, m.host
			}
		}
	}
	return src, nil
}
