package host

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/record"
	"github.com/holdfast-mesh/holdfast/tunnel"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

// carrier is the relay of a tunnel, as the node makes it.
type carrier struct{ *Host }

func (c carrier) Open(ctx context.Context, node tunnel.NodeID) (io.ReadWriteCloser, error) {
	return c.Carry(ctx, string(node))
}

// A pair is a tunnel and a host on one port, as in a node.
type pair struct {
	*tunnel.Tunnel
	host *Host
	key  tunnel.PrivateKey
	at   netip.Addr
}

func startPair(t *testing.T, n byte, r Roster, change func(*Config)) *pair {
	return startPairOn(t, nil, n, r, change)
}

// startPairOn has one on a simulated machine; nil: on this one.
func startPairOn(t *testing.T, on *tunneltest.Host, n byte, r Roster, change func(*Config)) *pair {
	t.Helper()
	p := &pair{key: tunnel.NewPrivateKey(), at: record.Address([16]byte{1}, record.KeyOf(key(n)))}
	cfg := Config{Key: key(n), Roster: r, Relay: RelayNever, QUIC: func(network string) net.PacketConn { return p.QUICConn(network) }}
	change(&cfg)
	var err error
	if p.host, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	below := tunnel.Config{
		Self: tunnel.NodeID(id(n)), PrivateKey: p.key, Address: p.at, Listen: loopback, Relay: carrier{p.host},
		Addresses: func() ([]netip.Addr, error) { return nil, nil },
	}
	if on != nil {
		below.Listen, below.ListenUDP, below.Addresses, below.Advertise = meshPort, on.Listen, on.Addresses, cfg.Advertise
	}
	if p.Tunnel, err = tunnel.New(below); err != nil {
		t.Fatal(err)
	}
	p.host.Handle(WireGuard, false, func(ctx context.Context, s Inbound) { p.ServeStream(ctx, tunnel.NodeID(s.Node), s) })
	ctx, cancel := context.WithCancel(context.Background())
	tunnelDone, hostDone := make(chan error, 1), make(chan error, 1)
	go func() { tunnelDone <- p.Run(ctx) }()
	<-p.Running()
	go func() { hostDone <- p.host.Run(ctx, p.LocalAddr()) }()
	<-p.host.Running()
	t.Cleanup(func() {
		cancel()
		for _, done := range []chan error{tunnelDone, hostDone} {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return p
}

func (p *pair) row() tunnel.Peer {
	return tunnel.Peer{ID: tunnel.NodeID(p.host.ID()), Keys: []tunnel.PublicKey{p.key.Public()}, Address: p.at}
}

// The tunnel and libp2p share a port. Where the tunnel knows no path by UDP, its
// first packets go over a stream of the host, here even through a third node;
// they also tell each other where to find a better one.
func TestTunnelOverTheHost(t *testing.T) {
	r := members(1, 2, 3)
	a, b := startPair(t, 1, r, func(*Config) {}), startPair(t, 2, r, func(*Config) {})
	c := startPair(t, 3, r, func(c *Config) { c.Relay = RelayYes })
	for _, text := range c.host.texts() {
		if strings.Contains(text, "/udp/") && !strings.Contains(text, c.LocalAddr().String()[len("127.0.0.1:"):]) {
			t.Errorf("QUIC is at %s, the tunnel at %s", text, c.LocalAddr())
		}
	}
	third := Known{Addrs: c.host.texts(), Relay: true}
	a.host.SetPeers(map[string]Known{c.host.ID(): third, b.host.ID(): {}})
	b.host.SetPeers(map[string]Known{c.host.ID(): third, a.host.ID(): {}})
	c.host.SetPeers(map[string]Known{a.host.ID(): {}, b.host.ID(): {}})
	if err := a.SetPeers([]tunnel.Peer{b.row()}); err != nil {
		t.Fatal(err)
	}
	if err := b.SetPeers([]tunnel.Peer{a.row()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "places at the relay", func() bool { return a.host.peer(c.host.ID()).Reserved && b.host.peer(c.host.ID()).Reserved })
	l, err := b.Listen(8400)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if conn, err := l.Accept(); err == nil {
			io.Copy(conn, conn)
			conn.Close()
		}
	}()
	conn, err := a.Dial(deadline(t), tunnel.NodeID(b.host.ID()), 8400)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "through"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "through" {
		t.Errorf("%q, %v", got, err)
	}
	for _, s := range a.Stats() {
		if s.RelaySent+s.RelayReceived == 0 {
			t.Errorf("nothing went over the stream: %+v", s)
		}
	}
}

var meshPort = netip.MustParseAddrPort("0.0.0.0:51820")

// A relay that dies without a word is left for another as soon as the tunnel misses
// answers. QUIC takes it for alive for half a minute, in which new streams went the same
// way: two voters behind NATs once had no quorum for that long.
func TestSilentRelayIsLeft(t *testing.T) {
	r := members(1, 2, 3, 4)
	net := tunneltest.New(1)
	t.Cleanup(net.Close)
	behind := func(n byte) *pair {
		nat := net.NAT(tunneltest.Symmetric, fmt.Sprintf("11.0.0.%d", n))
		return startPairOn(t, net.Behind(nat, fmt.Sprint(n), fmt.Sprintf("10.213.%d.10", n)), n, r, func(c *Config) { c.Simulated = true })
	}
	a, b := behind(1), behind(2)
	relays, machines := map[string]Known{}, map[string]*tunneltest.Host{}
	for n := range byte(2) {
		ip := netip.AddrFrom4([4]byte{11, 0, 0, 10 + n})
		at := netip.AddrPortFrom(ip, meshPort.Port())
		machine := net.Host(ip.String(), ip.String())
		p := startPairOn(t, machine, 3+n, r, func(c *Config) { c.Simulated, c.Relay, c.Advertise = true, RelayYes, []netip.AddrPort{at} })
		relays[p.host.ID()], machines[p.host.ID()] = Known{Addrs: p.host.texts(), Relay: true}, machine
		p.host.SetPeers(map[string]Known{a.host.ID(): {}, b.host.ID(): {}})
	}
	for p, other := range map[*pair]*pair{a: b, b: a} {
		all := maps.Clone(relays)
		all[other.host.ID()] = Known{}
		p.host.SetPeers(all)
		if err := p.SetPeers([]tunnel.Peer{other.row()}); err != nil {
			t.Fatal(err)
		}
	}
	for id := range relays {
		eventually(t, "places at both relays", func() bool { return a.host.peer(id).Reserved && b.host.peer(id).Reserved })
	}
	l, err := b.Listen(8400)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if conn, err := l.Accept(); err == nil {
			io.Copy(conn, conn)
			conn.Close()
		}
	}()
	conn, err := a.Dial(deadline(t), tunnel.NodeID(b.host.ID()), 8400)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	eventually(t, "a way through a relay", func() bool { return a.host.peer(b.host.ID()).Via != "" })
	died := a.host.peer(b.host.ID()).Via
	net.Isolate(machines[died], true)
	began := time.Now()
	conn.SetDeadline(time.Now().Add(25 * time.Second)) // QUIC needs more than 30 s
	if _, err := io.WriteString(conn, "around"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "around" {
		t.Errorf("%q, %v", got, err)
	}
	t.Logf("answered %s after the relay died", time.Since(began).Round(time.Millisecond))
	if p := a.host.peer(b.host.ID()); p.Via == died {
		t.Errorf("it goes through the dead relay still: %+v", p)
	}
	for _, s := range a.Stats() {
		if s.Path != "relay" {
			t.Errorf("there is another path: %+v", s)
		}
	}
}
