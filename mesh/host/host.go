// Package host connects nodes by libp2p: over QUIC on the UDP port that the
// tunnel has too, over TCP where UDP does not pass, and through another member
// where neither does.
//
// It carries what must work without the tunnel: joining, the roster, and the
// packets of the tunnel itself when UDP cannot carry them. A connection proves
// which node is at its other end. Only members of the roster are let in, and
// strangers for the protocols that are open to anyone, few at a time and not
// for long; whoever the roster drops is cut off with all its streams.
//
// Nothing is asked of, or told to, anybody but the nodes that the roster or an
// invite names: no discovery on the local network, no directory, no public
// relays, no requests to routers.
package host

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-mesh/holdfast/mesh/record"
)

// A Roster says who belongs to the cluster. Its methods are called for every
// connection and stream, so they must not wait for the network.
type Roster interface {
	Member(node string) bool
	Removed(node string) bool // blocked here: it is not even let in to join
}

// A Stream is a connection to another node, or from one.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	Reset() error
	SetDeadline(time.Time) error
}

// An Inbound is a stream that another node opened.
type Inbound struct {
	Stream
	Node string     // proven by the connection
	From netip.Addr // where it comes from; the zero Addr if it comes through a relay
	Seen string     // the multiaddress at which we see the node; "" through a relay

	silent func()
}

// Config says what a [Host] is.
type Config struct {
	Key       ed25519.PrivateKey                  // of the node; required
	Roster    Roster                              // required
	QUIC      func(network string) net.PacketConn // the mesh port for QUIC over udp4 or udp6; nil: a UDP socket of our own
	Advertise []netip.AddrPort                    // further addresses at which we can be reached; having one, we relay for members
	Relay     Relaying                            // whether we relay for members
	Version   string                              // of the program, told to members
	Strangers int                                 // who may be connected to join, at a time, half of them from one address; default 16; negative: nobody
	Simulated bool                                // for tests: QUIC is on a network in memory, with no TCP and none of this machine's addresses
	Log       *slog.Logger                        // default: discard
}

// Relaying says whether a node takes itself for one that all can reach.
type Relaying int

const (
	RelayAuto  Relaying = iota // if it advertises an address, or a member could call it back at a public one
	RelayYes                   // in any case
	RelayNever                 // it only asks others
)

func (c Config) withDefaults() (Config, error) {
	if c.Strangers == 0 {
		c.Strangers = 16
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case len(c.Key) != ed25519.PrivateKeySize:
		return c, fmt.Errorf("host: the node key has %d bytes", len(c.Key))
	case c.Roster == nil:
		return c, errors.New("host: no roster")
	}
	return c, nil
}

// A Host is this node among the others, while [Host.Run] runs.
type Host struct {
	cfg  Config
	self string
	key  record.Key

	running chan struct{} // closed when the host listens
	wake    chan struct{} // something to tend
	handler map[protocol.ID]handler
	streams sync.WaitGroup // handlers at work

	mu     sync.Mutex
	life   context.Context // of Run; nil before
	closed bool
	libp2p host.Host // nil before Run, and after
	peers  map[peer.ID]*known
	guests map[peer.ID]int // whom we dial, to join, and how many ask for it

	strangers map[peer.ID]stranger // who was let in to join
	reach     reach

	dials func(peer.ID, ma.Multiaddr) bool // for tests: which addresses may be dialled; nil: all
}

type handler struct {
	anyone bool
	serve  func(context.Context, Inbound)
}

// New returns a host that is not connected to anybody. Nothing is opened
// before [Host.Run], which is to be called at most once.
func New(cfg Config) (*Host, error) {
	quiet()
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	key := record.KeyOf(cfg.Key)
	h := &Host{
		cfg: cfg, self: key.NodeID(), key: key, running: make(chan struct{}), wake: make(chan struct{}, 1),
		handler: map[protocol.ID]handler{}, peers: map[peer.ID]*known{}, guests: map[peer.ID]int{}, strangers: map[peer.ID]stranger{}, reach: reach{called: map[string]time.Time{}},
	}
	h.Handle(reachProtocol, false, h.callBack)
	return h, nil
}

