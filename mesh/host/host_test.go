package host

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/holdfast-mesh/holdfast/mesh/record"
)

const (
	echo     = "/test/echo/1"
	anyone   = "/test/anyone/1"
	patience = 20 * time.Second
)

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }
func id(n byte) string              { return record.KeyOf(key(n)).NodeID() }

// A roster of a test, which all its nodes share.
type roster struct {
	mu      sync.Mutex
	members map[string]bool
	removed map[string]bool
}

func members(ns ...byte) *roster {
	r := &roster{members: map[string]bool{}, removed: map[string]bool{}}
	for _, n := range ns {
		r.members[id(n)] = true
	}
	return r
}

func (r *roster) Member(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members[node]
}

func (r *roster) Removed(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.removed[node]
}

func (r *roster) eject(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.members, node)
	r.removed[node] = true
}

func (r *roster) drop(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.members, node)
}

func (r *roster) admit(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[node] = true
}

// start runs node n, which echoes what members send it, and greets anyone.
func start(t testing.TB, n byte, r Roster, change func(*Config)) *Host {
	t.Helper()
	cfg := Config{Key: key(n), Roster: r, Version: "test", Relay: RelayNever}
	if change != nil {
		change(&cfg)
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.dials = wall(t)
	h.Handle(echo, false, func(_ context.Context, in Inbound) {
		io.WriteString(in, in.Node+"\n")
		io.Copy(in, in)
	})
	h.Handle(anyone, true, func(_ context.Context, in Inbound) { io.WriteString(in, "hello "+in.Node) })
	run(t, h)
	return h
}

// A wall keeps nodes 11 and 12 from dialling each other, as if each were behind
// a NAT, until it falls.
var falls sync.Map // by name of the test

func wall(t testing.TB) func(peer.ID, ma.Multiaddr) bool {
	return func(p peer.ID, m ma.Multiaddr) bool {
		_, fallen := falls.Load(t.Name())
		_, err := m.ValueForProtocol(ma.P_CIRCUIT)
		return fallen || err == nil || p.String() != id(11) && p.String() != id(12)
	}
}

func run(t testing.TB, h *Host) {
	t.Helper()
	runAt(t, h, loopback)
}

func runAt(t testing.TB, h *Host, at netip.AddrPort) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, at) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-h.Running():
	case err := <-done:
		t.Fatal(err)
	}
}

func (h *Host) texts() []string {
	var texts []string
	for _, a := range h.Addrs() {
		texts = append(texts, a.Text)
	}
	return texts
}

// meet tells hosts of each other.
func meet(hosts ...*Host) {
	all := map[string]Known{}
	for _, h := range hosts {
		all[h.ID()] = Known{Addrs: h.texts(), Relay: h.Relays()}
	}
	for _, h := range hosts {
		h.SetPeers(maps.Clone(all))
	}
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// say sends a line over a stream to the echo of a node and returns what comes
// back.
func say(ctx context.Context, h *Host, node string) (string, error) {
	s, err := h.Open(ctx, node, echo)
	if err != nil {
		return "", err
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(s, "line"); err != nil {
		return "", err
	}
	if err := s.CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(s)
	return string(b), err
}

func wantEcho(t *testing.T, h *Host, node string) {
	t.Helper()
	got, err := say(deadline(t), h, node)
	if want := h.ID() + "\nline"; err != nil || got != want {
		t.Fatalf("%q, %v, want %q", got, err, want)
	}
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %s: not %s", patience, what)
		}
	}
}

func (h *Host) peer(node string) Peer {
	for _, p := range h.Peers() {
		if p.Node == node {
			return p
		}
	}
	return Peer{}
}

func TestMembersConnect(t *testing.T) {
	r := members(1, 2)
	a, b := start(t, 1, r, nil), start(t, 2, r, nil)
	meet(a, b)
	wantEcho(t, a, b.ID())
	wantEcho(t, b, a.ID())
	eventually(t, "a direct connection with its round trip", func() bool {
		p := a.peer(b.ID())
		return p.Path == PathDirect && p.RTT > 0 && strings.Contains(p.Addr, "/127.0.0.1/") && p.Failure == ""
	})
}

