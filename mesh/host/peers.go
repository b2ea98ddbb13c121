package host

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

// A Known is what is known of another member.
type Known struct {
	Addrs []string // multiaddresses
	Relay bool     // all can reach it, and it relays
}

// known is the same with what we do about it; the mutex of the host guards it.
type known struct {
	node  string // its ID
	addrs []ma.Multiaddr
	relay bool

	busy     bool          // somebody is at it
	next     time.Time     // of the next attempt
	wait     time.Duration // after that
	failure  error         // of the last attempt
	lastSeen time.Time
	rtt      time.Duration
	measured time.Time

	reserved time.Time    // when we reserved a place at this relay
	through  network.Conn // the connection by which we did

	asked   bool      // it is to be asked whether it is there
	doubted time.Time // since it was silent; zero: it is not
}

const (
	firstWait = 2 * time.Second // after an attempt to connect failed
	mostWait  = 5 * time.Minute // after many
	dialTime  = 15 * time.Second
	aheadTime = 2 * time.Second // that direct addresses have before a relay is asked
	pingEvery = time.Minute
)

// SetPeers says who the other members are and where they can be reached. The
// host keeps a connection to each.
func (h *Host) SetPeers(all map[string]Known) {
	h.mu.Lock()
	before := map[string]*known{}
	for id, p := range h.peers {
		if _, is := all[p.node]; is {
			before[p.node] = p
		} else {
			delete(h.peers, id)
		}
	}
	for node, k := range all {
		p := before[node]
		if p == nil {
			id, err := peer.Decode(node)
			if err != nil || node == h.self {
				continue
			}
			p = &known{node: node}
			h.peers[id] = p
		}
		p.relay = k.Relay
		if addrs := parse(k.Addrs); !slices.EqualFunc(p.addrs, addrs, ma.Multiaddr.Equal) {
			p.addrs, p.next, p.wait = addrs, time.Time{}, 0
		}
	}
	h.mu.Unlock()
	h.Recheck()
}

// parse leaves out what is no multiaddress.
func parse(texts []string) []ma.Multiaddr {
	var all []ma.Multiaddr
	for _, t := range texts {
		if m, err := ma.NewMultiaddr(t); err == nil {
			all = append(all, m)
		}
	}
	return all
}

// nudge has the host look at its peers now.
func (h *Host) nudge() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// tend keeps connections and reservations until ctx ends, and waits for what
// it began.
func (h *Host) tend(ctx context.Context, p host.Host) {
	var work sync.WaitGroup
	defer work.Wait()
	changed := func(network.Network, network.Conn) { h.nudge() }
	p.Network().Notify(&network.NotifyBundle{ConnectedF: changed, DisconnectedF: changed})
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		h.recheck(p)
		h.askSilent(ctx, p, &work)
		for _, id := range h.due(p) {
			work.Go(func() { h.attend(ctx, p, id) })
		}
		h.reserve(ctx, p, &work)
		h.findOut(ctx, p, &work)
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-h.wake:
		}
	}
}

// due returns the peers to look after, and marks them as busy.
func (h *Host) due(p host.Host) (ids []peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for id, k := range h.peers {
		direct, any := paths(p, id)
		if any {
			k.lastSeen = now
		}
		if k.busy || len(ids) >= 8 {
			continue
		}
		if !direct && !now.Before(k.next) || any && now.Sub(k.measured) > pingEvery {
			k.busy = true
			ids = append(ids, id)
		}
	}
	return ids
}

func paths(p host.Host, id peer.ID) (direct, any bool) {
	for _, c := range p.Network().ConnsToPeer(id) {
		any = true
		direct = direct || !relayed(c)
	}
	return direct, any
}

// attend connects to a peer, or makes the connection a direct one, or measures
// it.
func (h *Host) attend(ctx context.Context, p host.Host, id peer.ID) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var err error
	direct, any := paths(p, id)
	switch {
	case !any:
		err = h.connect(ctx, p, id)
	case !direct:
		err = h.dial(network.WithForceDirectDial(ctx, "upgrade"), p, id, nil)
	}
	_, any = paths(p, id)
	var rtt time.Duration
	if any {
		pinging, stop := context.WithCancel(network.WithAllowLimitedConn(ctx, "ping"))
		if r, ok := <-ping.Ping(pinging, p, id); ok && r.Error == nil {
			rtt = r.RTT
		}
		stop()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.peers[id]
	if k == nil {
		return
	}
	k.busy, k.failure = false, err
	if any {
		k.measured, k.rtt = time.Now(), rtt
	}
	if k.wait = min(max(2*k.wait, firstWait), mostWait); err == nil {
		k.wait = 0
	}
	k.next = time.Now().Add(k.wait)
}

var errNoAddress = errors.New("no address of it is known, and no relay to ask")

// connect makes sure that there is a connection: by a direct address, or else
// by any way there is.
func (h *Host) connect(ctx context.Context, p host.Host, id peer.ID) error {
	if _, any := paths(p, id); any {
		return nil
	}
	h.mu.Lock()
	var addrs []ma.Multiaddr
	if k := h.peers[id]; k != nil {
		addrs = slices.Clone(k.addrs)
	}
	h.mu.Unlock()
	circuits := h.circuits(p, id)
	if len(addrs) > 0 && len(circuits) > 0 {
		ahead, cancel := context.WithTimeout(network.WithForceDirectDial(ctx, "direct first"), aheadTime)
		err := h.dial(ahead, p, id, addrs)
		cancel()
		if err == nil {
			return nil
		}
	}
	return h.dial(ctx, p, id, append(addrs, circuits...))
}

