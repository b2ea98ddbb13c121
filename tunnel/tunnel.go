// Package tunnel is a private link between the nodes of a mesh: WireGuard in
// the process, without privileges and without an interface of the host.
//
// Every node has one address inside. What comes from that address comes from
// that node, because WireGuard drops all else; so a service asks
// [Tunnel.NodeOf] who is calling and needs no second handshake. Nothing inside
// leads to the host or to its network: a peer reaches the services that listen
// in the tunnel, and no more.
//
// Packets go directly by UDP where that works, through NATs too, and otherwise
// over a stream of the [Relay]; the tunnel finds out which, and moves back to
// UDP by itself. Connections live through all of that.
//
//	tunnel/stack      TCP and UDP inside, the device that WireGuard serves
//	tunnel/bind       the mesh port, peers and streams
//	tunnel/path       which path is best
//	tunnel/probe      the packets that find out
//	tunnel/udp        the socket
//	tunnel/portmap    asking the router for a port
//	tunnel/tunneltest networks in memory, with faults
package tunnel

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.zx2c4.com/wireguard/device"

	"github.com/holdfast-mesh/holdfast/tunnel/bind"
	"github.com/holdfast-mesh/holdfast/tunnel/portmap"
	"github.com/holdfast-mesh/holdfast/tunnel/stack"
	"github.com/holdfast-mesh/holdfast/tunnel/udp"
)

type (
	// A NodeID names a node: the text of its libp2p peer ID.
	NodeID = bind.NodeID
	// A Relay opens streams to nodes that UDP does not reach.
	Relay = bind.Relay
	// A Socket is what the mesh port is; tests bring their own.
	Socket = bind.Socket
)

const (
	// DefaultMTU is what every path carries that carries IPv6, and also the
	// fastest: more of its packets fit one train.
	DefaultMTU = 1280
	minMTU     = 1280
	maxMTU     = 65_000
)

// Config says what a [Tunnel] is.
type Config struct {
	Self       NodeID         // required
	PrivateKey PrivateKey     // required: WireGuard's
	Address    netip.Addr     // required: ours in the tunnel; peers are in the same /64
	Listen     netip.AddrPort // the mesh port; an unspecified address means all, the port 0 any
	Advertise  []netip.AddrPort
	MTU        int   // largest packet in the tunnel to any peer; default 1280
	Relay      Relay // default: none, packets go by UDP only

	NoUDPGSO    bool // do not send UDP in trains: slower, but right on kernels that break them
	PortMapping bool // ask the router for a port, by UPnP or NAT-PMP

	Log *slog.Logger // default: discard

	// For tests: where the mesh port is opened, and the addresses of the
	// host. Default: the network of the host.
	ListenUDP func(netip.AddrPort) (Socket, error)
	Addresses func() ([]netip.Addr, error)
}

// withDefaults returns c completed, or says which field is wrong and why.
func (c Config) withDefaults() (Config, error) {
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.ListenUDP == nil {
		c.ListenUDP = func(at netip.AddrPort) (Socket, error) { return udp.Listen(at, !c.NoUDPGSO) }
	}
	if c.Addresses == nil {
		c.Addresses = hostAddresses
	}
	switch {
	case c.Self == "":
		return c, errors.New("tunnel: no node ID")
	case c.PrivateKey == PrivateKey{}:
		return c, errors.New("tunnel: no private key")
	case !c.Address.Is6() || !c.Address.IsPrivate():
		return c, fmt.Errorf("tunnel: address is %v, want one of fc00::/7", c.Address)
	case !c.Listen.IsValid():
		return c, fmt.Errorf("tunnel: listen address is %v, want an address and a port", c.Listen)
	case c.MTU < minMTU || c.MTU > maxMTU:
		return c, fmt.Errorf("tunnel: MTU is %d, want %d to %d", c.MTU, minMTU, maxMTU)
	}
	return c, nil
}

// A Tunnel links this node to its peers while [Tunnel.Run] runs.
type Tunnel struct {
	cfg   Config
	stack *stack.Stack
	bind  *bind.Bind
	waits rate // of packets for WireGuard

	running chan struct{}         // closed when the mesh port is open
	failed  atomic.Pointer[error] // why it was not opened
	closing sync.Once
	life    context.Context // ends when the tunnel closes
	end     context.CancelFunc

	rotated chan struct{} // our key changed

	mu         sync.Mutex
	identities []*identity      // newest first; none once closed
	previous   *ecdh.PrivateKey // given up last; nil: none
	up         bool
	peers      map[NodeID]Peer
	byAddr     map[netip.Addr]NodeID
	seen       map[NodeID]sighting
	conns      map[NodeID]map[io.Closer]struct{}
}

