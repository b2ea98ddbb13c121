// Package bind carries the packets of WireGuard to peers, by the best way that
// is known at the moment: directly by UDP, or else over a stream that somebody
// hands in, which may lead through a relay.
//
// A [Bind] owns the mesh port, for each [Identity] of ours. What arrives there is told apart by its first
// byte: packets of WireGuard, probes of ours, and QUIC, which libp2p speaks on
// the same port so that addresses observed for one are good for the other.
// Packets of WireGuard count only from addresses that a peer has proven by a
// probe; all else is dropped before anything is allocated for it.
//
// To WireGuard every key of a peer is one endpoint that never changes. Which path is
// behind it is decided by package path, ten times a second at most and once a
// second if nothing is to be decided.
package bind

import (
	"context"
	"crypto/ecdh"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel/probe"
)

// A NodeID names a node: the text of its libp2p peer ID.
type NodeID string

// A Socket is a bound UDP socket, or stands in for one.
type Socket interface {
	// Receive waits for one datagram, or several of one sender and equal size
	// (the last may be smaller); segment is that size. It returns
	// [udp.ErrWoken] after Wake and net.ErrClosed after Close.
	Receive(buf []byte) (n, segment int, from netip.AddrPort, err error)
	// Send sends datagrams; it may keep none of bufs.
	Send(bufs [][]byte, to netip.AddrPort) error
	Wake()
	LocalAddr() netip.AddrPort
	// Offload tells whether Send sends many datagrams in one call, NoOffload
	// ends that.
	Offload() bool
	NoOffload()
	Close() error
}

// A Relay opens streams to nodes that UDP does not reach. The node at the
// other end must be the one that was asked for: the stream authenticates it. One
// that has a method Silent is told by that, before it is closed, that nothing has
// come for [relayDead].
type Relay interface {
	Open(ctx context.Context, node NodeID) (io.ReadWriteCloser, error)
}

// Config says what a [Bind] works with. All fields are required, but Relay.
type Config struct {
	Self      NodeID
	Listen    func() (Socket, error)
	Addresses func() ([]netip.Addr, error) // of the host, without loopback
	Advertise []netip.AddrPort             // further addresses at which we can be reached
	Relay     Relay                        // nil: UDP only
	Batch     int                          // packets at a time
	Log       *slog.Logger

	// UsesKey is called for every ping that shows which of its keys a peer uses.
	UsesKey func(node NodeID, key [32]byte)
	// Slept is called when the host slept, or did not run us, for so long.
	Slept func(time.Duration)
}

// A Bind carries the packets of all our identities. It decides about paths
// while [Bind.Run] runs.
type Bind struct {
	cfg    Config
	start  time.Time
	socket atomic.Pointer[Socket]
	closed atomic.Bool

	opening    sync.Mutex                  // held to replace identities
	identities atomic.Pointer[[]*Identity] // that have the mesh port open, newest first
	reading    chan *receiver              // waits here while nobody reads the socket

	peers    atomic.Pointer[peers]
	admitted atomic.Pointer[map[netip.AddrPort]*Peer]
	admit    sync.Mutex // held to replace admitted

	packets  packetPool
	relayed  chan relayed
	sleeping atomic.Bool   // the receiver waits at the socket
	kick     chan struct{} // have Run look at the paths now
	quic     quicConns
	observed observed
	mapped   atomic.Pointer[[]netip.AddrPort] // by a gateway
	serving  sync.WaitGroup                   // relay streams handed in

	tables sync.Mutex // held to replace peers
	keys   []*ecdh.PrivateKey
	live   int // how many of keys are in use, the first ones

	dropped struct {
		stranger atomic.Uint64 // WireGuard packets from unproven addresses
		forged   atomic.Uint64 // probes that did not open
		unknown  atomic.Uint64 // datagrams that are nothing of ours
	}
}

// peers is the table of peers; it does not change.
type peers struct {
	byID   map[NodeID]*Peer
	byName map[probe.KeyName]*keyed
}

// New returns a Bind without peers. It opens nothing.
func New(cfg Config) *Bind {
	b := &Bind{
		cfg:     cfg,
		start:   time.Now(),
		relayed: make(chan relayed, relayQueue),
		kick:    make(chan struct{}, 1),
		reading: make(chan *receiver, 1),
	}
	b.identities.Store(&[]*Identity{})
	b.peers.Store(&peers{})
	b.admitted.Store(&map[netip.AddrPort]*Peer{})
	b.observed.by = map[NodeID]netip.AddrPort{}
	return b
}

// LocalAddr returns the address that the mesh port is bound to, or zero.
func (b *Bind) LocalAddr() netip.AddrPort {
	if s := b.socket.Load(); s != nil {
		return (*s).LocalAddr()
	}
	return netip.AddrPort{}
}

// send sends packets to p by the path of the moment; k is whose keys they are
// sealed with, if known.
func (b *Bind) send(p *Peer, k *keyed, bufs [][]byte) {
	r := p.route.Load()
	if r.direct.IsValid() {
		b.sendDirect(p, bufs, r.direct)
	}
	if r.relay && !b.sendRelayed(p, bufs) && !r.direct.IsValid() {
		p.relayDropped.Add(uint64(len(bufs)))
		if k != nil {
			k.handshake.stick()
		}
	}
}

func (b *Bind) sendDirect(p *Peer, bufs [][]byte, to netip.AddrPort) {
	s := b.socket.Load()
	if s == nil {
		return
	}
	if err := (*s).Send(bufs, to); err != nil && !errors.Is(err, net.ErrClosed) {
		p.sendErrors.Add(1)
	}
	for _, buf := range bufs {
		p.sentBytes.Add(uint64(len(buf)))
	}
}

// sending notes what is about to be sent: whether the peer is in use, and
// handshakes.
func (b *Bind) sending(k *keyed, bufs [][]byte) {
	now := b.now()
	for _, buf := range bufs {
		if len(buf) == 0 || buf[0] == transport && !isData(buf) {
			continue
		}
		switch buf[0] {
		case initiation:
			k.number(buf)
			k.handshake.begins(buf, now)
		case response:
			k.number(buf)
			k.handshake.confirmed()
			k.peer.withKey(k.ours).handshake.answers(buf, now)
		}
		k.peer.touch(b, now)
		k.peer.expect(now, len(buf))
		return
	}
}

// wake has Run look at the paths now.
func (b *Bind) wake() {
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// now is the time since the Bind was made, which never jumps.
func (b *Bind) now() time.Duration { return time.Since(b.start) }
