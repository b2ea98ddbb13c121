package stack

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// stuffed returns how many bytes a connection from a to b takes while nobody
// reads them, with buffers set on both ends.
func stuffed(t *testing.T, read, write int) int {
	t.Helper()
	a, b := linked(t, 1280, 1280, nil)
	l, err := b.Listen(80)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	c, err := a.Dial(t.Context(), netip.AddrPortFrom(right, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	far := <-accepted
	defer far.Close()
	if write > 0 {
		a.SetWriteBuffer(c, write)
		b.SetReadBuffer(far, read)
	}
	total := 0
	for buf := make([]byte, 16<<10); ; {
		_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := c.Write(buf)
		if total += n; err != nil {
			return total
		}
	}
}

// What is on its way to a connection, and what is kept for it, is what was set.
func TestBuffersAreSet(t *testing.T) {
	t.Parallel()
	if n := stuffed(t, 128<<10, 256<<10); n > 400<<10 {
		t.Errorf("%d bytes went into a connection that may hold 128 + 256 KiB", n)
	}
	if n := stuffed(t, 0, 0); n < 800<<10 {
		t.Errorf("%d bytes went into one that was left alone", n)
	}
}

// A connection that is over, or none of ours, is no reason to fail.
func TestBuffersOfNothing(t *testing.T) {
	t.Parallel()
	a, _ := linked(t, 1280, 1280, nil)
	x, y := net.Pipe()
	defer x.Close()
	defer y.Close()
	a.SetReadBuffer(x, 1)
	a.SetWriteBuffer(&net.TCPConn{}, 1)
}