// ID is the node ID of this node.
func (h *Host) ID() string { return h.self }

// Handle has serve called for every stream of a protocol that a member opens,
// or anyone. The stream is closed when serve returns; the context ends with
// Run. It must be called before Run.
func (h *Host) Handle(proto string, anyone bool, serve func(context.Context, Inbound)) {
	h.handler[protocol.ID(proto)] = handler{anyone, serve}
}

// Run listens at an address of TCP, and for QUIC at the same port unless it is
// given one, until ctx ends. An unspecified address means all. It returns when
// all handlers have returned.
func (h *Host) Run(ctx context.Context, at netip.AddrPort) error {
	p, closeAll, err := h.open(at)
	if err != nil {
		return fmt.Errorf("host: listen at %s: %w", at, err)
	}
	life, end := context.WithCancel(ctx)
	h.mu.Lock()
	h.life, h.libp2p = life, p
	h.mu.Unlock()
	for proto, do := range h.handler {
		p.SetStreamHandler(proto, h.accept(do))
	}
	close(h.running)
	h.tend(life, p)
	end()
	h.mu.Lock()
	h.libp2p, h.closed = nil, true
	h.mu.Unlock()
	err = closeAll()
	h.streams.Wait()
	if err != nil {
		return fmt.Errorf("host: close: %w", err)
	}
	return nil
}

// Running is closed when the host listens.
func (h *Host) Running() <-chan struct{} { return h.running }

// accept returns what libp2p calls for a stream.
func (h *Host) accept(do handler) network.StreamHandler {
	return func(s network.Stream) {
		h.mu.Lock()
		life := h.life
		if h.closed {
			h.mu.Unlock()
			s.Reset()
			return
		}
		h.streams.Add(1)
		h.mu.Unlock()
		defer h.streams.Done()
		c := s.Conn()
		if node := c.RemotePeer().String(); !do.anyone && !h.cfg.Roster.Member(node) {
			s.Reset()
			return
		}
		in := Inbound{Stream: s, Node: c.RemotePeer().String(), silent: func() { h.silent(c) }}
		if !relayed(c) {
			in.Seen = c.RemoteMultiaddr().String()
			in.From = ipOf(c.RemoteMultiaddr())
		}
		stop := context.AfterFunc(life, func() { s.Reset() })
		defer stop()
		do.serve(life, in)
		s.Close()
	}
}

// now returns libp2p's host, while Run runs.
func (h *Host) now() (host.Host, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.libp2p == nil {
		return nil, errors.New("the host is not running")
	}
	return h.libp2p, nil
}

// Open opens a stream to a member, and a connection first if there is none.
func (h *Host) Open(ctx context.Context, node, proto string) (Stream, error) {
	s, err := h.openStream(ctx, node, proto)
	if err != nil {
		return nil, opening(ctx, proto, node, err)
	}
	return s, nil
}

func opening(ctx context.Context, proto, node string, err error) error {
	return fmt.Errorf("open %s to node %s: %w", proto, node, reason(ctx, err))
}

func (h *Host) openStream(ctx context.Context, node, proto string) (network.Stream, error) {
	p, err := h.now()
	if err != nil {
		return nil, err
	}
	id, err := peer.Decode(node)
	if err != nil {
		return nil, err
	}
	if err := h.connect(ctx, p, id); err != nil {
		return nil, err
	}
	return p.NewStream(network.WithAllowLimitedConn(ctx, proto), id, protocol.ID(proto))
}

// OpenTo opens a stream to a node that an invite names, member or not, at the
// addresses it names. Its errors match [ErrSomeoneElse] if another node
// answers there.
func (h *Host) OpenTo(ctx context.Context, node string, addrs []string, proto string) (Stream, error) {
	p, err := h.now()
	if err == nil {
		var s network.Stream
		if s, err = h.openTo(ctx, p, node, addrs, proto); err == nil {
			return s, nil
		}
	}
	return nil, opening(ctx, proto, node, err)
}
