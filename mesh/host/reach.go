package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multistream"

	"github.com/holdfast-mesh/holdfast/mesh/frame"
)

// reachProtocol asks a member to call back, by TCP, at the address it sees us
// at: whether that works nobody can find out alone.
const reachProtocol = "/holdfast/reach/1"

type (
	reachRequest struct {
		Port uint16 `cbor:"1,keyasint"` // of TCP
	}
	reachAnswer struct {
		Seen    string `cbor:"1,keyasint"` // our IP address
		Reached bool   `cbor:"2,keyasint,omitempty"`
	}
)

const (
	reachTime  = 10 * time.Second // for one call
	reachPause = time.Minute      // between calls back to one member
	reachAgain = 15 * time.Second // until we ask again if we were not answered
	reachSoon  = 5 * time.Minute  // the same if we cannot be reached
	reachLate  = time.Hour        // the same if we can
)

// reach is what a host knows of whether it can be reached; its mutex guards it.
type reach struct {
	at    netip.AddrPort // where a member could, from outside; zero: nowhere
	next  time.Time      // of the next question
	asked int            // members, so that it is not always the same one

	mu     sync.Mutex
	called map[string]time.Time // when we last called whom back
}

// callBack answers a member that wants to know whether it can be reached. It
// calls no other address than the one that the member is at.
func (h *Host) callBack(ctx context.Context, in Inbound) {
	in.SetDeadline(time.Now().Add(2 * reachTime))
	var q reachRequest
	if err := frame.Read(in, 64, &q); err != nil || !in.From.IsValid() || !h.reach.may(in.Node) {
		in.Reset()
		return
	}
	err := h.call(ctx, in.Node, netip.AddrPortFrom(in.From, q.Port))
	h.cfg.Log.Debug("called a member back", "node", in.Node, "at", in.From, "port", q.Port, "err", err)
	frame.Write(in, reachAnswer{in.From.String(), err == nil})
}

// may tells whether it is time to call a member back.
func (r *reach) may(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for other, at := range r.called {
		if now.Sub(at) > reachPause {
			delete(r.called, other)
		}
	}
	if _, recently := r.called[node]; recently {
		return false
	}
	r.called[node] = now
	return true
}

// call opens a new connection of TCP to a node, has it prove who it is, and
// closes it: somebody else may sit at that port.
func (h *Host) call(ctx context.Context, node string, at netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	id, err := peer.Decode(node)
	if err != nil {
		return err
	}
	key, err := crypto.UnmarshalEd25519PrivateKey(h.cfg.Key)
	if err != nil {
		return err
	}
	security, err := noise.New(noise.ID, key, nil)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(reachTime))
	if err := multistream.SelectProtoOrFail(protocol.ID(noise.ID), conn); err != nil {
		return err
	}
	_, err = security.SecureOutbound(ctx, conn, id)
	return err
}

// findOut asks a member whether we can be reached from outside, if it is time.
func (h *Host) findOut(ctx context.Context, p host.Host, work *sync.WaitGroup) {
	if h.cfg.Relay != RelayAuto || len(h.cfg.Advertise) > 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.reach.next) {
		return
	}
	var direct []peer.ID
	for id := range h.peers {
		if d, _ := paths(p, id); d {
			direct = append(direct, id)
		}
	}
	port := tcpPort(p)
	if len(direct) == 0 || port == 0 {
		return
	}
	h.reach.next = time.Now().Add(2 * reachTime)
	h.reach.asked++
	id := direct[h.reach.asked%len(direct)]
	work.Go(func() {
		at, err := h.ask(ctx, id.String(), port)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.reach.next = time.Now().Add(reachSoon); err != nil {
			h.reach.next = time.Now().Add(reachAgain)
			h.cfg.Log.Debug("whether others reach us is not known", "node", id, "err", err)
			return
		}
		if h.reach.at = at; at.IsValid() {
			h.reach.next = time.Now().Add(reachLate)
		}
	})
}

// ask returns where a node can reach us, if that is an address for all: one
// that only a neighbour can use says nothing about others.
func (h *Host) ask(ctx context.Context, node string, port uint16) (netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*reachTime)
	defer cancel()
	s, err := h.Open(network.WithNoDial(ctx, "reach"), node, reachProtocol)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(2 * reachTime))
	if err := frame.Write(s, reachRequest{port}); err != nil {
		return netip.AddrPort{}, err
	}
	var a reachAnswer
	if err := frame.Read(s, 256, &a); err != nil {
		return netip.AddrPort{}, err
	}
	ip, err := netip.ParseAddr(a.Seen)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("it sees us at %q: %w", a.Seen, errors.Unwrap(err))
	}
	m, err := manet.FromIP(ip.AsSlice())
	if err != nil || !a.Reached || !manet.IsPublicAddr(m) {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(ip, port), nil
}

func tcpPort(p host.Host) uint16 {
	for _, m := range p.Network().ListenAddresses() {
		if v, err := m.ValueForProtocol(ma.P_TCP); err == nil {
			n, _ := strconv.ParseUint(v, 10, 16)
			return uint16(n)
		}
	}
	return 0
}
