package tunnel_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

// world is two nodes that can be moved and cut off.
type world struct {
	net    *tunneltest.Network
	relays *tunneltest.Relays
}

func newWorld(t *testing.T, seed uint64) world {
	w := world{tunneltest.New(seed), tunneltest.NewRelays()}
	t.Cleanup(w.net.Close)
	t.Cleanup(w.relays.Close)
	return w
}

func (w world) pair(t *testing.T, a, b *tunneltest.Host) (*tunneltest.Node, *tunneltest.Node) {
	t.Helper()
	x, y := tunneltest.Start(t, a, w.relays, nil), tunneltest.Start(t, b, w.relays, nil)
	tunneltest.Join(t, x, y)
	return x, y
}

func direct(t *testing.T, a, b *tunneltest.Node) {
	t.Helper()
	until(t, "both ends send directly", func() bool {
		return pathTo(a, b) == tunnel.PathDirect && pathTo(b, a) == tunnel.PathDirect
	})
}

// chat keeps a connection in use, so that its paths are looked after.
func chat(t *testing.T, c net.Conn, back net.Conn) {
	t.Helper()
	pass(t, c, back, 1000)
	pass(t, back, c, 1000)
}

// while chats until cond holds.
func while(t *testing.T, c, back net.Conn, what string, cond func() bool) {
	t.Helper()
	until(t, what, func() bool {
		chat(t, c, back)
		return cond()
	})
}

func TestBlackholeGoesToRelayAndBack(t *testing.T) {
	t.Parallel()
	a, b, n, _ := tunneltest.Pair(t)
	client, server := connect(t, a, b, 8400)
	while(t, client, server, "direct", func() bool { return pathTo(a, b) == tunnel.PathDirect })
	n.Usual(tunneltest.Link{Down: true})
	while(t, client, server, "relay", func() bool { return pathTo(a, b) == tunnel.PathRelay && pathTo(b, a) == tunnel.PathRelay })
	n.Usual(tunneltest.Link{})
	while(t, client, server, "direct again", func() bool { return pathTo(a, b) == tunnel.PathDirect && pathTo(b, a) == tunnel.PathDirect })
	if s := statsOf(a, b); s.RelaySent == 0 || s.RelayReceived == 0 || s.Sent == 0 || s.LastHandshake.IsZero() {
		t.Errorf("counters say that nothing was sent: %+v", s)
	}
}

func TestOneWayBlackholeGoesToRelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	x, y := w.net.Host("alpha", "203.0.113.1"), w.net.Host("bravo", "203.0.113.2")
	a, b := w.pair(t, x, y)
	client, server := connect(t, a, b, 8400)
	direct(t, a, b)
	w.net.OneWay(x, y, tunneltest.Link{Down: true})
	while(t, client, server, "relay from a", func() bool { return pathTo(a, b) == tunnel.PathRelay })
}

func TestLargePacketBlackholeGoesToRelay(t *testing.T) {
	t.Parallel()
	a, b, n, _ := tunneltest.Pair(t)
	client, server := connect(t, a, b, 8400)
	direct(t, a, b)
	n.Usual(tunneltest.Link{MTU: 1200}) // small packets pass
	while(t, client, server, "relay", func() bool { return pathTo(a, b) == tunnel.PathRelay && pathTo(b, a) == tunnel.PathRelay })
	pass(t, client, server, 300<<10)
}

func TestHandshakeSurvivesLossDuplicatesAndDisorder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		w := newWorld(t, seed)
		w.net.Usual(tunneltest.Link{Delay: 3 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.1, Duplicate: 0.3, Reorder: 0.3})
		a, b := w.pair(t, w.net.Host("alpha", "203.0.113.1"), w.net.Host("bravo", "203.0.113.2"))
		client, server := connect(t, a, b, 8400)
		pass(t, client, server, 20_000)
		a.Stop(t)
		b.Stop(t)
	}
}

