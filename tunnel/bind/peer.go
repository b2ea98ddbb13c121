package bind

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel/path"
	"github.com/holdfast-mesh/holdfast/tunnel/probe"
)

const (
	maxAdmitted = 8 // addresses that a peer may send from at a time

	// wireGuardOverhead is what WireGuard adds to a packet.
	wireGuardOverhead = 32
)

// PeerConfig is one row of the desired table of peers.
type PeerConfig struct {
	ID        NodeID
	Keys      [][32]byte // WireGuard public keys, newest first
	Endpoints []netip.AddrPort
	Address   netip.Addr // in the tunnel
	MTU       int        // in the tunnel
}

// A Peer is a node, whatever its key.
type Peer struct {
	id      NodeID
	address netip.Addr
	digest  [16]byte // of id: stable and different for each peer
	mtu     atomic.Int32

	route atomic.Pointer[route]
	awake atomic.Bool  // Run knows that the peer is in use
	used  atomic.Int64 // time of the last packet to or from it, but keepalives
	owed  atomic.Int64 // of the first packet sent since the last came directly; zero: none
	heard atomic.Int64 // time of the last packet that came directly
	busy  atomic.Int64 // time until which much was carried of late
	pairs atomic.Pointer[[]*keyed]

	sentBytes, receivedBytes           atomic.Uint64
	relaySentBytes, relayReceivedBytes atomic.Uint64
	sendErrors, relayDropped           atomic.Uint64
	handshakes                         atomic.Uint64 // whose sessions were used
	meter                              meter
	reported                           atomic.Uint64 // got and lost, by the peer, of what we sent
	stale                              limiter       // answers to probes that may be recordings

	weighed struct { // by Run
		at      time.Duration
		carried uint64
	}

	mu         sync.Mutex
	selector   *path.Selector
	admitted   []netip.AddrPort
	relay      relayState
	lastCall   time.Time
	configured []netip.AddrPort
}

// A route is where packets to a peer go; it does not change.
type route struct {
	direct netip.AddrPort // zero: none
	relay  bool           // over a stream, too or only
}

// keyed is one key of ours and one of a peer: an endpoint of WireGuard, the
// handshakes between them, and the keys of probes.
type keyed struct {
	*probe.Pair
	peer      *Peer
	ours      *ecdh.PrivateKey
	theirs    [32]byte
	live      atomic.Bool // we use our key, and do not only know it
	handshake handshakes
	next      atomic.Uint32
	numbers   [sessions]atomic.Uint64
}

func newPeer(c PeerConfig) *Peer {
	sum := sha256.Sum256([]byte(c.ID))
	p := &Peer{id: c.ID, address: c.Address, digest: [16]byte(sum[:]), selector: path.New(random)}
	p.route.Store(&route{relay: true})
	p.used.Store(int64(-inUse))
	return p
}

func random() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// SetPeers makes the table of peers as desired. Peers that stay keep their
// paths and counters.
func (b *Bind) SetPeers(table []PeerConfig) error {
	b.tables.Lock()
	defer b.tables.Unlock()
	now := time.Now()
	old := b.peers.Load()
	byID := make(map[NodeID]*Peer, len(table))
	for _, c := range table {
		p := old.byID[c.ID]
		if p == nil {
			p = newPeer(c)
		}
		if err := p.setKeys(b.keys, b.live, c.Keys); err != nil {
			return fmt.Errorf("tunnel: peer %s: %w", c.ID, err)
		}
		p.mtu.Store(int32(c.MTU))
		p.mu.Lock()
		if !slices.Equal(p.configured, c.Endpoints) {
			p.configured = slices.Clone(c.Endpoints)
			p.selector.SetCandidates(now, path.Configured, c.Endpoints)
		}
		p.mu.Unlock()
		byID[c.ID] = p
	}
	b.install(byID)
	for id, p := range old.byID {
		if byID[id] == nil {
			p.hangUp()
			b.observed.forget(id)
		}
	}
	b.wake()
	return nil
}

// SetKeys sets our WireGuard keys, newest first: those in use, and older ones
// that peers may still believe in.
func (b *Bind) SetKeys(inUse []*ecdh.PrivateKey, older ...*ecdh.PrivateKey) error {
	b.tables.Lock()
	defer b.tables.Unlock()
	b.keys, b.live = slices.Concat(inUse, older), len(inUse)
	old := b.peers.Load()
	for _, p := range old.byID {
		if err := p.setKeys(b.keys, b.live, p.theirs()); err != nil {
			return fmt.Errorf("tunnel: peer %s: %w", p.id, err)
		}
	}
	b.install(old.byID)
	return nil
}

