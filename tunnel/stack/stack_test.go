package stack

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

var (
	left  = netip.MustParseAddr("fd00:1:2:0::1")
	right = netip.MustParseAddr("fd00:1:2:0::2")
)

// newStack returns a stack with a device for a key of mark m.
func newStack(t testing.TB, addr netip.Addr, mtu int, m Mark) (*Stack, *Device) {
	t.Helper()
	s, err := New(Config{Address: addr, MTU: mtu})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, s.NewDevice(m)
}

// wire carries packets between two stacks, as WireGuard would, and shows them.
func wire(t testing.TB, a, b *Device, see func(p []byte)) {
	t.Helper()
	carry := func(from, to *Device) {
		bufs, sizes := make([][]byte, Batch), make([]int, Batch)
		for i := range bufs {
			bufs[i] = make([]byte, 1<<16)
		}
		const offset = 16
		for {
			n, err := from.Read(bufs, sizes, offset)
			if err == os.ErrClosed {
				return
			}
			out := make([][]byte, n)
			for i := range out {
				out[i] = bytes.Clone(bufs[i][:offset+sizes[i]])
				if see != nil {
					see(out[i][offset:])
				}
			}
			to.Write(out, offset)
		}
	}
	go carry(a, b)
	go carry(b, a)
}

func linked(t *testing.T, mtuA, mtuB int, see func([]byte)) (a, b *Stack) {
	t.Helper()
	a, x := newStack(t, left, mtuA, 1)
	b, y := newStack(t, right, mtuB, 2)
	mtu := min(mtuA, mtuB)
	if err := a.SetRoutes([]Route{{right, mtu, []Mark{2}}}); err != nil {
		t.Fatal(err)
	}
	if err := b.SetRoutes([]Route{{left, mtu, []Mark{1}}}); err != nil {
		t.Fatal(err)
	}
	wire(t, x, y, see)
	return a, b
}

// transfer sends random bytes from a to b and checks them.
func transfer(t *testing.T, a, b *Stack, size int) {
	t.Helper()
	l, err := b.Listen(80)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(data)
	got := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		all, _ := io.ReadAll(c)
		got <- all
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := a.Dial(ctx, netip.AddrPortFrom(right, 80))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	c.Close()
	select {
	case all := <-got:
		if !bytes.Equal(all, data) {
			t.Fatalf("%d bytes arrived that are not the %d sent", len(all), size)
		}
	case <-ctx.Done():
		t.Fatal("not within 20 seconds")
	}
}

