package bind

import (
	"cmp"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/holdfast-mesh/holdfast/tunnel/probe"
	"github.com/holdfast-mesh/holdfast/tunnel/udp"
)

// A fakeSocket gives what a test says it received, and keeps what is sent.
type fakeSocket struct {
	in    chan []byte
	from  netip.AddrPort
	train int // size of the datagrams in what comes; 0: one
	woken chan struct{}
	done  chan struct{}
	once  sync.Once

	mu   sync.Mutex
	sent [][]byte
}

func newFakeSocket() *fakeSocket {
	return &fakeSocket{in: make(chan []byte, 100), from: netip.MustParseAddrPort("192.0.2.9:9"),
		woken: make(chan struct{}, 1), done: make(chan struct{})}
}

func (s *fakeSocket) Receive(buf []byte) (int, int, netip.AddrPort, error) {
	select {
	case b := <-s.in:
		return copy(buf, b), cmp.Or(s.train, len(b)), s.from, nil
	case <-s.woken:
		return 0, 0, s.from, udp.ErrWoken
	case <-s.done:
		return 0, 0, s.from, net.ErrClosed
	}
}

func (s *fakeSocket) Send(bufs [][]byte, _ netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range bufs {
		s.sent = append(s.sent, append([]byte(nil), b...))
	}
	return nil
}

func (s *fakeSocket) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent)
}

func (s *fakeSocket) Wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}
func (s *fakeSocket) LocalAddr() netip.AddrPort { return netip.MustParseAddrPort("[::]:51820") }
func (s *fakeSocket) Offload() bool             { return false }
func (s *fakeSocket) NoOffload()                {}
func (s *fakeSocket) Close() error              { s.once.Do(func() { close(s.done) }); return nil }

const batch = 8

// one returns an open bind with one peer, and that peer's end of the probes.
func one(t testing.TB) (*Bind, *fakeSocket, *receiver, *probe.Pair) {
	t.Helper()
	s := newFakeSocket()
	b := New(Config{
		Self:      "self",
		Listen:    func() (Socket, error) { return s, nil },
		Addresses: func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil },
		Batch:     batch,
		Log:       slog.New(slog.DiscardHandler),
		UsesKey:   func(NodeID, [32]byte) {},
		Slept:     func(time.Duration) {},
	})
	ours, _ := ecdh.X25519().GenerateKey(rand.Reader)
	theirs, _ := ecdh.X25519().GenerateKey(rand.Reader)
	if err := b.SetKeys([]*ecdh.PrivateKey{ours}); err != nil {
		t.Fatal(err)
	}
	err := b.SetPeers([]PeerConfig{{ID: "peer", Keys: [][32]byte{[32]byte(theirs.PublicKey().Bytes())}, MTU: 1280}})
	if err != nil {
		t.Fatal(err)
	}
	id := b.NewIdentity(ours)
	if _, _, err := id.Open(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { id.Close() })
	pair, err := probe.NewPair(theirs, ours.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{bind: b, socket: s, buf: make([]byte, 1<<16), scratch: make([]byte, probe.ScratchBytes)}
	return b, s, r, pair
}

func room() (bufs [][]byte, sizes []int, eps []conn.Endpoint) {
	for range batch {
		bufs = append(bufs, make([]byte, 1<<16))
	}
	return bufs, make([]int, batch), make([]conn.Endpoint, batch)
}

// take hands a datagram to the receiver as if it had come.
func (r *receiver) take(m []byte, bufs [][]byte, sizes []int, eps []conn.Endpoint) int {
	n := copy(r.buf, m)
	r.rest, r.segment = r.buf[:n], max(n, 1)
	r.from = netip.MustParseAddrPort("192.0.2.9:9")
	r.peer = (*r.bind.admitted.Load())[r.from]
	return r.give((*r.bind.identities.Load())[0], bufs, sizes, eps)
}

// next receives for the newest identity.
func (r *receiver) next(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	id := (*r.bind.identities.Load())[0]
	id.reader = r
	return id.receive(bufs, sizes, eps)
}