// Every packet of a handshake may be the one that is lost, or come twice.
func TestEachHandshakePacketMayBeLostOrComeTwice(t *testing.T) {
	t.Parallel()
	for kind := byte(1); kind <= 2; kind++ {
		w := newWorld(t, 1)
		var lost atomic.Bool
		w.net.Tap(func(_, _ *tunneltest.Host, d []byte) bool { return d[0] != kind || lost.Swap(true) })
		a, b := w.pair(t, w.net.Host("alpha", "203.0.113.1"), w.net.Host("bravo", "203.0.113.2"))
		begun := time.Now()
		client, server := connect(t, a, b, 8400)
		chat(t, client, server)
		if d := time.Since(begun); d > 4*time.Second {
			t.Errorf("without the first message of type %d it took %v; WireGuard alone takes 5 s", kind, d)
		}
		if !lost.Load() {
			t.Errorf("there was no message of type %d", kind)
		}
		a.Stop(t)
		b.Stop(t)
	}
}

// Both begin at once: one handshake wins, and nobody waits for five seconds.
func TestCrossingHandshakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.net.Usual(tunneltest.Link{Delay: 20 * time.Millisecond})
	a, b := w.pair(t, w.net.Host("alpha", "203.0.113.1"), w.net.Host("bravo", "203.0.113.2"))
	begun := time.Now()
	done := make(chan error, 2)
	for _, n := range []struct{ from, to *tunneltest.Node }{{a, b}, {b, a}} {
		l, err := n.to.Listen(8400)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c, err := n.from.Dial(ctx, n.to.ID, 8400)
			if err == nil {
				c.Close()
			}
			done <- err
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(begun); d > 4*time.Second {
		t.Errorf("it took %v", d)
	}
}

// A recording of everything that was ever sent, played back from elsewhere,
// moves no path and breaks nothing.
func TestReplayFromElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	x, y, z := w.net.Host("alpha", "203.0.113.1"), w.net.Host("bravo", "203.0.113.2"), w.net.Host("zulu", "203.0.113.66")
	var record [][]byte
	w.net.Tap(func(from, _ *tunneltest.Host, d []byte) bool {
		if from != z && len(record) < 500 { // the tap runs one at a time
			record = append(record, append([]byte(nil), d...))
		}
		return true
	})
	a, b := w.pair(t, x, y)
	client, server := connect(t, a, b, 8400)
	chat(t, client, server)
	direct(t, a, b)
	w.net.Tap(nil)
	evil, err := z.Listen(netip.MustParseAddrPort("203.0.113.66:51820"))
	if err != nil {
		t.Fatal(err)
	}
	defer evil.Close()
	for range 3 {
		evil.Send(record, netip.MustParseAddrPort("203.0.113.1:51820"))
		evil.Send(record, netip.MustParseAddrPort("203.0.113.2:51820"))
		chat(t, client, server)
	}
	for _, s := range []tunnel.PeerStats{statsOf(a, b), statsOf(b, a)} {
		if s.Endpoint.Addr() == netip.MustParseAddr("203.0.113.66") || s.Path == tunnel.PathNone {
			t.Errorf("after the replay packets go to %v by %s", s.Endpoint, s.Path)
		}
	}
}

func TestPeerRoams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	x, y := w.net.Host("alpha", "203.0.113.1"), w.net.Host("bravo", "203.0.113.2")
	a, b := w.pair(t, x, y)
	client, server := connect(t, a, b, 8400)
	direct(t, a, b)
	x.Move("198.51.100.7")
	while(t, client, server, "b sends to the new address", func() bool {
		return statsOf(b, a).Endpoint.Addr() == netip.MustParseAddr("198.51.100.7") && pathTo(a, b) == tunnel.PathDirect
	})
}

func TestRouterForgetsItsMappings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	nat := w.net.NAT(tunneltest.Preserving, "198.51.100.1")
	a, b := w.pair(t, w.net.Behind(nat, "alpha", "10.0.0.2"), w.net.Host("bravo", "203.0.113.2"))
	client, server := connect(t, a, b, 8400)
	direct(t, a, b)
	if seen := a.Observed(); len(seen) != 1 || seen[0].Addr() != netip.MustParseAddr("198.51.100.1") {
		t.Errorf("a was seen at %v, want the address of its router", seen)
	}
	nat.Forget()
	chat(t, client, server)
	while(t, client, server, "direct again", func() bool { return pathTo(b, a) == tunnel.PathDirect })
}