// Without UDP, the same works over TCP.
func TestTCPAlone(t *testing.T) {
	r := members(1, 2)
	a, b := start(t, 1, r, nil), start(t, 2, r, nil)
	var tcp []string
	for _, text := range b.texts() {
		if strings.Contains(text, "/tcp/") {
			tcp = append(tcp, text)
		}
	}
	a.SetPeers(map[string]Known{b.ID(): {Addrs: tcp}})
	wantEcho(t, a, b.ID())
	if p := a.peer(b.ID()); !strings.Contains(p.Addr, "/tcp/") {
		t.Errorf("%+v", p)
	}
}

// Two nodes that cannot reach each other meet through a third that all can, and
// directly as soon as that works.
func TestThroughAnotherMember(t *testing.T) {
	r := members(11, 12, 3)
	a, b := start(t, 11, r, nil), start(t, 12, r, nil)
	c := start(t, 3, r, func(c *Config) { c.Relay = RelayYes })
	third := Known{Addrs: c.texts(), Relay: true}
	a.SetPeers(map[string]Known{c.ID(): third, b.ID(): {Addrs: b.texts()}})
	b.SetPeers(map[string]Known{c.ID(): third, a.ID(): {Addrs: a.texts()}})
	c.SetPeers(map[string]Known{a.ID(): {}, b.ID(): {}})
	eventually(t, "a place at the relay for both", func() bool { return a.peer(c.ID()).Reserved && b.peer(c.ID()).Reserved })
	eventually(t, "connected through the relay", func() bool { return a.peer(b.ID()).Path == PathRelay })
	wantEcho(t, a, b.ID())
	wantEcho(t, b, a.ID())
	if p := a.peer(b.ID()); p.Via != c.ID() || p.LastSeen.IsZero() || p.Path != PathRelay {
		t.Errorf("%+v", p)
	}
	// More than libp2p's relays carry by default.
	s, err := a.Open(deadline(t), b.ID(), echo)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(patience))
	data := bytes.Repeat([]byte("packet"), 100_000)
	go func() {
		s.Write(data)
		s.CloseWrite()
	}()
	got, err := io.ReadAll(s)
	if err != nil || len(got) != len(data)+len(a.ID())+1 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	falls.Store(t.Name(), true)
	defer falls.Delete(t.Name())
	eventually(t, "connected directly", func() bool { return a.peer(b.ID()).Path == PathDirect && b.peer(a.ID()).Path == PathDirect })
}

// A place at a relay goes with the connection, and is asked for again with the
// next.
func TestPlaceAtARelayIsRenewed(t *testing.T) {
	r := members(11, 12, 3)
	a := start(t, 11, r, nil)
	c := start(t, 3, r, func(c *Config) { c.Relay, c.Strangers = RelayYes, -1 })
	third := Known{Addrs: c.texts(), Relay: true}
	a.SetPeers(map[string]Known{c.ID(): third}) // it calls nobody else
	eventually(t, "a place at the relay", func() bool { return a.peer(c.ID()).Reserved })
	r.drop(a.ID())
	eventually(t, "disconnected", func() bool { return a.peer(c.ID()).Path == PathNone })
	time.Sleep(50 * time.Millisecond) // the relay hears of it later
	r.admit(a.ID())
	b := start(t, 12, r, nil)
	b.SetPeers(map[string]Known{c.ID(): third, a.ID(): {}})
	c.SetPeers(map[string]Known{a.ID(): {}, b.ID(): {}})
	eventually(t, "connected through the relay", func() bool { return b.peer(a.ID()).Path == PathRelay })
}

// Whoever is ejected loses its streams and connections within two seconds, and
// gets no new ones.
func TestEjectedNodeIsCutOff(t *testing.T) {
	r := members(1, 2)
	a, b := start(t, 1, r, nil), start(t, 2, members(1, 2), nil) // b does not know yet
	meet(a, b)
	s, err := b.Open(deadline(t), a.ID(), echo)
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(patience))
	line := make([]byte, len(b.ID())+1)
	if _, err := io.ReadFull(s, line); err != nil {
		t.Fatal(err)
	}
	r.eject(b.ID())
	begin := time.Now()
	a.Recheck()
	if n, err := s.Read(line); err == nil {
		t.Errorf("%d bytes came on a stream that was cut", n)
	}
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("it took %s", d)
	}
	if got, err := say(deadline(t), b, a.ID()); err == nil {
		t.Errorf("an ejected node was answered %q", got)
	}
	if s, err := b.OpenTo(deadline(t), a.ID(), a.texts(), anyone); err == nil {
		if got, err := io.ReadAll(s); err == nil && len(got) > 0 {
			t.Errorf("an ejected node was greeted: %q", got)
		}
	}
	if got, err := say(deadline(t), a, b.ID()); err == nil {
		t.Errorf("an ejected node was called, and said %q", got)
	}
}

