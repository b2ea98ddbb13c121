// Package peers is how a node is linked to the others of its cluster: the tunnel,
// through which all traffic between nodes goes; libp2p beside it on the same
// port, for joining, for the roster, and for packets that UDP does not carry;
// and the gossip. Whoever the roster drops is cut off from all of it at once.
//
// What it keeps, in the directory of the cluster:
//
//	wireguard.key   of the tunnel
//	wireguard.next  the one that follows it, while that is being changed
//	records         where members are, as they have signed it
//	addresses.json  and as an operator has said
package peers

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/mesh/gossip"
	"github.com/holdfast-mesh/holdfast/mesh/health"
	"github.com/holdfast-mesh/holdfast/mesh/host"
	"github.com/holdfast-mesh/holdfast/mesh/join"
	"github.com/holdfast-mesh/holdfast/mesh/record"
	"github.com/holdfast-mesh/holdfast/mesh/roster"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/tunnel"
)

// The names in the directory of the cluster.
const (
	wireGuardFile = "wireguard.key"
	nextFile      = "wireguard.next"
	recordsFile   = "records"
)

// Config says what is linked.
type Config struct {
	Dir      string             // of the cluster; required
	Key      ed25519.PrivateKey // of this node; required
	Cluster  [16]byte           // required
	Listen   string             // the mesh port: ADDRESS:PORT, or :PORT for all addresses; required
	Version  string
	NoUDPGSO bool         // see [tunnel.Config]
	Log      *slog.Logger // default: discard

	Simulated *Simulated // for tests; default: the network of this machine
}

// A Simulated is a network that is not that of this machine. There is nothing
// but UDP in it.
type Simulated struct {
	Listen    func(netip.AddrPort) (tunnel.Socket, error)
	Addresses func() ([]netip.Addr, error)
	Packets   func(netip.AddrPort) (net.PacketConn, error) // for a machine that joins
	At        []netip.AddrPort                             // where all can reach this node; none: nowhere
}

// A Link is this node among the others, while [Link.Run] runs.
type Link struct {
	cfg     Config
	self    record.Key
	tunnel  *tunnel.Tunnel
	records *record.Store
	keys    *keys
	byHand  *byHand

	cluster *cluster.Cluster // from Attach on, as those below
	host    *host.Host
	syncer  *roster.Syncer
	gossip  *gossip.Gossip
	health  *health.Tracker
	changed chan struct{} // the roster or a record has changed
	also    []func(context.Context) error
	denied  atomic.Bool
	begun   time.Time
	own     uint64       // number of this node's record, as it knows it; for renew alone
	twice   atomic.Int64 // Unix seconds, when somebody else was seen to have signed one

	mu       sync.Mutex
	seen     map[string]string  // where members see this node, by member
	fault    string             // of the table of the tunnel
	disputes map[string]dispute // by the node whose record was refused
}

