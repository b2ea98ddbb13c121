package tunneltest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/tunnel"
)

// Address returns the address in the tunnel that tests give to a node.
func Address(id tunnel.NodeID) netip.Addr {
	sum := sha256.Sum256([]byte(id))
	b := [16]byte{0xfd, 'h', 'o', 'l', 'd', 'f', 0, 0}
	copy(b[8:], sum[:])
	return netip.AddrFrom16(b)
}

// A Node is a running tunnel of a test.
type Node struct {
	*tunnel.Tunnel
	ID   tunnel.NodeID
	Key  tunnel.PrivateKey
	Host *Host

	stop context.CancelFunc
	done chan error
}

// Start runs a tunnel on a host, until the test ends or Stop. change, if not
// nil, changes the configuration first.
func Start(tb testing.TB, h *Host, relays *Relays, change func(*tunnel.Config)) *Node {
	tb.Helper()
	id := tunnel.NodeID(h.Name)
	cfg := tunnel.Config{
		Self:       id,
		PrivateKey: tunnel.NewPrivateKey(),
		Address:    Address(id),
		Listen:     netip.MustParseAddrPort("[::]:51820"),
		ListenUDP:  h.Listen,
		Addresses:  h.Addresses,
		Log:        slog.New(slog.NewTextHandler(logTo(), nil)).With("node", id),
	}
	if relays != nil {
		cfg.Relay = relays.For(id)
	}
	if change != nil {
		change(&cfg)
	}
	t, err := tunnel.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n := &Node{Tunnel: t, ID: id, Key: cfg.PrivateKey, Host: h, stop: stop, done: make(chan error, 1)}
	if relays != nil {
		relays.Add(id, t)
	}
	go func() { n.done <- t.Run(ctx) }()
	tb.Cleanup(func() { n.Stop(tb) })
	select {
	case <-t.Running():
	case err := <-n.done:
		tb.Fatal(err)
	}
	return n
}

// Stop ends the tunnel and waits for it; it is safe to repeat.
func (n *Node) Stop(tb testing.TB) {
	n.stop()
	if err, ok := <-n.done; ok {
		close(n.done)
		if err != nil {
			tb.Errorf("tunnel of %s: %v", n.ID, err)
		}
	}
}

// Peer returns the row of the table for n. Its endpoints are the addresses of
// its host, unless that is behind a NAT: then nobody knows any.
func (n *Node) Peer() tunnel.Peer {
	p := tunnel.Peer{ID: n.ID, Keys: []tunnel.PublicKey{n.Key.Public()}, Address: Address(n.ID)}
	if n.Host.nat == nil {
		addresses, _ := n.Host.Addresses()
		for _, a := range addresses {
			p.Endpoints = append(p.Endpoints, netip.AddrPortFrom(a, n.LocalAddr().Port()))
		}
	}
	return p
}

// Join makes all nodes peers of each other.
func Join(tb testing.TB, nodes ...*Node) {
	tb.Helper()
	for _, n := range nodes {
		var table []tunnel.Peer
		for _, o := range nodes {
			if o != n {
				table = append(table, o.Peer())
			}
		}
		if err := n.SetPeers(table); err != nil {
			tb.Fatal(err)
		}
	}
}

// Pair returns two linked tunnels on a perfect network, with streams between
// them should UDP fail.
func Pair(tb testing.TB) (a, b *Node, n *Network, r *Relays) {
	tb.Helper()
	n, r = New(1), NewRelays()
	tb.Cleanup(n.Close)
	tb.Cleanup(r.Close)
	a = Start(tb, n.Host("alpha", "203.0.113.1"), r, nil)
	b = Start(tb, n.Host("bravo", "203.0.113.2"), r, nil)
	Join(tb, a, b)
	return a, b, n, r
}

// logTo returns where tunnels of a test write their log: nowhere without -v.
func logTo() io.Writer {
	if testing.Verbose() {
		return os.Stderr
	}
	return io.Discard
}

// Relays stands in for streams of libp2p: in memory, and perfect while up.
type Relays struct {
	wait sync.WaitGroup

	mu      sync.Mutex
	nodes   map[tunnel.NodeID]*tunnel.Tunnel
	streams []io.Closer
	down    bool
	opened  int
}

// NewRelays returns relays that connect no node yet; Start adds them.
func NewRelays() *Relays { return &Relays{nodes: map[tunnel.NodeID]*tunnel.Tunnel{}} }

// Add makes a tunnel one that streams can be opened to.
func (r *Relays) Add(id tunnel.NodeID, t *tunnel.Tunnel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes[id] = t
}

// Down ends all streams and refuses new ones, or ends that.
func (r *Relays) Down(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down = down; down {
		for _, s := range r.streams {
			s.Close()
		}
		r.streams = nil
	}
}

// Opened returns how many streams were opened so far.
func (r *Relays) Opened() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opened
}

// Close ends all streams and waits for those who serve them.
func (r *Relays) Close() {
	r.Down(true)
	r.wait.Wait()
}

// For returns the relay of one node, for its tunnel.Config.
func (r *Relays) For(id tunnel.NodeID) tunnel.Relay { return relay{r, id} }

type relay struct {
	*Relays
	self tunnel.NodeID
}

var errDown = errors.New("relay is down")

// Open opens a stream to a node, which serves it.
func (r relay) Open(_ context.Context, node tunnel.NodeID) (io.ReadWriteCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.nodes[node]
	if r.down || t == nil {
		return nil, fmt.Errorf("open stream to %s: %w", node, errDown)
	}
	ours, theirs := net.Pipe()
	r.streams = append(r.streams, ours, theirs)
	r.opened++
	r.wait.Go(func() { _ = t.ServeStream(context.Background(), r.self, theirs) })
	return ours, nil
}