// The same without anybody calling Recheck.
func TestRosterIsLookedAtEverySecond(t *testing.T) {
	r := members(1, 2)
	a, b := start(t, 1, r, nil), start(t, 2, members(1, 2), nil)
	meet(a, b)
	wantEcho(t, b, a.ID())
	r.eject(b.ID())
	eventually(t, "cut off", func() bool { return b.peer(a.ID()).Path == PathNone })
}

func TestStrangersMayOnlyJoin(t *testing.T) {
	r := members(1)
	a := start(t, 1, r, func(c *Config) { c.Relay = RelayYes })
	b := start(t, 2, members(), nil)
	s, err := b.OpenTo(deadline(t), a.ID(), a.texts(), anyone)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if want := "hello " + b.ID(); err != nil || string(got) != want {
		t.Fatalf("%q, %v, want %q", got, err, want)
	}
	for _, proto := range []string{echo, "/ipfs/ping/1.0.0", "/libp2p/circuit/relay/0.2.0/stop", "/libp2p/dcutr", "/ipfs/id/push/1.0.0", WireGuard} {
		s, err := b.OpenTo(deadline(t), a.ID(), a.texts(), proto)
		if err != nil {
			continue
		}
		s.SetDeadline(time.Now().Add(patience))
		io.WriteString(s, strings.Repeat("x", 32))
		if b, err := io.ReadAll(s); err == nil && len(b) > 0 {
			t.Errorf("%s is open to strangers: %q", proto, b)
		}
		s.Close()
	}
	s.Close()
	// As a member it may.
	r.admit(b.ID())
	b.cfg.Roster.(*roster).admit(a.ID())
	meet(a, b)
	wantEcho(t, b, a.ID())
}

func TestWhoMayConnectAndSay(t *testing.T) {
	r := members(1, 2)
	h, err := New(Config{Key: key(1), Roster: r})
	if err != nil {
		t.Fatal(err)
	}
	h.Handle(anyone, true, nil)
	h.Handle(echo, false, nil)
	r.eject(id(3))
	leave := h.welcome([]peer.ID{peerID(t, 5)})
	const in, out = network.DirInbound, network.DirOutbound
	tests := []struct {
		who              string
		n                byte
		in, out          bool   // may connect
		opens, mayWeOpen string // protocols of those below
	}{
		{"a member", 2, true, true, "anyone echo identify hop stop ping", "anyone echo identify hop stop ping"},
		{"who was ejected", 3, false, false, "", ""},
		{"a stranger", 4, true, false, "anyone identify hop", ""},
		{"whom we ask to join", 5, true, true, "anyone identify hop stop", "anyone echo identify hop stop ping"},
	}
	protocols := []struct{ name, proto string }{{"anyone", anyone}, {"echo", echo}, {"identify", "/ipfs/id/1.0.0"},
		{"hop", "/libp2p/circuit/relay/0.2.0/hop"}, {"stop", "/libp2p/circuit/relay/0.2.0/stop"}, {"ping", "/ipfs/ping/1.0.0"}}
	for _, tt := range tests {
		p := peerID(t, tt.n)
		if got := h.mayConnect(p, true); got != tt.in {
			t.Errorf("%s connects: %v", tt.who, got)
		}
		if got := h.mayConnect(p, false); got != tt.out {
			t.Errorf("%s is dialled: %v", tt.who, got)
		}
		var opens, weOpen []string
		for _, one := range protocols {
			if h.mayOpen(p, in, protocol.ID(one.proto)) == nil {
				opens = append(opens, one.name)
			}
			if h.mayOpen(p, out, protocol.ID(one.proto)) == nil {
				weOpen = append(weOpen, one.name)
			}
		}
		if got := strings.Join(opens, " "); got != tt.opens {
			t.Errorf("%s opens %q, want %q", tt.who, got, tt.opens)
		}
		if got := strings.Join(weOpen, " "); got != tt.mayWeOpen {
			t.Errorf("to %s we open %q, want %q", tt.who, got, tt.mayWeOpen)
		}
	}
	if leave(); h.mayConnect(peerID(t, 5), false) {
		t.Error("a guest stays one for ever")
	}
	h.cfg.Strangers = -1
	if h.mayConnect(peerID(t, 4), true) {
		t.Error("a stranger is let in where none may be")
	}
}

