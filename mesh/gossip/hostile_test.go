package gossip

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/holdfast-mesh/holdfast/mesh/meshtest"
	"github.com/holdfast-mesh/holdfast/mesh/network"
)

// message is one of memberlist's, as a hostile node makes it.
func message(kind byte, v any) []byte {
	b := bytes.NewBuffer([]byte{kind})
	if err := codec.NewEncoder(b, &codec.MsgpackHandle{}).Encode(v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

type alive struct {
	Incarnation uint32
	Node        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Vsn         []uint8
}

type dead struct {
	Incarnation uint32
	Node        string
	From        string
}

type ping struct {
	SeqNo      uint32
	Node       string
	SourceNode string
}

var vsn = []uint8{1, 5, 2, 0, 0, 0}

// What a member says in another's name changes nothing, and is counted.
func TestForeignNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 4)
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		bad, good, victim := c.nodes[0], c.nodes[1], c.nodes[2]
		c.halt(bad) // its place is taken by one that lies
		c.within(30*time.Second, "it left", func() bool { return together(c.nodes[1:]) })
		conn, err := c.net.Node(bad.name).ListenPacket(network.ServiceGossip)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		stranger := "12D3KooWstranger"
		strange := ed25519.NewKeyFromSeed(make([]byte, 32))
		meta := func(node string, key ed25519.PrivateKey) []byte { return Meta{Version: "forged"}.sign(node, key) }
		stolen := meta(bad.name, bad.key)
		for name, attack := range map[string]struct {
			packet []byte
			reason error
		}{
			"a stranger is said to live":   {message(msgAlive, alive{99, stranger, address(stranger), network.ServiceGossip, meta(stranger, strange), vsn}), errStranger},
			"a member at my address":       {message(msgAlive, alive{99, victim.name, address(bad.name), network.ServiceGossip, meta(victim.name, bad.key), vsn}), errForeign},
			"a member at another port":     {message(msgAlive, alive{99, victim.name, address(victim.name), 80, meta(victim.name, bad.key), vsn}), errForeign},
			"a member says what I say":     {message(msgAlive, alive{99, victim.name, address(victim.name), network.ServiceGossip, meta(victim.name, bad.key), vsn}), errSignature},
			"my words, its name":           {message(msgAlive, alive{99, victim.name, address(victim.name), network.ServiceGossip, stolen, vsn}), errSignature},
			"a stranger said it is dead":   {message(msgDead, dead{99, victim.name, stranger}), errStranger},
			"a stranger suspects it":       {message(msgSuspect, dead{99, victim.name, stranger}), errStranger},
			"a ping in another's name":     {message(msgPing, ping{1, good.name, victim.name}), errForeign},
			"compression":                  {message(9, map[string]any{"Algo": 0, "Buf": []byte{1}}), errForm},
			"a push by packet":             {message(msgPushPull, map[string]int{"Nodes": 1}), errForm},
			"news in another's name":       {append([]byte{msgUser}, sign(newsDomain, victim.name, bad.key, encode(News{Kind: 1, Node: victim.name, Seq: 1 << 50}))...), errSignature},
			"news of a stranger":           {append([]byte{msgUser}, sign(newsDomain, stranger, strange, encode(News{Kind: 1, Node: stranger, Seq: 1}))...), errStranger},
			"news that is none":            {append([]byte{msgUser}, make([]byte, 90)...), errNews},
			"nothing":                      {[]byte{msgCompound, 1, 0, 0}, errForm},
			"a packet longer than it says": {[]byte{msgCompound, 1, 0, 1, msgAck, 0}, errForm},
		} {
			before := good.Refused()[attack.reason.Error()]
			if err := conn.WriteTo(attack.packet, good.name); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			if n := good.Refused()[attack.reason.Error()] - before; n != 1 {
				t.Errorf("%s: refused %d times for %q, %v", name, n, attack.reason, good.Refused())
			}
		}
		time.Sleep(20 * time.Second)
		for _, x := range c.nodes[1:] {
			if x.alive() != 2 || x.heardOf(Announced, victim) != 0 || x.heardOf(Failed, victim) != 0 {
				t.Errorf("%s believes something: %v", x.name, x.events)
			}
			for _, p := range x.Peers() {
				if p.Meta.Version == "forged" {
					t.Errorf("%s believes a forged meta of %s", x.name, p.Node)
				}
			}
		}
		if good.Member(stranger) {
			t.Error("it is a member now")
		}
	})
}

// Part of a packet is refused, the rest is listened to.
func TestGoodPartOfAPacket(t *testing.T) {
	g := one(t)
	good, bad := message(msgPing, ping{1, g.cfg.Self, "friend"}), message(msgPing, ping{1, g.cfg.Self, "other"})
	parts, err := split(g.screen("friend", join([][]byte{bad, good, {msgAck, 0x80}})))
	if err != nil || len(parts) != 2 || !bytes.Equal(parts[0], good) {
		t.Errorf("%x, %v", parts, err)
	}
	if g.screen("friend", join([][]byte{bad})) != nil || g.screen("nobody", good) != nil {
		t.Error("what is refused is passed on")
	}
}

