package tunnel

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"

	"github.com/holdfast-mesh/holdfast/tunnel"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

const protocol = "/holdfast/wg/1"

// A circuit opens streams of the tunnel through a relay of libp2p.
type circuit struct {
	host    host.Host
	relayed []multiaddr.Multiaddr // the relay, and "/p2p-circuit"

	mu     sync.Mutex
	opened int
	limits []bool // of the connections that streams went through
}

func (c *circuit) Open(ctx context.Context, node tunnel.NodeID) (io.ReadWriteCloser, error) {
	id, err := peer.Decode(string(node))
	if err != nil {
		return nil, err
	}
	ctx = network.WithAllowLimitedConn(ctx, "wireguard")
	if err := c.host.Connect(ctx, peer.AddrInfo{ID: id, Addrs: c.relayed}); err != nil {
		return nil, err
	}
	s, err := c.host.NewStream(ctx, id, protocol)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened++
	c.limits = append(c.limits, s.Conn().Stat().Limited)
	return s, nil
}

func newHost(t *testing.T, options ...libp2p.Option) host.Host {
	t.Helper()
	private, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(append(options, libp2p.Identity(private), libp2p.Transport(tcp.NewTCPTransport), libp2p.DisableMetrics())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// behindRelay returns a tunnel on a host of the simulated network, whose host
// of libp2p listens nowhere and has a place at the relay.
func behindRelay(t *testing.T, n *tunneltest.Network, r host.Host, address string) (*tunneltest.Node, *circuit) {
	t.Helper()
	c := &circuit{host: newHost(t, libp2p.NoListenAddrs, libp2p.EnableRelay())}
	at := peer.AddrInfo{ID: r.ID(), Addrs: r.Addrs()}
	if err := c.host.Connect(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Reserve(t.Context(), c.host, at); err != nil {
		t.Fatal(err)
	}
	for _, a := range r.Addrs() {
		c.relayed = append(c.relayed, multiaddr.StringCast(fmt.Sprintf("%v/p2p/%v/p2p-circuit", a, r.ID())))
	}
	node := tunneltest.Start(t, n.Host(c.host.ID().String(), address), nil, func(cfg *tunnel.Config) { cfg.Relay = c })
	c.host.SetStreamHandler(protocol, func(s network.Stream) {
		_ = node.ServeStream(context.Background(), tunnel.NodeID(s.Conn().RemotePeer().String()), s) // the tunnel logs
	})
	return node, c
}

// echoed sends bytes over a connection and waits for them to come back.
func echoed(t *testing.T, c net.Conn, size int) {
	t.Helper()
	data := make([]byte, size)
	rand.Read(data)
	c.SetDeadline(time.Now().Add(patience))
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- err
	}()
	got := make([]byte, size)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil || !bytes.Equal(got, data) {
		t.Fatalf("what came back is not what was sent; %v", err)
	}
}

// Two nodes that reach nothing but a relay of libp2p: their TCP flows through a
// limited connection of circuit v2. UDP comes: direct. It goes: the relay
// again. It is one connection all the time.
func TestThroughACircuitOfLibp2p(t *testing.T) {
	r := newHost(t, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.ForceReachabilityPublic())
	limit := &relayv2.RelayLimit{Duration: 10 * time.Minute, Data: 64 << 20}
	service2, err := relayv2.New(r, relayv2.WithLimit(limit))
	if err != nil {
		t.Fatal(err)
	}
	defer service2.Close()
	n := tunneltest.New(1)
	defer n.Close()
	blocked := tunneltest.Link{Down: true}
	n.Usual(blocked)
	a, circuitA := behindRelay(t, n, r, "203.0.113.1")
	b, circuitB := behindRelay(t, n, r, "203.0.113.2")
	tunneltest.Join(t, a, b)
	l, err := b.Listen(service)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go io.Copy(c, c)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := a.Dial(ctx, b.ID, service)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	goes := func(by tunnel.Path) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; {
			echoed(t, c, 1000)
			if a.Stats()[0].Path == by && b.Stats()[0].Path == by {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("packets go by %s and %s, want %s", a.Stats()[0].Path, b.Stats()[0].Path, by)
			}
		}
	}
	goes(tunnel.PathRelay)
	echoed(t, c, 1<<20)
	if a.Stats()[0].RelaySent < 1<<20 {
		t.Errorf("%d bytes went by the relay, want more than a MiB", a.Stats()[0].RelaySent)
	}
	n.Usual(tunneltest.Link{})
	goes(tunnel.PathDirect)
	echoed(t, c, 1<<20)
	n.Usual(blocked)
	goes(tunnel.PathRelay)
	echoed(t, c, 100_000)
	for _, x := range []*circuit{circuitA, circuitB} {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, limited := range x.limits {
			if !limited {
				t.Error("a stream went through a connection that is not limited: not the relay")
			}
		}
	}
	if circuitA.opened+circuitB.opened == 0 {
		t.Error("no stream was opened")
	}
}