func peerID(t *testing.T, n byte) peer.ID {
	t.Helper()
	p, err := peer.Decode(id(n))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNobodyJoinsWhereStrangersAreNotLetIn(t *testing.T) {
	a := start(t, 1, members(1), func(c *Config) { c.Strangers = -1 })
	b := start(t, 2, members(), nil)
	if s, err := b.OpenTo(deadline(t), a.ID(), a.texts(), anyone); err == nil {
		if got, err := io.ReadAll(s); err == nil {
			t.Errorf("%q", got)
		}
	}
}

// A flood of strangers takes the places of strangers, and not those of
// members.
func TestFloodOfStrangers(t *testing.T) {
	r := members(1, 2)
	a := start(t, 1, r, func(c *Config) { c.Strangers = 6 })
	var in sync.WaitGroup
	var mu sync.Mutex
	got := 0
	for n := range byte(12) {
		h := start(t, 100+n, members(), nil)
		in.Go(func() {
			s, err := h.OpenTo(deadline(t), a.ID(), a.texts(), anyone)
			if err != nil {
				return
			}
			if b, err := io.ReadAll(s); err == nil && len(b) > 0 {
				mu.Lock()
				got++
				mu.Unlock()
			}
		})
	}
	in.Wait()
	if got < 1 || got > 3 {
		t.Errorf("%d strangers of one address were let in, want 1 to 3", got)
	}
	b := start(t, 2, r, nil)
	meet(a, b)
	wantEcho(t, b, a.ID())
}

func TestSomeoneElseAnswers(t *testing.T) {
	a, b := start(t, 1, members(1), nil), start(t, 2, members(), nil)
	for _, text := range a.texts() {
		_, err := b.OpenTo(deadline(t), id(9), []string{text}, anyone)
		if !errors.Is(err, ErrSomeoneElse) || !strings.Contains(err.Error(), a.ID()) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRelayIsForMembers(t *testing.T) {
	r := members(1, 2)
	c := start(t, 1, r, func(c *Config) { c.Relay = RelayYes })
	stranger := start(t, 50, members(1), nil) // takes itself for one
	stranger.SetPeers(map[string]Known{c.ID(): {Addrs: c.texts(), Relay: true}})
	eventually(t, "connected", func() bool { return stranger.peer(c.ID()).Path == PathDirect })
	p, err := stranger.now()
	if err != nil {
		t.Fatal(err)
	}
	relay, err := peer.Decode(c.ID())
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Reserve(deadline(t), p, peer.AddrInfo{ID: relay})
	var refused client.ReservationError
	if !errors.As(err, &refused) || refused.Status != pb.Status_PERMISSION_DENIED {
		t.Errorf("a stranger asks for a place at the relay: %v", err)
	}
	// Nor does it reach other strangers through the relay.
	third := c.texts()[0] + "/p2p/" + c.ID() + "/p2p-circuit"
	if _, err := stranger.OpenTo(deadline(t), id(60), []string{third}, anyone); err == nil || !strings.Contains(err.Error(), "PERMISSION_DENIED") {
		t.Errorf("a stranger asks for another one: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	h := start(t, 1, members(1), func(c *Config) {
		c.Relay, c.Advertise = RelayAuto, []netip.AddrPort{netip.MustParseAddrPort("203.0.113.7:8009")}
	})
	if !h.Relays() {
		t.Error("with an advertised address it does not relay")
	}
	r := record.Record{Cluster: [16]byte{1}, Seq: 1, WireGuard: [][32]byte{{9}}, Addrs: h.Addrs()}
	if _, err := r.Sign(key(1)); err != nil {
		t.Errorf("no record can be made of %v: %v", h.Addrs(), err)
	}
	ends := r.Endpoints()
	if len(ends) != 2 || ends[0] != netip.MustParseAddrPort("203.0.113.7:8009") || ends[1].Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("%v", ends)
	}
	if start(t, 2, members(2), func(c *Config) { c.Relay = RelayAuto }).Relays() {
		t.Error("a node on loopback relays")
	}
}