// install makes byID the table, and forgets addresses of all other peers.
func (b *Bind) install(byID map[NodeID]*Peer) {
	t := &peers{byID: byID, byName: map[probe.KeyName]*keyed{}}
	for _, p := range byID {
		for _, k := range *p.pairs.Load() {
			t.byName[k.Incoming] = k
		}
	}
	b.peers.Store(t)
	b.admit.Lock()
	defer b.admit.Unlock()
	left := map[netip.AddrPort]*Peer{}
	for a, p := range *b.admitted.Load() {
		if byID[p.id] == p {
			left[a] = p
		}
	}
	b.admitted.Store(&left)
}

// setKeys makes the probe keys for each of our keys and each of the peer's,
// and keeps those that it has: they know which probes came before.
func (p *Peer) setKeys(ours []*ecdh.PrivateKey, live int, theirs [][32]byte) error {
	var have, want []*keyed
	if old := p.pairs.Load(); old != nil {
		have = *old
	}
	for n, o := range ours {
		for _, t := range theirs {
			i := slices.IndexFunc(have, func(k *keyed) bool { return k.ours.Equal(o) && k.theirs == t })
			if i >= 0 {
				have[i].live.Store(n < live)
				want = append(want, have[i])
				continue
			}
			public, err := ecdh.X25519().NewPublicKey(t[:])
			if err != nil {
				return fmt.Errorf("read key: %w", err)
			}
			pair, err := probe.NewPair(o, public)
			if err != nil {
				return err
			}
			k := &keyed{Pair: pair, peer: p, ours: o, theirs: t}
			k.live.Store(n < live)
			want = append(want, k)
		}
	}
	p.pairs.Store(&want)
	return nil
}

// withKey returns the first pair with that key of ours: what is known of all
// such pairs together is kept there.
func (p *Peer) withKey(ours *ecdh.PrivateKey) *keyed {
	for _, k := range *p.pairs.Load() {
		if k.ours.Equal(ours) {
			return k
		}
	}
	return &keyed{} // the key was given up a moment ago
}

func (p *Peer) theirs() [][32]byte {
	var all [][32]byte
	for _, k := range *p.pairs.Load() {
		if !slices.Contains(all, k.theirs) {
			all = append(all, k.theirs)
		}
	}
	return all
}

// admitFrom lets packets of WireGuard in from addr. An address that another
// peer has is taken over only if the probe was an answer to ours: a source
// address alone can be forged by a peer.
func (b *Bind) admitFrom(p *Peer, addr netip.AddrPort, answered bool) {
	if have := (*b.admitted.Load())[addr]; have == p || have != nil && !answered {
		return
	}
	b.admit.Lock()
	defer b.admit.Unlock()
	next := make(map[netip.AddrPort]*Peer, len(*b.admitted.Load())+1)
	for a, o := range *b.admitted.Load() {
		next[a] = o
	}
	p.mu.Lock()
	p.admitted = append(slices.DeleteFunc(p.admitted, func(a netip.AddrPort) bool { return a == addr }), addr)
	if len(p.admitted) > maxAdmitted {
		if next[p.admitted[0]] == p {
			delete(next, p.admitted[0])
		}
		p.admitted = slices.Delete(p.admitted, 0, 1)
	}
	p.mu.Unlock()
	next[addr] = p
	b.admitted.Store(&next)
}

// The methods of conn.Endpoint. WireGuard uses DstToBytes for cookies and
// DstIP to limit the rate of handshakes: per peer, whatever the path.

func (p *Peer) ClearSrc()           {}
func (p *Peer) SrcToString() string { return "" }
func (p *Peer) DstToString() string { return string(p.id) }
func (p *Peer) DstToBytes() []byte  { return p.digest[:] }
func (p *Peer) DstIP() netip.Addr   { return p.address }
func (p *Peer) SrcIP() netip.Addr   { return netip.Addr{} }

func (k *keyed) ClearSrc()           {}
func (k *keyed) SrcToString() string { return "" }
func (k *keyed) DstToString() string { return EndpointOf(k.peer.id, k.theirs) }
func (k *keyed) DstToBytes() []byte  { return k.peer.DstToBytes() }
func (k *keyed) DstIP() netip.Addr   { return k.peer.DstIP() }
func (k *keyed) SrcIP() netip.Addr   { return netip.Addr{} }