// New returns a tunnel without peers. Nothing is sent or received before
// [Tunnel.Run], which is to be called once, or else [Tunnel.Close].
func New(cfg Config) (*Tunnel, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	private, err := ecdh.X25519().NewPrivateKey(cfg.PrivateKey[:])
	if err != nil {
		return nil, fmt.Errorf("tunnel: private key: %w", err)
	}
	t := &Tunnel{
		cfg:     cfg,
		running: make(chan struct{}),
		rotated: make(chan struct{}, 1),
		peers:   map[NodeID]Peer{},
		byAddr:  map[netip.Addr]NodeID{cfg.Address: cfg.Self},
		seen:    map[NodeID]sighting{},
		conns:   map[NodeID]map[io.Closer]struct{}{},
	}
	t.life, t.end = context.WithCancel(context.Background())
	if t.stack, err = stack.New(stack.Config{Address: cfg.Address, MTU: cfg.MTU}); err != nil {
		return nil, err
	}
	t.bind = bind.New(bind.Config{
		Self:      cfg.Self,
		Listen:    func() (bind.Socket, error) { return cfg.ListenUDP(cfg.Listen) },
		Addresses: cfg.Addresses,
		Advertise: cfg.Advertise,
		Relay:     cfg.Relay,
		Batch:     stack.Batch,
		Log:       cfg.Log,
		UsesKey:   t.usesKey,
		Slept:     t.slept,
	})
	id, err := t.newIdentity(private)
	if err != nil {
		t.Close()
		return nil, err
	}
	t.identities = []*identity{id}
	if err := t.bind.SetKeys(t.privateKeys()); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// wireGuardLog passes on what WireGuard says, which is much.
func wireGuardLog(log *slog.Logger) *device.Logger {
	l := &device.Logger{
		Verbosef: device.DiscardLogf,
		Errorf:   func(format string, args ...any) { log.Warn("wireguard: " + fmt.Sprintf(format, args...)) },
	}
	if log.Enabled(context.Background(), slog.LevelDebug-4) {
		l.Verbosef = func(format string, args ...any) { log.Debug("wireguard: " + fmt.Sprintf(format, args...)) }
	}
	return l
}

// Run opens the mesh port and carries packets until ctx ends. When it returns
// the tunnel is closed, and all connections with it.
func (t *Tunnel) Run(ctx context.Context) error {
	defer t.Close()
	if err := t.start(); err != nil {
		err = fmt.Errorf("start tunnel: %w", err)
		t.failed.Store(&err)
		return err
	}
	close(t.running)
	t.cfg.Log.Info("the mesh port is open", "at", t.bind.LocalAddr())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.bind.Run(ctx) })
	g.Go(func() error { return t.moveToNewKeys(ctx) })
	if t.cfg.PortMapping {
		m := portmap.Mapper{Port: t.bind.LocalAddr().Port(), Log: t.cfg.Log, Mapped: t.bind.SetMapped}
		g.Go(func() error { return m.Run(ctx) })
	}
	return g.Wait()
}

// Close ends all connections and frees all. Run does it, too; it is for a
// tunnel that never ran.
func (t *Tunnel) Close() {
	t.closing.Do(func() {
		t.end()
		t.mu.Lock()
		all := t.identities
		t.identities = nil
		t.mu.Unlock()
		for _, id := range all {
			id.wireGuard.Close()
		}
		t.stack.Close()
	})
}

// Running is closed when the mesh port is open.
func (t *Tunnel) Running() <-chan struct{} { return t.running }

// LocalAddr returns the address that the mesh port is bound to, once it is.
func (t *Tunnel) LocalAddr() netip.AddrPort { return t.bind.LocalAddr() }

// Candidates returns the addresses at which peers may find the mesh port: the
// configured ones, those of the host, of the router, and those that peers saw.
func (t *Tunnel) Candidates() []netip.AddrPort { return t.bind.Candidates() }

// Observed returns the addresses that peers see packets of ours come from. If
// one peer sees another port than the next, a symmetric NAT is in between.
func (t *Tunnel) Observed() []netip.AddrPort { return t.bind.Observed() }

// ServeStream carries packets over a stream that a node opened to us, until it
// ends. The caller has authenticated the node.
func (t *Tunnel) ServeStream(ctx context.Context, node NodeID, stream io.ReadWriteCloser) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(t.life, cancel)
	defer stop()
	return t.bind.Serve(ctx, node, stream)
}

// QUICConn returns the mesh port for QUIC over network, udp4 or udp6.
func (t *Tunnel) QUICConn(network string) net.PacketConn { return t.bind.QUICConn(network) }

// Wake trusts no path until it has proven itself again. The tunnel notices
// sleep and new addresses of the host by itself within seconds.
func (t *Tunnel) Wake() { t.bind.Wake() }

// slept has WireGuard shake hands again if the peers have forgotten the keys:
// its clock stood still while theirs went on.
func (t *Tunnel) slept(gap time.Duration) {
	const forgotten = 100 * time.Second
	if gap > forgotten {
		if err := t.forget(); err != nil {
			t.cfg.Log.Warn("shake hands anew after sleep", "err", err)
		}
	}
}

// hostAddresses returns the addresses of the host that others may reach.
func hostAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, _ := netip.AddrFromSlice(n.IP)
		if ip = ip.Unmap(); ip.IsGlobalUnicast() {
			out = append(out, ip)
		}
	}
	return out, nil
}
