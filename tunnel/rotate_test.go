package tunnel_test

import (
	"io"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel"
	"github.com/holdfast-mesh/holdfast/tunnel/tunneltest"
)

// keyring is the keys of a node, newest first, as its peers know them.
type keyring struct {
	node *tunneltest.Node
	keys []tunnel.PrivateKey
}

func ringOf(n *tunneltest.Node) *keyring { return &keyring{n, []tunnel.PrivateKey{n.Key}} }

// announce makes a key and tells a peer of it.
func (k *keyring) announce(t *testing.T, to *tunneltest.Node) tunnel.PrivateKey {
	t.Helper()
	key := tunnel.NewPrivateKey()
	k.keys = append([]tunnel.PrivateKey{key}, k.keys...)
	k.tell(t, to)
	return key
}

func (k *keyring) tell(t *testing.T, to *tunneltest.Node) {
	t.Helper()
	row := k.node.Peer()
	row.Keys = nil
	for _, key := range k.keys {
		row.Keys = append(row.Keys, key.Public())
	}
	if err := to.SetPeers([]tunnel.Peer{row}); err != nil {
		t.Fatal(err)
	}
}

// forget drops all keys but the newest, at both ends.
func (k *keyring) forget(t *testing.T, at *tunneltest.Node) {
	t.Helper()
	k.node.EndOfGrace()
	k.keys = k.keys[:1]
	k.tell(t, at)
}

func rotate(t *testing.T, n *tunneltest.Node, key tunnel.PrivateKey) {
	t.Helper()
	if err := n.Rotate(key); err != nil {
		t.Fatal(err)
	}
}

// load fills a connection in both directions until the test ends; moved waits
// for so many more bytes in each.
type load struct{ there, back atomic.Int64 }

func fill(t *testing.T, a, b net.Conn) *load {
	l := new(load)
	pump := func(from, to net.Conn, count *atomic.Int64) {
		go func() {
			buf := make([]byte, 16<<10)
			for {
				if _, err := from.Write(buf); err != nil {
					return
				}
			}
		}()
		go func() {
			buf := make([]byte, 64<<10)
			for {
				n, err := to.Read(buf)
				if count.Add(int64(n)); err != nil {
					return
				}
			}
		}()
	}
	pump(a, b, &l.there)
	pump(b, a, &l.back)
	t.Cleanup(func() { a.Close(); b.Close() })
	return l
}

func (l *load) moved(t *testing.T, when string) {
	t.Helper()
	there, back := l.there.Load(), l.back.Load()
	until(t, "bytes in both directions "+when, func() bool {
		return l.there.Load() > there+100_000 && l.back.Load() > back+100_000
	})
}

func settled(t *testing.T, a, b *tunneltest.Node) {
	t.Helper()
	until(t, "packets go by the newest keys", func() bool { return a.Settled(b.ID) && b.Settled(a.ID) })
}

// slow is a line on which a handshake takes a while and a test does not need
// the whole machine.
var slow = tunneltest.Link{Delay: 10 * time.Millisecond, Rate: 20e6}

func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		link   tunneltest.Link
		rotate func(t *testing.T, a, b *keyring)
	}{
		"one end": {slow, func(t *testing.T, a, b *keyring) {
			rotate(t, a.node, a.announce(t, b.node))
		}},
		"both ends at once": {slow, func(t *testing.T, a, b *keyring) {
			x, y := a.announce(t, b.node), b.announce(t, a.node)
			rotate(t, a.node, x)
			rotate(t, b.node, y)
		}},
		"with loss": {tunneltest.Link{Delay: 10 * time.Millisecond, Rate: 20e6, Loss: 0.05}, func(t *testing.T, a, b *keyring) {
			rotate(t, a.node, a.announce(t, b.node))
		}},
		"twice, before anything moved": {slow, func(t *testing.T, a, b *keyring) {
			rotate(t, a.node, a.announce(t, b.node))
			rotate(t, a.node, a.announce(t, b.node))
		}},
		"the peer forgets the old key too soon": {slow, func(t *testing.T, a, b *keyring) {
			rotate(t, a.node, a.announce(t, b.node))
			a.keys = a.keys[:1]
			a.tell(t, b.node)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, y, n, _ := tunneltest.Pair(t)
			n.Usual(tt.link)
			client, server := connect(t, x, y, 8400)
			l := fill(t, client, server)
			l.moved(t, "before")
			a, b := ringOf(x), ringOf(y)
			tt.rotate(t, a, b)
			l.moved(t, "while keys change")
			settled(t, x, y)
			l.moved(t, "by the new keys")
			a.forget(t, y)
			b.forget(t, x)
			if x.Keys() != 1 || y.Keys() != 1 {
				t.Errorf("after the time of grace there are %d and %d keys, want one each", x.Keys(), y.Keys())
			}
			l.moved(t, "without the old keys")
		})
	}
}