// A third node that both can reach shows them their outer addresses.
func behindNATs(t *testing.T, kind tunneltest.Kind) (a, b *tunneltest.Node) {
	w := newWorld(t, 1)
	x := w.net.Behind(w.net.NAT(kind, "198.51.100.1"), "alpha", "10.0.0.2")
	y := w.net.Behind(w.net.NAT(kind, "198.51.100.2"), "bravo", "10.0.0.2")
	a, b = tunneltest.Start(t, x, w.relays, nil), tunneltest.Start(t, y, w.relays, nil)
	c := tunneltest.Start(t, w.net.Host("carol", "203.0.113.3"), w.relays, nil)
	tunneltest.Join(t, a, b, c)
	until(t, "a and b know how they are seen", func() bool { return len(a.Observed()) > 0 && len(b.Observed()) > 0 })
	return a, b
}

func TestTwoNATsThatKeepPortsAreCrossed(t *testing.T) {
	t.Parallel()
	a, b := behindNATs(t, tunneltest.Preserving)
	client, server := connect(t, a, b, 8400)
	while(t, client, server, "direct", func() bool { return pathTo(a, b) == tunnel.PathDirect && pathTo(b, a) == tunnel.PathDirect })
}

func TestTwoSymmetricNATsStayOnTheRelay(t *testing.T) {
	t.Parallel()
	a, b := behindNATs(t, tunneltest.Symmetric)
	client, server := connect(t, a, b, 8400)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		chat(t, client, server)
		if pathTo(a, b) != tunnel.PathRelay || pathTo(b, a) != tunnel.PathRelay {
			t.Fatalf("packets go by %s and %s, want relay", pathTo(a, b), pathTo(b, a))
		}
	}
	if l := statsOf(a, b).Limit; l != tunnel.LimitRelay {
		t.Errorf("the limit is %q, want %q", l, tunnel.LimitRelay)
	}
}

func TestKeyRotationKeepsConnections(t *testing.T) {
	t.Parallel()
	a, b, n, _ := tunneltest.Pair(t)
	n.Usual(tunneltest.Link{Delay: 5 * time.Millisecond})
	client, server := connect(t, a, b, 8400)
	chat(t, client, server)
	old := a.Key
	for range 2 {
		key := tunnel.NewPrivateKey()
		row := a.Peer()
		row.Keys = []tunnel.PublicKey{key.Public(), old.Public()}
		if err := b.SetPeers([]tunnel.Peer{row}); err != nil {
			t.Fatal(err)
		}
		chat(t, client, server) // with the old key still
		begun := time.Now()
		if err := a.Rotate(key); err != nil {
			t.Fatal(err)
		}
		chat(t, client, server)
		chat(t, server, client)
		if d := time.Since(begun); d > 3*time.Second {
			t.Errorf("the connection stood still for %v", d)
		}
		row.Keys = row.Keys[:1]
		if err := b.SetPeers([]tunnel.Peer{row}); err != nil {
			t.Fatal(err)
		}
		chat(t, client, server)
		old = key
	}
}

// Neither end has anything to say when the key changes: the first that speaks
// later is heard.
func TestKeyRotationOfAnIdlePeer(t *testing.T) {
	t.Parallel()
	a, b, _, _ := tunneltest.Pair(t)
	client, server := connect(t, a, b, 8400)
	chat(t, client, server)
	key := tunnel.NewPrivateKey()
	row := a.Peer()
	row.Keys = []tunnel.PublicKey{key.Public(), a.Key.Public()}
	if err := b.SetPeers([]tunnel.Peer{row}); err != nil {
		t.Fatal(err)
	}
	if err := a.Rotate(key); err != nil {
		t.Fatal(err)
	}
	pass(t, server, client, 1000) // the other end speaks first
}