// A service that ends with open connections may begin anew at once, but not
// twice at a time.
func TestListenAgain(t *testing.T) {
	a, b := linked(t, 1400, 1400, nil)
	for range 3 {
		l, err := b.Listen(80)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Listen(80); err == nil {
			t.Error("two listen at one port")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		c, err := a.Dial(ctx, netip.AddrPortFrom(right, 80))
		if err != nil {
			t.Fatal(err)
		}
		at, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		at.Close() // this side first, which waits then
		l.Close()
		io.ReadAll(c)
		c.Close()
		cancel()
	}
}

// Every packet on the wire is whole, small enough, marked, and has the sums
// that it needs when the marks are taken off.
func TestPacketsOnTheWire(t *testing.T) {
	see := func(p []byte) {
		src, dst := netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
		if !(src == Marked(left, 1) && dst == Marked(right, 2) || src == Marked(right, 2) && dst == Marked(left, 1)) {
			t.Errorf("a packet from %v to %v, want marks 1 and 2", src, dst)
		}
		if len(p) > 1280 || int(binary.BigEndian.Uint16(p[4:])) != len(p)-40 {
			t.Errorf("a packet of %d bytes that says %d", len(p), binary.BigEndian.Uint16(p[4:])+40)
		}
		q := bytes.Clone(p)
		binary.BigEndian.PutUint16(q[14:], 0)
		binary.BigEndian.PutUint16(q[30:], 0)
		if q[6] != 6 {
			return
		}
		ip, tcp := header.IPv6(q), header.TCP(q[40:])
		payload := q[40+tcp.DataOffset():]
		sum := uint32(0)
		for i := 0; i < len(payload); i += 2 {
			word := uint32(payload[i]) << 8
			if i+1 < len(payload) {
				word |= uint32(payload[i+1])
			}
			if sum += word; sum > 0xffff {
				sum -= 0xffff
			}
		}
		if !tcp.IsChecksumValid(ip.SourceAddress(), ip.DestinationAddress(), uint16(sum), uint16(len(payload))) {
			t.Errorf("a segment of %d bytes has a wrong checksum", len(payload))
		}
	}
	a, b := linked(t, 1280, 1280, see)
	transfer(t, a, b, 1<<20+1)
}

// A pair whose link carries less than the stacks agrees on segments that fit.
func TestSegmentsFitTheLink(t *testing.T) {
	see := func(p []byte) {
		if len(p) > 1280 {
			t.Errorf("a packet of %d bytes on a link of 1280", len(p))
		}
	}
	a, x := newStack(t, left, 8920, 0)
	b, y := newStack(t, right, 8920, 0)
	if err := a.SetRoutes([]Route{{right, 1280, []Mark{0}}}); err != nil {
		t.Fatal(err)
	}
	if err := b.SetRoutes([]Route{{left, 8920, []Mark{0}}}); err != nil { // one end is enough
		t.Fatal(err)
	}
	wire(t, x, y, see)
	transfer(t, a, b, 1<<20)
}

func TestJumbo(t *testing.T) {
	var mu sync.Mutex
	large := 0
	a, b := linked(t, 8920, 8920, func(p []byte) {
		mu.Lock()
		defer mu.Unlock()
		large = max(large, len(p))
	})
	transfer(t, a, b, 1<<20)
	mu.Lock()
	defer mu.Unlock()
	if large < 8800 || large > 8920 { // gVisor leaves room for options
		t.Errorf("the largest packet has %d bytes, want about 8920", large)
	}
}

func TestStrangersAreNotHeard(t *testing.T) {
	s, d := newStack(t, left, 1280, 0)
	c, err := s.ListenPacket(9)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	src, dst := Marked(right, 2).As16(), left.As16()
	p := append([]byte{6 << 4, 0, 0, 0, 0, 11, 17, 64}, src[:]...)
	p = append(append(p, dst[:]...), 0, 1, 0, 9, 0, 11, 1, 1, 'h', 'e', 'y')
	heard := func(within time.Duration) bool {
		d.Write([][]byte{bytes.Clone(p)}, 0)
		c.SetReadDeadline(time.Now().Add(within))
		n, _, err := c.ReadFrom(make([]byte, 10))
		return err == nil && n == 3
	}
	if heard(200 * time.Millisecond) {
		t.Error("a stranger is heard")
	}
	if err := s.SetRoutes([]Route{{right, 1280, []Mark{2}}}); err != nil {
		t.Fatal(err)
	}
	if !heard(10 * time.Second) {
		t.Error("a peer is not heard")
	}
}

// Packets to a node carry the mark of the newest key that it was heard with,
// and an old packet that comes late does not turn that back.
func TestMarksFollowThePeersKey(t *testing.T) {
	s, d := newStack(t, left, 1280, 0)
	set := func(marks ...Mark) {
		t.Helper()
		if err := s.SetRoutes([]Route{{right, 1280, marks}}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(m Mark) {
		t.Helper()
		if _, got, _ := s.Using(right); got != m {
			t.Errorf("packets carry mark %d, want %d", got, m)
		}
	}
	heard := func(m Mark) {
		p := make([]byte, 40)
		p[0], p[6] = 6<<4, 59
		src, dst := Marked(right, m).As16(), left.As16()
		copy(p[8:], src[:])
		copy(p[24:], dst[:])
		d.Write([][]byte{p}, 0)
	}
	set(1)
	want(1)
	heard(1)
	set(2, 1)
	want(1)
	heard(1)
	want(1)
	heard(2)
	want(2)
	heard(1)
	want(2)
	set(2)
	want(2)
	set(3)
	want(3)
	heard(7) // not a key of the peer
	want(3)
	set(4, 3)
	s.Use(right, 4)
	want(4)
}

func TestRoutesAreChecked(t *testing.T) {
	s, _ := newStack(t, left, 1280, 0)
	for name, r := range map[string]Route{
		"no key":      {right, 1280, nil},
		"too large":   {right, 1281, []Mark{1}},
		"our address": {left, 1280, []Mark{1}},
	} {
		if s.SetRoutes([]Route{r}) == nil {
			t.Errorf("%s: a route that cannot be was taken", name)
		}
	}
}

// Nothing that a peer can put into a packet stops the stack.
func FuzzWrite(f *testing.F) {
	s, d := newStack(f, left, 1280, 0)
	s.SetRoutes([]Route{{right, 1280, []Mark{2}}})
	src, dst := Marked(right, 2).As16(), left.As16()
	packet := func(next byte, rest ...byte) []byte {
		p := append([]byte{6 << 4, 0, 0, 0, 0, byte(len(rest)), next, 64}, src[:]...)
		return append(append(p, dst[:]...), rest...)
	}
	f.Add(packet(59), packet(6, make([]byte, 24)...))
	f.Add(packet(6, 0, 1, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0, 'a'),
		packet(6, 0, 1, 0, 2, 0, 0, 0, 10, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0, 'b'))
	f.Add(packet(6, 0, 1, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x60, 0x02, 0, 0, 0, 0, 0, 0, 2, 4, 255, 255), packet(17, 0, 1, 0, 2, 0, 9, 0, 0, 'x'))
	f.Add([]byte{}, []byte{6 << 4})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		bufs := [][]byte{bytes.Clone(a), bytes.Clone(b), bytes.Clone(b)}
		d.Write(bufs, 0)
		for len(d.out) > 0 {
			out, sizes := [][]byte{make([]byte, 1<<16)}, make([]int, 1)
			d.Read(out, sizes, 0)
		}
	})
}

func TestJoinOnlyWhatBelongsTogether(t *testing.T) {
	make2 := func(change func(ip header.IPv6, tcp header.TCP)) [][]byte {
		var bufs [][]byte
		for i := range 2 {
			p := make([]byte, 60+100)
			header.IPv6(p).Encode(&header.IPv6Fields{PayloadLength: 120, TransportProtocol: 6, HopLimit: 64})
			header.TCP(p[40:]).Encode(&header.TCPFields{SrcPort: 1, DstPort: 2, SeqNum: uint32(100 * i), AckNum: 7,
				DataOffset: 20, Flags: header.TCPFlagAck, WindowSize: 9})
			bufs = append(bufs, p)
		}
		change(bufs[1], bufs[1][40:])
		return bufs
	}
	tests := []struct {
		name   string
		change func(header.IPv6, header.TCP)
		want   int // packets
	}{
		{"consecutive", func(header.IPv6, header.TCP) {}, 1},
		{"a gap", func(_ header.IPv6, t header.TCP) { t.SetSequenceNumber(101) }, 2},
		{"the same twice", func(_ header.IPv6, t header.TCP) { t.SetSequenceNumber(0) }, 2},
		{"another port", func(_ header.IPv6, t header.TCP) { t.SetSourcePort(3) }, 2},
		{"another acknowledgement", func(_ header.IPv6, t header.TCP) { t.SetAckNumber(8) }, 2},
		{"another window", func(_ header.IPv6, t header.TCP) { t.SetWindowSize(8) }, 2},
		{"the end", func(_ header.IPv6, t header.TCP) { t.SetFlags(uint8(header.TCPFlagAck | header.TCPFlagFin)) }, 2},
		{"another class", func(ip header.IPv6, _ header.TCP) { ip.SetTOS(4, 0) }, 2},
		{"a wrong length", func(ip header.IPv6, _ header.TCP) { ip.SetPayloadLength(119) }, 2},
	}
	for _, tt := range tests {
		j := joiner{bufs: make2(tt.change)}
		n := 0
		for j.next() != nil {
			n++
		}
		if n != tt.want {
			t.Errorf("%s: %d packets, want %d", tt.name, n, tt.want)
		}
	}
}

// What is joined is what was cut: the payload in order, once.
func FuzzJoin(f *testing.F) {
	f.Add(uint16(100), uint8(5), uint16(30), true)
	f.Add(uint16(1220), uint8(64), uint16(1220), false)
	f.Add(uint16(1), uint8(1), uint16(0), true)
	f.Fuzz(func(t *testing.T, mss uint16, count uint8, last uint16, push bool) {
		if mss == 0 || mss > 1220 || count == 0 {
			return
		}
		var bufs [][]byte
		var want []byte
		seq := uint32(1<<32 - 1000) // wraps around
		for i := range int(count) {
			n := int(mss)
			if i == int(count)-1 {
				n = int(last) % (int(mss) + 1)
			}
			p := make([]byte, 60+n)
			p[0], p[6] = 6<<4, 6
			binary.BigEndian.PutUint16(p[4:], uint16(20+n))
			tcp := header.TCP(p[40:])
			tcp.Encode(&header.TCPFields{SeqNum: seq, DataOffset: 20, Flags: header.TCPFlagAck})
			if push && i%7 == 6 {
				tcp.SetFlags(uint8(header.TCPFlagAck | header.TCPFlagPsh))
			}
			for k := range n {
				p[60+k] = byte(i + k)
			}
			want = append(want, p[60:]...)
			seq += uint32(n)
			bufs = append(bufs, p)
		}
		var got []byte
		next := uint32(1<<32 - 1000)
		j := joiner{bufs: bufs}
		for v := j.next(); v != nil; v = j.next() {
			p := v.AsSlice()
			tcp := header.TCP(p[40:])
			if len(p) > maxJoined || int(binary.BigEndian.Uint16(p[4:])) != len(p)-40 || tcp.SequenceNumber() != next {
				t.Fatalf("a packet of %d bytes at %d says %d at %d", len(p), next, binary.BigEndian.Uint16(p[4:])+40, tcp.SequenceNumber())
			}
			next += uint32(len(p) - 60)
			got = append(got, p[60:]...)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes became %d others", len(want), len(got))
		}
	})
}

// A second key of ours: a node is reached by the old one until something comes
// from it by the new one, a question is answered by the keys that it came by,
// and when the old key goes nobody is left without.
func TestPacketsMoveToANewKeyOnlyWhenItIsHeard(t *testing.T) {
	s, old := newStack(t, left, 1280, 10)
	if err := s.SetRoutes([]Route{{right, 1280, []Mark{2, 1}}}); err != nil {
		t.Fatal(err)
	}
	using := func(when string, d *Device, m Mark) {
		t.Helper()
		if gotD, gotM, _ := s.Using(right); gotD != d || gotM != m {
			t.Errorf("%s: packets go by the key %d and the mark %d, want %d and %d", when, gotD.mark, gotM, d.mark, m)
		}
	}
	heard := func(by *Device, from, to Mark, kind byte) {
		p := make([]byte, 40)
		p[0], p[6], p[7] = 6<<4, 59, kind
		src, dst := Marked(right, from).As16(), Marked(left, to).As16()
		copy(p[8:], src[:])
		copy(p[24:], dst[:])
		by.Write([][]byte{p}, 0)
	}
	sent := func(by *Device) (kind byte, from, to Mark) {
		t.Helper()
		if len(by.out) == 0 {
			t.Fatalf("the key %d has nothing to send", by.mark)
		}
		buf, sizes := [][]byte{make([]byte, 1280)}, make([]int, 1)
		by.Read(buf, sizes, 0)
		return buf[0][7], Mark(binary.BigEndian.Uint16(buf[0][14:])), Mark(binary.BigEndian.Uint16(buf[0][30:]))
	}
	heard(old, 1, 10, answers)
	using("heard by the old key", old, 1)
	young := s.NewDevice(20)
	using("a new key", old, 1)
	s.Announce(right)
	if kind, from, to := sent(young); kind != asks || from != 20 || to != 1 {
		t.Errorf("a question of kind %d goes from mark %d to %d, want %d, 20, 1", kind, from, to, asks)
	}
	if s.Settled(right) {
		t.Error("packets are said to go by the new key before the answer")
	}
	heard(old, 2, 10, asks) // the node has a new key, too
	using("the node has a new key", old, 2)
	if kind, from, to := sent(old); kind != answers || from != 10 || to != 2 {
		t.Errorf("an answer of kind %d goes from mark %d to %d, want %d, 10, 2", kind, from, to, answers)
	}
	heard(young, 1, 20, answers)
	using("an answer by the new key", young, 1)
	s.Announce(right)
	if _, from, to := sent(young); from != 20 || to != 2 {
		t.Errorf("the question goes from mark %d to %d, want the newest of both", from, to)
	}
	heard(old, 2, 10, answers)
	using("something late by the old key", young, 1)
	heard(young, 2, 20, answers)
	using("an answer by the newest of both", young, 2)
	if len(old.out)+len(young.out) > 0 {
		t.Error("an answer was answered")
	}
	if !s.Settled(right) {
		t.Error("packets go by the newest keys, and it is not said")
	}
	third := s.NewDevice(30)
	young.Close()
	using("the new key is gone", old, 2)
	old.Close()
	using("only the third is left", third, 2)
	third.Close()
	if _, _, ok := s.Using(right); ok {
		t.Error("packets go by a key that is gone")
	}
}

// A node that comes back with its old key, as after a crash, is heard again
// when the new one has been silent for a while.
func TestAnOldKeyIsGoodAgainWhenTheNewOneIsSilent(t *testing.T) {
	s, d := newStack(t, left, 1280, 10)
	if err := s.SetRoutes([]Route{{right, 1280, []Mark{2, 1}}}); err != nil {
		t.Fatal(err)
	}
	r := (*s.link.routes.Load())[right.As16()]
	at := time.Now()
	r.heard(r.lane(d, 2), at)
	r.heard(r.lane(d, 1), at.Add(silence-time.Second))
	if _, m, _ := s.Using(right); m != 2 {
		t.Errorf("after a moment packets carry mark %d, want 2", m)
	}
	r.heard(r.lane(d, 1), at.Add(silence))
	if _, m, _ := s.Using(right); m != 1 {
		t.Errorf("after %v of silence packets carry mark %d, want 1", silence, m)
	}
}
