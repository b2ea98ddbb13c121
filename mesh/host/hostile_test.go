package host

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	quicgo "github.com/quic-go/quic-go"
)

// port finds the address of a listener among those of a host.
func (h *Host) port(t *testing.T, proto int) string {
	t.Helper()
	for _, text := range h.texts() {
		if v, err := ma.StringCast(text).ValueForProtocol(proto); err == nil {
			return "127.0.0.1:" + v
		}
	}
	t.Fatalf("no listener of %d among %v", proto, h.texts())
	return ""
}

// Connections on which nothing, or nonsense, is said are bounded in number,
// and members go on as if they were not there.
func TestFloodOfConnections(t *testing.T) {
	r := members(1, 2)
	a, b := start(t, 1, r, nil), start(t, 2, r, nil)
	meet(a, b)
	wantEcho(t, b, a.ID())
	before := runtime.NumGoroutine()
	at := a.port(t, ma.P_TCP)
	p, err := a.now()
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for i := range 400 {
		c, err := net.Dial("tcp", at)
		if err != nil {
			continue
		}
		defer c.Close()
		if i%4 == 0 {
			junk := make([]byte, 300)
			rand.Read(junk)
			c.Write(junk)
		}
		most = max(most, handshaking(p))
	}
	eventually(t, "the handshakes bounded", func() bool { return runtime.NumGoroutine()-before < 6*handshakes })
	if most < handshakes/2 || most > handshakes {
		t.Errorf("%d handshakes at a time, want up to %d", most, handshakes)
	}
	if open := len(p.Network().Conns()); open > 4 {
		t.Errorf("%d connections count as established", open)
	}
	wantEcho(t, b, a.ID())
	wantEcho(t, a, b.ID())
}

// Nonsense at the UDP port hurts nobody.
func TestFloodOfDatagrams(t *testing.T) {
	r := members(1, 2)
	a, b := start(t, 1, r, nil), start(t, 2, r, nil)
	c, err := net.Dial("udp", a.port(t, ma.P_UDP))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 5000 {
		junk := make([]byte, 1+i%1400)
		rand.Read(junk)
		if i%3 == 0 {
			junk[0] = 0xc0 // as of a QUIC handshake
		}
		c.Write(junk)
	}
	meet(a, b)
	wantEcho(t, b, a.ID())
}

// Whoever opens streams and lets them lie meets a limit.
func TestStreamsOfOneMemberAreBounded(t *testing.T) {
	r := members(1, 2, 3)
	a, b, c := start(t, 1, r, nil), start(t, 2, r, nil), start(t, 3, r, nil)
	meet(a, b, c)
	wantEcho(t, b, a.ID())
	opened := 0
	for range 400 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		s, err := b.Open(ctx, a.ID(), echo)
		cancel()
		if err != nil {
			break
		}
		s.SetDeadline(time.Now().Add(5 * time.Second))
		line := make([]byte, len(b.ID())+1)
		if _, err := io.ReadFull(s, line); err != nil {
			break
		}
		opened++
		defer s.Reset()
	}
	if opened < 32 || opened > 256 {
		t.Errorf("%d streams, want some and not any number", opened)
	}
	wantEcho(t, c, a.ID())
}

// After Run nothing is left.
func TestNothingIsLeftAfterRun(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("hosts", func(t *testing.T) {
		r := members(1, 2)
		a, b := start(t, 1, r, func(c *Config) { c.Relay = RelayYes }), start(t, 2, r, nil)
		meet(a, b)
		wantEcho(t, a, b.ID())
		eventually(t, "a place at the relay", func() bool { return b.peer(a.ID()).Reserved })
	})
	eventually(t, "all goroutines ended", func() bool { return runtime.NumGoroutine() <= before+2 })
}

func TestRunTwiceOrTooEarly(t *testing.T) {
	h, err := New(Config{Key: key(1), Roster: members(1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Open(deadline(t), id(2), echo); err == nil || !strings.Contains(err.Error(), "not running") {
		t.Errorf("%v", err)
	}
	h.SetPeers(map[string]Known{id(2): {}})
	h.Recheck()
	if h.Addrs() != nil || len(h.Peers()) != 1 || h.Peers()[0].Path != PathNone {
		t.Errorf("%v, %v", h.Addrs(), h.Peers())
	}
	for _, bad := range []Config{{}, {Key: key(1)}, {Roster: members()}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v is a config", bad)
		}
	}
}

// A member is called back where it is, once a minute, and only believed to be
// who it is if it proves it. An address that is not public says nothing.
func TestCallBack(t *testing.T) {
	r := members(1, 2, 3)
	a, b, c := start(t, 1, r, func(c *Config) { c.Relay = RelayAuto }), start(t, 2, r, nil), start(t, 3, r, nil)
	meet(a, b, c)
	wantEcho(t, a, b.ID())
	wantEcho(t, a, c.ID())
	at := netip.MustParseAddrPort(a.port(t, ma.P_TCP))
	if err := b.call(deadline(t), a.ID(), at); err != nil {
		t.Errorf("called back: %v", err)
	}
	if err := b.call(deadline(t), c.ID(), at); err == nil {
		t.Error("one node passes for another")
	}
	if err := b.call(deadline(t), a.ID(), netip.MustParseAddrPort("127.0.0.1:1")); err == nil {
		t.Error("a port at which nobody listens was reached")
	}
	if !b.reach.may("x") || b.reach.may("x") || !b.reach.may("y") {
		t.Error("calls back are not counted")
	}
	eventually(t, "asked", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return time.Until(a.reach.next) > reachPause
	})
	if a.Relays() {
		t.Error("a node that was reached at loopback relays")
	}
}

// A port that somebody else has for TCP is said, and QUIC still works; libp2p
// says nothing.
func TestHalfOfThePortIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	var log lockedBuffer
	h, err := New(Config{Key: key(1), Roster: members(1, 2), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	h.Handle(echo, false, func(_ context.Context, in Inbound) { io.WriteString(in, in.Node+"\nline") })
	runAt(t, h, at)
	if !strings.Contains(log.String(), "not open for TCP") {
		t.Errorf("the log says %q", log.String())
	}
	b := start(t, 2, members(1, 2), nil)
	meet(h, b)
	wantEcho(t, b, h.ID())
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A deaf socket sends and hears nothing, as one that has lied about where it is.
type deaf struct{ *net.UDPConn }

func (d deaf) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		if _, _, err := d.UDPConn.ReadFrom(b); err != nil {
			return 0, nil, err
		}
	}
}

// Handshakes of QUIC that never end count among the limits from the first.
func TestUnfinishedHandshakesCount(t *testing.T) {
	a := start(t, 1, members(1), nil)
	to, err := net.ResolveUDPAddr("udp", a.port(t, ma.P_UDP))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var dialling sync.WaitGroup
	defer dialling.Wait()
	defer cancel()
	for range 5 {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		dialling.Go(func() {
			quicgo.Dial(ctx, struct{ net.PacketConn }{deaf{c}}, to, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"libp2p"}}, nil)
		})
	}
	p, err := a.now()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "counted", func() bool { return handshaking(p) == 5 })
}

// handshaking counts the connections that have not proven whose they are.
func handshaking(p host.Host) (n int) {
	p.Network().ResourceManager().ViewTransient(func(s network.ResourceScope) error {
		n = s.Stat().NumConnsInbound
		return nil
	})
	return n
}
