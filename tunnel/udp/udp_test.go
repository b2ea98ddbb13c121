package udp

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
)

func listen(t *testing.T, at string, offload bool) *Socket {
	t.Helper()
	s, err := Listen(netip.MustParseAddrPort(at), offload)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// collect receives until count datagrams have come.
func collect(t *testing.T, s *Socket, count int) (all [][]byte) {
	t.Helper()
	buf := make([]byte, 1<<16)
	for len(all) < count {
		n, segment, _, err := s.Receive(buf)
		if err != nil {
			t.Fatal(err)
		}
		for b := buf[:n]; len(b) > 0; {
			m := b[:min(segment, len(b))]
			all = append(all, bytes.Clone(m))
			b = b[len(m):]
		}
	}
	return all
}

func TestDatagramsArriveAsSent(t *testing.T) {
	for _, offload := range []bool{true, false} {
		a, b := listen(t, "127.0.0.1:0", offload), listen(t, "127.0.0.1:0", offload)
		var want [][]byte
		for i, size := range []int{100, 1300, 1300, 1300, 700, 700, 1300, 1, 1300, 1300, 1301} {
			want = append(want, bytes.Repeat([]byte{byte(i)}, size))
		}
		for range 60 { // more than fit one train
			want = append(want, bytes.Repeat([]byte{9}, 1312))
		}
		if err := a.Send(want, b.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		got := collect(t, b, len(want))
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("offload %t: datagram %d has %d bytes, want %d", offload, i, len(got[i]), len(want[i]))
			}
		}
	}
}

func TestOffloadCanBeEnded(t *testing.T) {
	a, b := listen(t, "127.0.0.1:0", true), listen(t, "127.0.0.1:0", true)
	a.NoOffload()
	if a.Offload() {
		t.Error("it is still on")
	}
	if err := a.Send([][]byte{{1}, {2}}, b.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, b, 2); got[1][0] != 2 {
		t.Errorf("got %v", got)
	}
}

func TestTrainOf(t *testing.T) {
	sizes := func(s ...int) (all [][]byte) {
		for _, n := range s {
			all = append(all, make([]byte, n))
		}
		return all
	}
	tests := []struct {
		name string
		bufs [][]byte
		want int
	}{
		{"one", sizes(5), 1},
		{"equal ones", sizes(5, 5, 5), 3},
		{"the last may be smaller", sizes(5, 5, 3, 5), 3},
		{"a larger one begins the next", sizes(5, 6), 1},
		{"what is too large together", sizes(40_000, 40_000), 1},
		{"what is too large alone goes alone", sizes(70_000, 1), 1},
	}
	for _, tt := range tests {
		if got := trainOf(tt.bufs); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	if got := trainOf(make([][]byte, 100)); got != maxSegments {
		t.Errorf("a hundred: %d, want %d", got, maxSegments)
	}
}

func TestWakeAndClose(t *testing.T) {
	s := listen(t, "127.0.0.1:0", true)
	buf := make([]byte, 10)
	s.Wake() // before
	if _, _, _, err := s.Receive(buf); !errors.Is(err, ErrWoken) {
		t.Errorf("woken before: %v", err)
	}
	got := make(chan error)
	go func() {
		_, _, _, err := s.Receive(buf)
		got <- err
	}()
	s.Wake()
	if err := <-got; !errors.Is(err, ErrWoken) {
		t.Errorf("woken: %v", err)
	}
	s.Send([][]byte{{7}}, s.LocalAddr())
	if n, _, from, err := s.Receive(buf); err != nil || n != 1 || from != s.LocalAddr() {
		t.Errorf("then: %d bytes from %v, %v", n, from, err)
	}
	s.Close()
	if _, _, _, err := s.Receive(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestOnlyTheGivenAddressIsBound(t *testing.T) {
	s := listen(t, "127.0.0.1:0", true)
	if !s.LocalAddr().Addr().IsLoopback() {
		t.Errorf("bound to %v", s.LocalAddr())
	}
}

func TestReceiveAllocatesNothing(t *testing.T) {
	a, b := listen(t, "127.0.0.1:0", true), listen(t, "127.0.0.1:0", true)
	buf, m, to := make([]byte, 1<<16), [][]byte{make([]byte, 100)}, b.LocalAddr()
	if n := testing.AllocsPerRun(100, func() {
		if err := a.Send(m, to); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := b.Receive(buf); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("a datagram costs %v allocations", n)
	}
}