// New opens what a node needs to be linked, and starts nothing.
func New(cfg Config) (*Link, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	listen, err := parseListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	l := &Link{cfg: cfg, self: record.KeyOf(cfg.Key), begun: timeNow(), changed: make(chan struct{}, 1), seen: map[string]string{}, disputes: map[string]dispute{}}
	l.health = health.New(l.tell)
	if l.records, err = record.Open(filepath.Join(cfg.Dir, recordsFile), cfg.Cluster); err != nil {
		return nil, err
	}
	if l.keys, err = openKeys(cfg.Dir); err != nil {
		return nil, err
	}
	if l.byHand, err = openByHand(cfg.Dir); err != nil {
		return nil, err
	}
	t := tunnel.Config{
		Self: tunnel.NodeID(l.self.NodeID()), PrivateKey: l.keys.private, Address: record.Address(cfg.Cluster, l.self),
		Listen: listen, Relay: carrier{l}, NoUDPGSO: cfg.NoUDPGSO, Log: cfg.Log,
	}
	if s := cfg.Simulated; s != nil {
		t.ListenUDP, t.Addresses, t.Advertise = s.Listen, s.Addresses, s.At
	}
	l.tunnel, err = tunnel.New(t)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// parseListen reads ADDRESS:PORT.
func parseListen(text string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(text)
	if err == nil && host == "" {
		text = net.JoinHostPort("0.0.0.0", port)
	}
	at, err2 := netip.ParseAddrPort(text)
	if err := errors.Join(err, err2); err != nil {
		return at, fmt.Errorf("mesh-listen is %q, want ADDRESS:PORT or :PORT: %w", text, err)
	}
	return at, nil
}

// carrier opens streams for packets that UDP does not carry.
type carrier struct{ l *Link }

func (c carrier) Open(ctx context.Context, node tunnel.NodeID) (io.ReadWriteCloser, error) {
	if c.l.host == nil {
		return nil, errors.New("not linked yet")
	}
	return c.l.host.Carry(ctx, string(node))
}

// Network is what everything between nodes goes over.
func (l *Link) Network() Network { return NewNetwork(l.tunnel) }

// Attach says which cluster it is, and makes the rest. It is to be called once,
// before Run.
func (l *Link) Attach(c *cluster.Cluster) error {
	l.cluster = c
	var err error
	h := host.Config{Key: l.cfg.Key, Roster: members{c}, QUIC: l.tunnel.QUICConn, Version: l.cfg.Version, Log: l.cfg.Log}
	if s := l.cfg.Simulated; s != nil {
		h.Simulated, h.Advertise = true, s.At
	}
	l.host, err = host.New(h)
	if err != nil {
		return err
	}
	l.syncer, err = roster.New(roster.Config{
		Chain: c.Roster(), Records: l.records, Member: members{c}.Member, Peers: l.connected,
		Open: func(ctx context.Context, node string) (roster.Stream, error) {
			return l.host.Open(ctx, node, roster.Protocol)
		},
		Where:   l.where,
		Changed: func() { l.kick(); c.Group().Recheck() }, Seen: l.sawUs, Refused: func(err error) { l.disputed(err) }, Log: l.cfg.Log,
	})
	if err != nil {
		return err
	}
	server, err := join.NewServer(join.ServerConfig{Key: l.cfg.Key, Cluster: l.cfg.Cluster, Admitter: admitter{l}, Log: l.cfg.Log})
	if err != nil {
		return err
	}
	l.host.Handle(join.Protocol, true, func(ctx context.Context, in host.Inbound) {
		_ = server.Serve(ctx, in.Node, in.From, in.Seen, in) // it logs
	})
	l.host.Handle(roster.Protocol, false, func(ctx context.Context, in host.Inbound) {
		if err := l.syncer.Serve(ctx, in.Node, in.Seen, in); err != nil && ctx.Err() == nil {
			l.cfg.Log.Debug("roster not compared", "node", in.Node, "err", err)
		}
	})
	l.host.Handle(host.WireGuard, false, func(ctx context.Context, in host.Inbound) {
		_ = l.tunnel.ServeStream(ctx, tunnel.NodeID(in.Node), in) // ends as streams end
	})
	if err := l.passStrays(c); err != nil {
		return err
	}
	l.host.Handle(farewell, true, l.answerFarewell)
	l.host.Handle(reminder, true, l.answerReminder)
	l.gossip, err = gossip.New(gossip.Config{Self: l.self.NodeID(), Key: l.cfg.Key, Network: l.Network(), Log: l.cfg.Log})
	if err != nil {
		return err
	}
	l.gossip.Subscribe(func(e gossip.Event) {
		if e.Kind != gossip.Announced && e.Kind != gossip.Updated {
			l.kick()
		}
	})
	c.Watch(l.kick)
	l.apply()
	return nil
}

// Gossip is what nodes tell each other of themselves, from Attach on.
func (l *Link) Gossip() *gossip.Gossip { return l.gossip }

// Serve has f run while the network is up. It is to be called before Run.
func (l *Link) Serve(f func(context.Context) error) { l.also = append(l.also, f) }

// members is the roster as libp2p asks for it.
type members struct{ c *cluster.Cluster }

func (m members) Member(node string) bool { return m.c.Roster().Member(node) == nil }

// Removed tells whom this node does not even answer: one that is kept out here,
// and of which no operator has signed that it is removed, which it is told.
func (m members) Removed(node string) bool { return m.c.Blocked(node) && !m.c.RemovalSigned(node) }

func (l *Link) kick() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// connected are the members that libp2p has a connection to.
func (l *Link) connected() (nodes []string) {
	for _, p := range l.host.Peers() {
		if p.Path != host.PathNone {
			nodes = append(nodes, p.Node)
		}
	}
	return nodes
}

// where is the address at which we see a member.
func (l *Link) where(node string) string {
	for _, p := range l.host.Peers() {
		if p.Node == node && p.Path == host.PathDirect {
			return p.Addr
		}
	}
	return ""
}

// Close frees a link that was never run.
func (l *Link) Close() error {
	l.tunnel.Close()
	return nil
}

const (
	renewEvery = 5 * time.Second        // how often this node looks whether it is where it was
	pause      = 100 * time.Millisecond // between two looks at what has changed: much comes at once
)

// ErrRemoved is why a link ends by itself: operators have removed this node from
// the cluster, and no other talks to it.
var ErrRemoved = errors.New("this node was removed from the cluster")

// Run links this node to the others until ctx is done, or the node is removed.
func (l *Link) Run(ctx context.Context) error {
	if l.cluster.Gone() {
		return ErrRemoved
	}
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	l.Serve(func(ctx context.Context) error {
		if l.awaitFarewell(ctx); l.cluster.Gone() {
			cut(ErrRemoved)
		}
		return nil
	})
	l.Serve(l.remindAll)
	err := l.run(ctx)
	if errors.Is(context.Cause(ctx), ErrRemoved) {
		return ErrRemoved
	}
	return err
}

func (l *Link) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return portTrouble(l.tunnel.Run(ctx), l.cfg.Listen) })
	g.Go(func() error {
		select {
		case <-l.tunnel.Running():
		case <-ctx.Done():
			return nil
		}
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return l.host.Run(ctx, l.tunnel.LocalAddr()) })
		g.Go(func() error { return l.syncer.Run(ctx) })
		g.Go(func() error { return l.gossip.Run(ctx) })
		g.Go(func() error { return l.tend(ctx) })
		for _, f := range l.also {
			g.Go(func() error { return f(ctx) })
		}
		return g.Wait()
	})
	return g.Wait()
}

// tend keeps the tables of all parts as the roster has them, and the record of
// this node as it is.
func (l *Link) tend(ctx context.Context) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	select {
	case <-l.host.Running():
	case <-ctx.Done():
		return nil
	}
	for ctx.Err() == nil {
		l.apply()
		l.look()
		if err := l.rotate(timeNow()); err != nil {
			l.cfg.Log.Error("the key of the tunnel is not changed yet", "err", err)
		}
		if err := l.renew(); err != nil {
			l.cfg.Log.Error("this node cannot say where it is", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-l.changed:
		}
	}
	return nil
}