// Both change their keys at the same moment: neither can shake hands with what
// it takes for the key of the other, until probes show the new ones.
func TestBothRotateAtOnce(t *testing.T) {
	t.Parallel()
	a, b, _, _ := tunneltest.Pair(t)
	client, server := connect(t, a, b, 8400)
	chat(t, client, server)
	keys := map[*tunneltest.Node]tunnel.PrivateKey{a: tunnel.NewPrivateKey(), b: tunnel.NewPrivateKey()}
	for n, key := range keys {
		row, other := n.Peer(), b
		if n == b {
			other = a
		}
		row.Keys = []tunnel.PublicKey{key.Public(), n.Key.Public()}
		if err := other.SetPeers([]tunnel.Peer{row}); err != nil {
			t.Fatal(err)
		}
	}
	for n, key := range keys {
		if err := n.Rotate(key); err != nil {
			t.Fatal(err)
		}
	}
	chat(t, client, server)
	chat(t, server, client)
}

func TestRemovedPeerIsCutOff(t *testing.T) {
	t.Parallel()
	a, b, _, _ := tunneltest.Pair(t)
	client, server := connect(t, a, b, 8400)
	chat(t, client, server)
	if err := b.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	server.SetReadDeadline(time.Now().Add(3 * time.Second))
	var late net.Error
	if _, err := server.Read(make([]byte, 1)); err == nil || errors.As(err, &late) && late.Timeout() {
		t.Errorf("the connection of a removed peer lives: %v", err)
	}
	if _, ok := b.NodeOf(client.LocalAddr()); ok {
		t.Error("the address of a removed peer has a node")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, err := a.Dial(ctx, b.ID, 8400); err == nil {
		t.Error("a removed peer connected")
	}
	if _, err := b.Dial(ctx, a.ID, 8400); err == nil || !strings.Contains(err.Error(), "not a peer") {
		t.Errorf("dialling a removed peer: %v", err)
	}
}

func TestSleepAndWake(t *testing.T) {
	t.Parallel()
	a, b, n, _ := tunneltest.Pair(t)
	client, server := connect(t, a, b, 8400)
	direct(t, a, b)
	n.Isolate(a.Host, true) // it sleeps
	go client.Write([]byte("x"))
	time.Sleep(300 * time.Millisecond)
	n.Isolate(a.Host, false)
	a.Wake()
	if got := pathTo(a, b); got == tunnel.PathNone {
		t.Error("the path was given up instead of doubted")
	}
	server.SetReadDeadline(time.Now().Add(patience))
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	chat(t, client, server)
	while(t, client, server, "direct", func() bool { return pathTo(a, b) == tunnel.PathDirect })
}

func TestPackets(t *testing.T) {
	t.Parallel()
	a, b, _, _ := tunneltest.Pair(t)
	x, err := a.ListenPacket(7946)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	y, err := b.ListenPacket(7946)
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close()
	to, _ := a.AddrOf(b.ID, 7946)
	buf := make([]byte, 100)
	until(t, "a packet arrives", func() bool {
		x.WriteTo([]byte("hello"), to)
		y.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, from, err := y.ReadFrom(buf)
		if err != nil {
			return false
		}
		who, ok := b.NodeOf(from)
		return ok && who == a.ID && string(buf[:n]) == "hello"
	})
}

func TestShutdownLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	w := world{tunneltest.New(1), tunneltest.NewRelays()}
	a, b := w.pair(t, w.net.Host("alpha", "203.0.113.1"), w.net.Host("bravo", "203.0.113.2"))
	client, server := connect(t, a, b, 8400)
	w.net.Usual(tunneltest.Link{Down: true})
	while(t, client, server, "relay", func() bool { return pathTo(a, b) == tunnel.PathRelay })
	if _, err := a.Listen(1); err != nil {
		t.Fatal(err)
	}
	a.Stop(t)
	b.Stop(t)
	w.relays.Close()
	w.net.Close()
	left := ""
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		buf := make([]byte, 1<<20)
		left = string(buf[:runtime.Stack(buf, true)])
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), left)
}

func TestCloseWithoutRun(t *testing.T) {
	before := runtime.NumGoroutine()
	x, err := tunnel.New(tunnel.Config{
		Self: "alpha", PrivateKey: tunnel.NewPrivateKey(), Address: tunneltest.Address("alpha"),
		Listen: netip.MustParseAddrPort("127.0.0.1:0"),
	})
	if err != nil {
		t.Fatal(err)
	}
	x.Close()
	until(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}
