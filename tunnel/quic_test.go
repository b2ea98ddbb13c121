package tunnel_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"

	"github.com/holdfast-mesh/holdfast/tunnel"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

// loopback runs a tunnel at a real port of 127.0.0.1.
func loopback(t *testing.T, id tunnel.NodeID, change func(*tunnel.Config)) (*tunnel.Tunnel, tunnel.Peer) {
	t.Helper()
	cfg := tunnel.Config{
		Self: id, PrivateKey: tunnel.NewPrivateKey(), Address: tunneltest.Address(id),
		Listen: netip.MustParseAddrPort("127.0.0.1:0"),
	}
	if change != nil {
		change(&cfg)
	}
	x, err := tunnel.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-x.Running()
	return x, tunnel.Peer{ID: id, Keys: []tunnel.PublicKey{cfg.PrivateKey.Public()}, Address: cfg.Address,
		Endpoints: []netip.AddrPort{x.LocalAddr()}, MTU: cfg.MTU}
}

// quicHost is a libp2p host that speaks QUIC on the mesh port of x.
func quicHost(t *testing.T, x *tunnel.Tunnel) host.Host {
	t.Helper()
	private, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(libp2p.Identity(private), libp2p.Transport(quic.NewTransport), libp2p.DisableRelay(), libp2p.DisableMetrics(),
		libp2p.ListenAddrStrings(fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", x.LocalAddr().Port())),
		libp2p.QUICReuse(quicreuse.NewConnManager, quicreuse.OverrideListenUDP(func(network string, _ *net.UDPAddr) (net.PacketConn, error) {
			return x.QUICConn(network), nil
		})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// libp2p's QUIC and WireGuard share one real UDP port, and both work.
func TestQUICOfLibp2pOnTheMeshPort(t *testing.T) {
	a, pa := loopback(t, "alpha", nil)
	b, pb := loopback(t, "bravo", nil)
	if err := a.SetPeers([]tunnel.Peer{pb}); err != nil {
		t.Fatal(err)
	}
	if err := b.SetPeers([]tunnel.Peer{pa}); err != nil {
		t.Fatal(err)
	}
	x, y := quicHost(t, a), quicHost(t, b)
	y.SetStreamHandler("/echo", func(s network.Stream) {
		io.Copy(s, s)
		s.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := x.Connect(ctx, peer.AddrInfo{ID: y.ID(), Addrs: y.Addrs()}); err != nil {
		t.Fatal(err)
	}
	s, err := x.NewStream(ctx, y.ID(), "/echo")
	if err != nil {
		t.Fatal(err)
	}
	client, server := connect(t, &tunneltest.Node{Tunnel: a, ID: "alpha"}, &tunneltest.Node{Tunnel: b, ID: "bravo"}, 8400)
	data := bytes.Repeat([]byte("quic"), 50_000)
	go func() {
		s.Write(data)
		s.CloseWrite()
	}()
	pass(t, client, server, 1<<20)
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, %v, want %d", len(got), err, len(data))
	}
}

func TestRealSocketsWithAndWithoutOffloadAndJumbo(t *testing.T) {
	for _, change := range []func(*tunnel.Config){
		func(c *tunnel.Config) { c.NoUDPGSO = true },
		func(c *tunnel.Config) { c.MTU = 8920 },
	} {
		a, pa := loopback(t, "alpha", change)
		b, pb := loopback(t, "bravo", change)
		if err := a.SetPeers([]tunnel.Peer{pb}); err != nil {
			t.Fatal(err)
		}
		if err := b.SetPeers([]tunnel.Peer{pa}); err != nil {
			t.Fatal(err)
		}
		client, server := connect(t, &tunneltest.Node{Tunnel: a, ID: "alpha"}, &tunneltest.Node{Tunnel: b, ID: "bravo"}, 8400)
		pass(t, client, server, 4<<20)
	}
}

// A long sleep: the peers have forgotten the keys, so hands are shaken anew
// and the connection goes on.
func TestLongSleepShakesHandsAnew(t *testing.T) {
	a, b, n, _ := tunneltest.Pair(t)
	client, server := connect(t, a, b, 8400)
	chat(t, client, server)
	handshakes := make(chan struct{}, 100)
	n.Tap(func(from, _ *tunneltest.Host, d []byte) bool {
		if from == a.Host && d[0] == 1 {
			handshakes <- struct{}{}
		}
		return true
	})
	a.Slept(10 * time.Second)
	chat(t, client, server)
	if len(handshakes) > 0 {
		t.Error("hands were shaken after a nap")
	}
	a.Slept(10 * time.Minute)
	chat(t, client, server)
	if len(handshakes) == 0 {
		t.Error("hands were not shaken after a long sleep")
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	good := tunnel.Config{Self: "alpha", PrivateKey: tunnel.NewPrivateKey(), Address: tunneltest.Address("alpha"),
		Listen: netip.MustParseAddrPort("127.0.0.1:0")}
	for name, change := range map[string]func(*tunnel.Config){
		"no ID":          func(c *tunnel.Config) { c.Self = "" },
		"no key":         func(c *tunnel.Config) { c.PrivateKey = tunnel.PrivateKey{} },
		"IPv4":           func(c *tunnel.Config) { c.Address = netip.MustParseAddr("10.0.0.1") },
		"public address": func(c *tunnel.Config) { c.Address = netip.MustParseAddr("2001:db8::1") },
		"nowhere":        func(c *tunnel.Config) { c.Listen = netip.AddrPort{} },
		"small MTU":      func(c *tunnel.Config) { c.MTU = 1279 },
	} {
		c := good
		change(&c)
		if x, err := tunnel.New(c); err == nil {
			x.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	x, err := tunnel.New(good)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	row := func(change func(*tunnel.Peer)) tunnel.Peer {
		p := tunnel.Peer{ID: "bravo", Keys: []tunnel.PublicKey{tunnel.NewPrivateKey().Public()}, Address: tunneltest.Address("bravo")}
		change(&p)
		return p
	}
	fine := row(func(*tunnel.Peer) {})
	if err := x.SetPeers([]tunnel.Peer{fine}); err != nil {
		t.Errorf("a table without fault: %v", err)
	}
	// One member that said something wrong of itself cut all others off, and no daemon started any more.
	for name, bad := range map[string]tunnel.Peer{
		"no key":        row(func(p *tunnel.Peer) { p.ID, p.Keys = "carol", nil }),
		"ourselves":     row(func(p *tunnel.Peer) { p.ID = "alpha" }),
		"twice":         row(func(*tunnel.Peer) {}),
		"our address":   row(func(p *tunnel.Peer) { p.ID, p.Address = "carol", good.Address }),
		"its address":   row(func(p *tunnel.Peer) { p.ID = "carol" }),
		"other network": row(func(p *tunnel.Peer) { p.ID, p.Address = "carol", netip.MustParseAddr("fd00::1") }),
		"large MTU":     row(func(p *tunnel.Peer) { p.ID, p.MTU = "carol", 1281 }),
		"our key":       row(func(p *tunnel.Peer) { p.ID, p.Keys[0] = "carol", good.PrivateKey.Public() }),
		"bad key":       row(func(p *tunnel.Peer) { p.ID, p.Keys[0] = "carol", tunnel.PublicKey{1} }),
		"same key":      row(func(p *tunnel.Peer) { p.ID, p.Address, p.Keys = "carol", tunneltest.Address("carol"), fine.Keys }),
	} {
		for _, table := range [][]tunnel.Peer{{bad, fine}, {fine, bad}} {
			if err := x.SetPeers(table); err == nil {
				t.Errorf("%s: accepted", name)
			}
			if stats := x.Stats(); len(stats) != 1 || stats[0].ID != fine.ID {
				t.Errorf("%s: the peers are %+v", name, stats)
			}
		}
	}
	if _, ok := x.NodeOf(net.TCPAddrFromAddrPort(netip.AddrPortFrom(fine.Address, 1))); !ok {
		t.Error("the peer is not known")
	}
}