// dial asks libp2p for a connection, by addrs and by what it has learnt.
func (h *Host) dial(ctx context.Context, p host.Host, id peer.ID, addrs []ma.Multiaddr) error {
	p.Peerstore().AddAddrs(id, addrs, peerstore.TempAddrTTL)
	if len(p.Peerstore().Addrs(id)) == 0 {
		return errNoAddress
	}
	if s, ok := p.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(id) // the host has its own
	}
	_, err := p.Network().DialPeer(network.WithAllowLimitedConn(ctx, "mesh"), id)
	return err
}

// circuits returns the addresses of a node through the members that we are
// connected to and that can be reached by all; those that are silent only if there is
// no other.
func (h *Host) circuits(p host.Host, to peer.ID) (all []ma.Multiaddr) {
	var silent []ma.Multiaddr
	for _, r := range h.relays(p) {
		through := ma.StringCast("/p2p/" + r.String() + "/p2p-circuit")
		switch {
		case r == to:
		case h.doubts(r):
			silent = append(silent, through)
		default:
			all = append(all, through)
		}
	}
	if len(all) == 0 {
		return silent
	}
	return all
}

func (h *Host) doubts(id peer.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.peers[id]
	return k != nil && time.Since(k.doubted) < doubtTime
}

// openTo opens a stream to a node that is a guest while that lasts.
func (h *Host) openTo(ctx context.Context, p host.Host, node string, texts []string, proto string) (network.Stream, error) {
	id, err := peer.Decode(node)
	if err != nil {
		return nil, err
	}
	addrs := parse(texts)
	guests := []peer.ID{id}
	for _, a := range addrs {
		if relay, err := a.ValueForProtocol(ma.P_P2P); err == nil && relay != node {
			if r, err := peer.Decode(relay); err == nil {
				guests = append(guests, r)
			}
		}
	}
	leave := h.welcome(guests)
	if err = h.dial(ctx, p, id, addrs); err == nil {
		var s network.Stream
		if s, err = p.NewStream(network.WithAllowLimitedConn(ctx, proto), id, protocol.ID(proto)); err == nil {
			return &guestStream{Stream: s, leave: leave}, nil
		}
	}
	leave()
	return nil, err
}

// welcome makes guests of nodes until the function it returns is called.
func (h *Host) welcome(nodes []peer.ID) func() {
	add := func(n int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, id := range nodes {
			if h.guests[id] += n; h.guests[id] == 0 {
				delete(h.guests, id)
			}
		}
	}
	add(1)
	return sync.OnceFunc(func() { add(-1) })
}

// A guestStream ends the visit with itself.
type guestStream struct {
	network.Stream
	leave func()
}

func (s *guestStream) Close() error {
	defer s.leave()
	return s.Stream.Close()
}

func (s *guestStream) Reset() error {
	defer s.leave()
	return s.Stream.Reset()
}

// A Path says how a peer is connected.
type Path string

const (
	PathNone   Path = ""
	PathDirect Path = "direct"
	PathRelay  Path = "relay" // through another member
)

// A Peer is the state of the connection to another member.
type Peer struct {
	Node     string
	Path     Path
	Addr     string        // multiaddress of the connection
	Via      string        // the member that relays, if one does
	RTT      time.Duration // zero: not measured
	LastSeen time.Time     // zero: never
	Failure  string        // of the last attempt to connect, if there is no connection
	Reserved bool          // we hold a place at it, as a relay
}

// Peers returns the state of all peers, in the order of their IDs.
func (h *Host) Peers() []Peer {
	p, err := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []Peer
	for id, k := range h.peers {
		one := Peer{Node: k.node, RTT: k.rtt, LastSeen: k.lastSeen, Reserved: !k.reserved.IsZero()}
		if k.failure != nil {
			one.Failure = reason(context.Background(), k.failure).Error()
		}
		if err == nil {
			one.look(p.Network().ConnsToPeer(id))
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Peer) int { return pick(a.Node < b.Node, -1, 1) })
	return all
}

// Connected tells whether there is a connection with a node that is more than
// the one of a stranger, who may ask to join or why it was removed.
func (h *Host) Connected(node string) bool {
	p, err := h.now()
	id, err2 := peer.Decode(node)
	return errors.Join(err, err2) == nil && len(p.Network().ConnsToPeer(id)) > 0 && !h.stranger(id)
}

// look fills in what the best of the connections says.
func (one *Peer) look(conns []network.Conn) {
	for _, c := range conns {
		if one.Path == PathDirect {
			return
		}
		one.Failure, one.Via = "", ""
		one.Addr = c.RemoteMultiaddr().String()
		one.LastSeen = time.Now()
		if one.Path = PathDirect; relayed(c) {
			one.Path = PathRelay
			one.Via, _ = c.RemoteMultiaddr().ValueForProtocol(ma.P_P2P)
		}
	}
}