func one(t testing.TB) *Gossip {
	t.Helper()
	pub := func(i byte) ed25519.PublicKey {
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{i}, 32)).Public().(ed25519.PublicKey)
	}
	g, err := New(Config{
		Self: "self", Key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32)), Network: meshtest.New(1).Node("self"),
		Members: []Member{{"friend", pub(1)}, {"other", pub(2)}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A stream that promises gigabytes, is compressed, or never says what it is
// costs nothing and harms nobody else.
func TestHostileStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3)
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		good, bad := c.nodes[0], c.nodes[1]
		for name, b := range map[string][]byte{
			"a million nodes":    message(msgPushPull, map[string]any{"Nodes": 1 << 20, "UserStateLen": 0, "Join": true}),
			"minus one node":     message(msgPushPull, map[string]any{"Nodes": -1}),
			"state that is none": message(msgPushPull, map[string]any{"Nodes": 1, "UserStateLen": 1 << 24}),
			"compression":        {9, 1, 2, 3},
			"a label":            {244, 3, 'a', 'b', 'c'},
			"a user message":     {msgUser, 0x80},
			"no head":            append([]byte{msgPushPull, 0xdf}, make([]byte, 300)...),
			"nothing":            nil,
		} {
			conn, err := c.net.Node(bad.name).Dial(t.Context(), good.name, network.ServiceGossip)
			if err != nil {
				t.Fatal(err)
			}
			conn.Write(b)
			conn.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("%s: it stays open: %v", name, err)
			}
			conn.Close()
		}
		if n := good.Refused(); n[errFlood.Error()] < 3 || n[errForm.Error()] < 3 {
			t.Errorf("%v", n)
		}
		var open []net.Conn // more than a node has reason to
		for range maxStreams + 3 {
			conn, err := c.net.Node(bad.name).Dial(t.Context(), good.name, network.ServiceGossip)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, conn)
		}
		flood := good.Refused()[errFlood.Error()]
		time.Sleep(time.Millisecond)
		if n := good.Refused()[errFlood.Error()]; n == 0 || n < flood {
			t.Errorf("any number of streams is served: %v", good.Refused())
		}
		for _, conn := range open {
			conn.Close()
		}
		if !together(c.nodes) {
			t.Error("somebody is lost")
		}
	})
}

func TestLongMetaFits(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	m := Meta{Version: "1", Feed: Place{1, 1 << 60}}
	for range 40 {
		m.Addrs = append(m.Addrs, "/ip6/2001:db8::1234/udp/7443/quic-v1")
		m.Running = append(m.Running, "pull something from somewhere")
	}
	m.Trouble = "its ledger has stopped: no space left on device"
	b := m.sign("node", key)
	got, err := parseMeta("node", key.Public().(ed25519.PublicKey), b)
	if len(b) > 512 || err != nil || got.Feed != m.Feed || got.Version != "1" || len(got.Running) == 0 || got.Trouble != m.Trouble {
		t.Errorf("%d bytes, %+v, %v", len(b), got, err)
	}
	newer := encode(map[int]any{1: "2", 99: []string{"something new"}})
	if got, err := parseMeta("node", key.Public().(ed25519.PublicKey), sign(metaDomain, "node", key, newer)); err != nil || got.Version != "2" {
		t.Errorf("what a newer node says: %+v, %v", got, err)
	}
}

// A real memberlist takes whatever comes through the screen.
func FuzzPacket(f *testing.F) {
	f.Add([]byte{msgCompound, 1, 0, 2, msgAck, 0x80})
	f.Add(message(msgPing, ping{1, "self", "friend"}))
	f.Add(message(msgAlive, alive{1, "friend", address("friend"), network.ServiceGossip, nil, vsn}))
	f.Add(message(msgAlive, alive{1, "friend", nil, 0, nil, []uint8{1, 5}}))
	f.Add(message(msgDead, dead{1, "self", "friend"}))
	f.Add(append([]byte{msgUser}, make([]byte, 80)...))
	g, conn := running(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > network.MaxPacket || len(b) == 0 {
			return
		}
		if out := g.screen("friend", b); len(out) > len(b)+40*(1+bytes.Count(b, []byte{msgSuspect})+bytes.Count(b, []byte{msgDead})) {
			t.Errorf("%x becomes %x", b, out)
		}
		if err := conn.WriteTo(b, "self"); err != nil {
			t.Fatal(err)
		}
		checked := append([]byte{msgChecked}, binary.BigEndian.AppendUint32(nil, 0)...)
		g.screen("friend", append(checked, b...))
	})
}

func FuzzStream(f *testing.F) {
	f.Add(message(msgPushPull, map[string]any{"Nodes": 1, "UserStateLen": 0, "Join": true}))
	f.Add(append(message(msgPushPull, map[string]any{"Nodes": 1}), message(0x81, alive{1, "friend", nil, 0, nil, vsn})[1:]...))
	f.Add(message(msgPing, ping{1, "self", "friend"}))
	g, _ := running(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<12 {
			return
		}
		conn, err := g.cfg.Network.(*meshtest.Node).Peer("friend").Dial(t.Context(), "self", network.ServiceGossip)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(b)
		conn.(interface{ CloseWrite() error }).CloseWrite()
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		io.Copy(io.Discard, conn)
		conn.Close()
	})
}

// running starts a gossip, and returns the socket of a member that talks to it.
func running(f *testing.F) (*Gossip, network.PacketConn) {
	f.Helper()
	g := one(f)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	f.Cleanup(func() { stop(); <-done })
	conn, err := g.cfg.Network.(*meshtest.Node).Peer("friend").ListenPacket(network.ServiceGossip)
	if err != nil {
		f.Fatal(err)
	}
	for { // until it listens
		c, err := g.cfg.Network.(*meshtest.Node).Peer("friend").Dial(ctx, "self", network.ServiceGossip)
		if err == nil {
			c.Close()
			return g, conn
		}
		time.Sleep(time.Millisecond)
	}
}