func data(size int) []byte {
	m := make([]byte, size)
	m[0] = transport
	return m
}

// Whatever strangers send, it costs no allocation, no goroutine, no answer,
// and WireGuard does not see it.
func TestStrangersCostNothing(t *testing.T) {
	b, s, r, pair := one(t)
	forged := pair.Seal(nil, probe.Message{Kind: probe.Ping, Size: 1000})
	forged[len(forged)-1] ^= 1
	initial := append([]byte{0xc0}, make([]byte, 1200)...)
	bufs, sizes, eps := room()
	goroutines := runtime.NumGoroutine()
	for name, m := range map[string][]byte{
		"data":        data(1312),
		"handshake":   append([]byte{initiation, 0, 0, 0}, make([]byte, 144)...),
		"forged":      forged,
		"other probe": append([]byte{0x20, 1, 0, 0}, make([]byte, 100)...),
		"short probe": {0x20},
		"QUIC":        initial,
		"noise":       {0x13, 0x37},
	} {
		allocs := testing.AllocsPerRun(100, func() {
			if n := r.take(m, bufs, sizes, eps); n > 0 {
				t.Errorf("%s: WireGuard is given it", name)
			}
		})
		if allocs > 0 {
			t.Errorf("%s: costs %v allocations", name, allocs)
		}
	}
	if s.count() > 0 {
		t.Errorf("strangers got %d answers", s.count())
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("strangers cost %d goroutines", n-goroutines)
	}
	strangers, bad, unknown := b.Dropped()
	if strangers == 0 || bad == 0 || unknown == 0 {
		t.Errorf("dropped are %d, %d, %d, want some of each", strangers, bad, unknown)
	}
}

// A peer's packets are let in once it has proven its address, and a recorded
// ping proves nothing.
func TestOnlyProvenAddressesAreLetIn(t *testing.T) {
	b, s, r, pair := one(t)
	bufs, sizes, eps := room()
	ping := func() []byte { return pair.Seal(nil, probe.Message{Kind: probe.Ping, ID: 5}) }
	r.take(ping(), bufs, sizes, eps)
	if r.take(data(100), bufs, sizes, eps) > 0 {
		t.Fatal("a ping of a session that may be recorded opened the door")
	}
	asked := openAll(t, pair, s) // our ping back
	if len(asked) == 0 {
		t.Fatal("the address was not asked")
	}
	for _, m := range asked {
		r.take(pair.Seal(nil, probe.Message{Kind: probe.Pong, ID: m.ID, Seen: netip.MustParseAddrPort("203.0.113.1:1")}), bufs, sizes, eps)
	}
	if n := r.take(data(100), bufs, sizes, eps); n != 1 || eps[0] != conn.Endpoint(b.peers.Load().byID["peer"]) || sizes[0] != 100 {
		t.Errorf("after it answered %d packets came in", n)
	}
	if got := b.Observed(); len(got) != 1 || got[0].String() != "203.0.113.1:1" {
		t.Errorf("observed is %v", got)
	}
}

// openAll returns the pings that were sent to the peer.
func openAll(t *testing.T, pair *probe.Pair, s *fakeSocket) []probe.Message {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []probe.Message
	for _, m := range s.sent {
		if o, err := pair.Open(make([]byte, probe.ScratchBytes), m); err == nil && o.Kind == probe.Ping {
			all = append(all, o.Message)
		}
	}
	s.sent = nil
	return all
}

// A recorder cannot have us answer without end.
func TestRecordedPingsAreAnsweredSparingly(t *testing.T) {
	_, s, r, pair := one(t)
	bufs, sizes, eps := room()
	recorded := pair.Seal(nil, probe.Message{Kind: probe.Ping, ID: 5})
	for range 1000 {
		r.take(recorded, bufs, sizes, eps)
	}
	if n := s.count(); n > 4*mostStale {
		t.Errorf("1000 recorded pings got %d packets back", n)
	}
}