// The peer starts anew while a key changes: it knows both keys and nothing of
// what was said before.
func TestPeerRestartsDuringRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.net.Usual(slow)
	x, y := w.net.Host("alpha", "203.0.113.1"), w.net.Host("bravo", "203.0.113.2")
	a, b := w.pair(t, x, y)
	client, server := connect(t, a, b, 8400)
	chat(t, client, server)
	ring := ringOf(a)
	key := ring.announce(t, b)
	b.Stop(t)
	rotate(t, a, key)
	same := func(c *tunnel.Config) { c.PrivateKey = b.Key }
	b = tunneltest.Start(t, y, w.relays, same)
	ring.tell(t, b)
	client, server = connect(t, a, b, 8401)
	chat(t, client, server)
	settled(t, a, b)
	ring.forget(t, b)
	chat(t, client, server)
}

// We start anew with the new key only, as a crash between its commit and the
// change leaves us: the peer finds out.
func TestRestartWithTheNewKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	x, y := w.net.Host("alpha", "203.0.113.1"), w.net.Host("bravo", "203.0.113.2")
	a, b := w.pair(t, x, y)
	client, server := connect(t, a, b, 8400)
	chat(t, client, server)
	ring := ringOf(a)
	key := ring.announce(t, b)
	a.Stop(t)
	a = tunneltest.Start(t, x, w.relays, func(c *tunnel.Config) { c.PrivateKey = key })
	if err := a.SetPeers([]tunnel.Peer{b.Peer()}); err != nil {
		t.Fatal(err)
	}
	client, server = connect(t, b, a, 8401) // the peer speaks first
	chat(t, client, server)
}

// Who was silent while our key changed, and speaks first when the old one is
// gone, is heard.
func TestSilentPeerAfterTheTimeOfGrace(t *testing.T) {
	t.Parallel()
	a, b, _, _ := tunneltest.Pair(t)
	client, server := connect(t, a, b, 8400)
	chat(t, client, server)
	ring := ringOf(a)
	rotate(t, a, ring.announce(t, b))
	a.EndOfGrace()
	pass(t, server, client, 1000)
}

// However often keys change there are few at a time, each with its goroutines,
// and none is left when their time is over.
func TestKeysAndGoroutinesAreBounded(t *testing.T) {
	a, b, _, _ := tunneltest.Pair(t)
	client, server := connect(t, a, b, 8400)
	chat(t, client, server)
	runtime.GC()
	before := runtime.NumGoroutine()
	ring := ringOf(a)
	most := 0
	for range 6 {
		rotate(t, a, ring.announce(t, b))
		settled(t, a, b)
		until(t, "the oldest key goes", func() bool { return a.Keys() <= 3 })
		most = max(most, runtime.NumGoroutine())
	}
	ring.forget(t, b)
	chat(t, client, server)
	if most > before+200 {
		t.Errorf("there were %d goroutines, %d before", most, before)
	}
	until(t, "goroutines of old keys end", func() bool { return runtime.NumGoroutine() <= before+4 })
}

// A flow of packets in one direction, which nobody answers, moves to the new
// key, too.
func TestRotationOfAFlowWithoutAnswers(t *testing.T) {
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
	go io.Copy(io.Discard, packets{y})
	to, _ := a.AddrOf(b.ID, 7946)
	ring := ringOf(a)
	rotate(t, a, ring.announce(t, b))
	until(t, "packets go by the new key", func() bool {
		x.WriteTo([]byte("hello"), to)
		return a.Settled(b.ID)
	})
}

type packets struct{ net.PacketConn }

func (p packets) Read(b []byte) (int, error) {
	n, _, err := p.ReadFrom(b)
	return n, err
}

// Sessions are counted, once each.
func TestHandshakesAreCounted(t *testing.T) {
	t.Parallel()
	a, b, _, _ := tunneltest.Pair(t)
	client, server := connect(t, a, b, 8400)
	chat(t, client, server)
	if x, y := statsOf(a, b).Handshakes, statsOf(b, a).Handshakes; x != 1 || y != 1 {
		t.Errorf("after the first contact %d and %d handshakes are counted, want 1 each", x, y)
	}
	ring := ringOf(a)
	rotate(t, a, ring.announce(t, b))
	settled(t, a, b)
	chat(t, client, server)
	counts := []uint64{statsOf(a, b).Handshakes, statsOf(b, a).Handshakes}
	if slices.Min(counts) < 2 || slices.Max(counts) > 3 {
		t.Errorf("after a rotation %v handshakes are counted, want 2", counts)
	}
}

// A peer that was never spoken with while the key changed is reached by the
// new one when the old one is gone.
func TestUnusedPeerAfterTheTimeOfGrace(t *testing.T) {
	t.Parallel()
	a, b, n, r := tunneltest.Pair(t)
	c := tunneltest.Start(t, n.Host("carol", "203.0.113.3"), r, nil)
	tunneltest.Join(t, a, b, c)
	client, server := connect(t, a, b, 8400)
	chat(t, client, server)
	ring := ringOf(a)
	key := ring.announce(t, b)
	ring.tell(t, c)
	rotate(t, a, key)
	settled(t, a, b)
	a.EndOfGrace()
	client, server = connect(t, a, c, 8401)
	chat(t, client, server)
}
