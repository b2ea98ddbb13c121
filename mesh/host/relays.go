package host

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-mesh/holdfast/mesh/record"
)

const (
	reservationTTL = time.Hour
	places         = 2 // reservations to hold, if there are as many relays
)

// Relays tells whether this node takes itself for one that all can reach. Its
// record should say so.
func (h *Host) Relays() bool {
	switch h.cfg.Relay {
	case RelayYes:
		return true
	case RelayNever:
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.cfg.Advertise) > 0 || h.reach.at.IsValid()
}

// relays returns the members that relay and that we are connected to directly.
func (h *Host) relays(p host.Host) (ids []peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, k := range h.peers {
		if direct, _ := paths(p, id); direct && k.relay {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// reserve asks relays for places, so that who cannot reach us directly can
// through them.
func (h *Host) reserve(ctx context.Context, p host.Host, work *sync.WaitGroup) {
	if h.Relays() {
		return
	}
	relays := h.relays(p)
	h.mu.Lock()
	defer h.mu.Unlock()
	held := 0
	for _, id := range relays {
		if k := h.peers[id]; k != nil && k.holds(p, id) {
			held++
		}
	}
	for _, id := range relays {
		k := h.peers[id]
		if held >= places || k == nil || k.busy || k.holds(p, id) {
			continue
		}
		held++
		k.busy = true
		work.Go(func() { h.reserveAt(ctx, p, id) })
	}
}

// holds tells whether the place at a relay is still ours: it goes with the
// connection.
func (k *known) holds(p host.Host, id peer.ID) bool {
	if time.Since(k.reserved) > reservationTTL/2 || !slices.Contains(p.Network().ConnsToPeer(id), k.through) {
		k.reserved, k.through = time.Time{}, nil
	}
	return k.through != nil
}

func (h *Host) reserveAt(ctx context.Context, p host.Host, id peer.ID) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var through network.Conn
	for _, c := range p.Network().ConnsToPeer(id) {
		if !relayed(c) {
			through = c
		}
	}
	_, err := client.Reserve(ctx, p, peer.AddrInfo{ID: id})
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.peers[id]
	if k == nil {
		return
	}
	if k.busy = false; err != nil {
		h.cfg.Log.Debug("no place at a relay", "node", id, "err", err)
		return
	}
	k.reserved, k.through = time.Now(), through
}

// Addrs returns where this node can be reached, as far as it knows by itself.
func (h *Host) Addrs() []record.Addr {
	p, err := h.now()
	if err != nil {
		return nil
	}
	var all []record.Addr
	add := func(m ma.Multiaddr, o record.Origin) {
		a := record.Addr{Text: m.String(), Origin: o}
		if len(all) < record.MaxAddrs && !slices.ContainsFunc(all, func(b record.Addr) bool { return b.Text == a.Text }) {
			all = append(all, a)
		}
	}
	for _, end := range h.cfg.Advertise {
		for _, text := range listenAt(netip.AddrPortFrom(end.Addr().Unmap(), end.Port())) {
			add(ma.StringCast(text), record.Advertised)
		}
	}
	h.mu.Lock()
	outside := h.reach.at
	h.mu.Unlock()
	if outside.IsValid() {
		for _, text := range listenAt(outside) {
			add(ma.StringCast(text), record.Observed)
		}
	}
	listening, err := p.Network().InterfaceListenAddresses()
	if err != nil || h.cfg.Simulated {
		return all
	}
	elsewhere := slices.ContainsFunc(listening, func(m ma.Multiaddr) bool { return ipOf(m).IsGlobalUnicast() })
	for _, m := range listening {
		if ip := ipOf(m); ip.IsGlobalUnicast() || ip.IsLoopback() && !elsewhere {
			add(m, record.Interface)
		}
	}
	return all
}

// WireGuard is the protocol of streams that carry packets of the tunnel.
const WireGuard = "/holdfast/wg/1"

// Carry opens a stream for packets of the tunnel: what its relay does. It can be told that
// nothing comes any more, by a method Silent.
func (h *Host) Carry(ctx context.Context, node string) (io.ReadWriteCloser, error) {
	s, err := h.openStream(ctx, node, WireGuard)
	if err != nil {
		return nil, opening(ctx, WireGuard, node, err)
	}
	return packetStream{s, h}, nil
}