func TestTrainIsCutAndWhatDoesNotFitComesNext(t *testing.T) {
	b, s, r, _ := one(t)
	bufs, sizes, eps := room()
	b.admitFrom(b.peers.Load().byID["peer"], s.from, true)
	s.train = 100
	var train []byte
	for i := range batch + 3 {
		m := data(100)
		m[99] = byte(i)
		train = append(train, m...)
	}
	s.in <- train[:len(train)-40] // the last is smaller
	s.in <- data(50)
	if n, err := r.next(bufs, sizes, eps); n != batch || err != nil {
		t.Fatalf("%d packets, %v, want %d", n, err, batch)
	}
	if n, err := r.next(bufs, sizes, eps); err != nil || n != 3 || sizes[0] != 100 || bufs[0][99] != batch || sizes[2] != 60 {
		t.Errorf("then %d packets of %v, %v, want 3 of 100, 100 and 60", n, sizes[:3], err)
	}
	if n, err := r.next(bufs, sizes, eps); n != 1 || sizes[0] != 50 || err != nil {
		t.Errorf("then %d packets of %d, %v, want one of 50", n, sizes[0], err)
	}
}

// WireGuard waits at the socket, and is woken by what a stream brings.
func TestStreamWakesTheReceiver(t *testing.T) {
	b, _, r, _ := one(t)
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx, "peer", theirs) }()
	go io.Copy(io.Discard, ours)
	got := make(chan int, 1)
	go func() {
		bufs, sizes, eps := room()
		n, _ := r.next(bufs, sizes, eps)
		got <- n
	}()
	m := data(77)
	if _, err := ours.Write(append([]byte{0, byte(len(m))}, m...)); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != 1 {
		t.Errorf("%d packets, want 1", n)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestStreamOfAStrangerIsRefused(t *testing.T) {
	b, _, _, _ := one(t)
	ours, theirs := net.Pipe()
	if err := b.Serve(t.Context(), "somebody", theirs); err == nil {
		t.Error("served")
	}
	if _, err := ours.Read(make([]byte, 1)); err == nil {
		t.Error("the stream is open")
	}
}

func TestMeter(t *testing.T) {
	tests := []struct {
		name      string
		counters  []uint64
		got, lost uint32
	}{
		{"all arrive", []uint64{0, 1, 2, 3}, 4, 0},
		{"one is lost", []uint64{0, 1, 3}, 3, 1},
		{"one is late", []uint64{0, 2, 1, 3}, 4, 0},
		{"the path was away", []uint64{0, 1, 1_000_000}, 3, 0},
	}
	for _, tt := range tests {
		var m meter
		for _, c := range tt.counters {
			m.note(1, c, true)
		}
		m.publish()
		if got, lost := m.counts(); got != tt.got || lost != tt.lost {
			t.Errorf("%s: got %d, lost %d, want %d, %d", tt.name, got, lost, tt.got, tt.lost)
		}
	}
}

func TestQUICSharesThePort(t *testing.T) {
	b, s, r, _ := one(t)
	c := b.QUICConn("udp4")
	bufs, sizes, eps := room()
	r.take([]byte{0x40, 1, 2}, bufs, sizes, eps)
	buf := make([]byte, 10)
	n, from, err := c.ReadFrom(buf)
	if err != nil || n != 3 || from.String() != "192.0.2.9:9" {
		t.Errorf("got %d bytes from %v, %v", n, from, err)
	}
	if _, err := c.WriteTo([]byte("abc"), from); err != nil || s.count() != 1 {
		t.Errorf("sent %d, %v", s.count(), err)
	}
	c.SetReadDeadline(time.Now().Add(-time.Second))
	if _, _, err := c.ReadFrom(buf); err != os.ErrDeadlineExceeded {
		t.Errorf("past the deadline: %v", err)
	}
	c.SetReadDeadline(time.Time{})
	ended := make(chan error, 1)
	go func() {
		_, _, err := c.ReadFrom(buf)
		ended <- err
	}()
	c.Close()
	if err := <-ended; err != net.ErrClosed {
		t.Errorf("after Close: %v", err)
	}
}

func TestGapBetween(t *testing.T) {
	now := time.Now()
	if g := gapBetween(now, now.Add(time.Second)); g != time.Second {
		t.Errorf("a second is %v", g)
	}
	slept := now.Round(0).Add(time.Hour) // without the clock that stands still
	if g := gapBetween(now.Round(0), slept); g != time.Hour {
		t.Errorf("an hour of sleep is %v", g)
	}
}

// Nothing that comes to the mesh port stops the receiver, and WireGuard gets
// nothing from an address that nobody has proven.
func FuzzMeshPort(f *testing.F) {
	_, _, r, pair := one(f)
	for _, m := range [][]byte{
		data(32), data(1312), {initiation, 0, 0, 0}, {}, {0x20}, {0x20, 1, 0, 0}, {0xc0}, {0x40},
		pair.Seal(nil, probe.Message{Kind: probe.Ping, ID: 1}),
		pair.Seal(nil, probe.Message{Kind: probe.Call, Candidates: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.3:4")}}),
	} {
		f.Add(m)
	}
	bufs, sizes, eps := room()
	f.Fuzz(func(t *testing.T, m []byte) {
		if n := r.take(m, bufs, sizes, eps); n > 0 {
			t.Errorf("WireGuard is given %x", m)
		}
	})
}

// Nothing that comes over a stream stops the reader.
func FuzzStream(f *testing.F) {
	b, _, _, pair := one(f)
	frame := func(m []byte) []byte { return append([]byte{byte(len(m) >> 8), byte(len(m))}, m...) }
	f.Add(frame(data(40)))
	f.Add(frame(pair.Seal(nil, probe.Message{Kind: probe.Call})))
	f.Add([]byte{0, 0, 0, 5, 1})
	f.Fuzz(func(t *testing.T, m []byte) {
		ours, theirs := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- b.Serve(context.Background(), "peer", theirs) }()
		go io.Copy(io.Discard, ours)
		ours.SetWriteDeadline(time.Now().Add(5 * time.Second))
		ours.Write(m)
		ours.Close()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("the stream does not end")
		}
		for len(b.relayed) > 0 {
			<-b.relayed
		}
	})
}

// A peer that forges the source of its probes cannot take the address of
// another; only an answer to our own ping shows who is there.
func TestForgedSourceTakesNoAddress(t *testing.T) {
	b, _, _, _ := one(t)
	p, other := b.peers.Load().byID["peer"], newPeer(PeerConfig{ID: "other"})
	at := netip.MustParseAddrPort("192.0.2.9:9")
	b.admitFrom(p, at, true)
	b.admitFrom(other, at, false)
	if got := (*b.admitted.Load())[at]; got != p {
		t.Errorf("the address is %v's now", got.id)
	}
	b.admitFrom(other, at, true)
	if got := (*b.admitted.Load())[at]; got != other {
		t.Error("who answers there is not believed")
	}
	for i := range 100 {
		b.admitFrom(p, netip.AddrPortFrom(at.Addr(), uint16(i+1000)), true)
	}
	if n := len(*b.admitted.Load()); n > maxAdmitted+1 {
		t.Errorf("a peer has %d addresses, want at most %d", n, maxAdmitted)
	}
}

func TestStreamOfARemovedPeerEnds(t *testing.T) {
	b, _, _, _ := one(t)
	ours, theirs := net.Pipe()
	go io.Copy(io.Discard, ours)
	served := make(chan error, 1)
	go func() { served <- b.Serve(t.Context(), "peer", theirs) }()
	p := b.peers.Load().byID["peer"]
	for open := false; !open; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		open = p.relay.out != nil
		p.mu.Unlock()
	}
	if err := b.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-served:
	case <-time.After(10 * time.Second):
		t.Error("it does not end")
	}
}
