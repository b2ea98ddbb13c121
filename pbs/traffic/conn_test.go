package traffic

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// pair returns a connection that keeps to the rules, and its other end.
func pair(t *testing.T, lines ...string) (*Limiter, *Conn, net.Conn) {
	t.Helper()
	l := New()
	if err := l.Set(rules(lines...)); err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	c := l.Wrap(pipeConn{near, "192.0.2.1:1234"})
	t.Cleanup(func() { c.Close(); far.Close() })
	return l, c, far
}

// Who waits for his turn is woken by the deadline, and by Close.
func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		if err := l.Set(rules("all 0.0.0.0/0 1KiB")); err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		go func() { io.Copy(io.Discard, far) }()
		c := l.Wrap(pipeConn{near, "192.0.2.1:1234"})
		start := time.Now()
		c.SetWriteDeadline(start.Add(3 * time.Second))
		if n, err := c.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
			t.Errorf("wrote %d: %v", n, err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("woken after %v", took)
		}
		c.SetWriteDeadline(time.Time{})
		time.AfterFunc(5*time.Second, func() { c.Close() })
		start = time.Now()
		if _, err := c.Write(make([]byte, 1<<20)); !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("closed: %v", err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("woken after %v", took)
		}
	})
}

// A deadline ends the waiting for what was read, which is there all the same,
// and still is to be paid: in the end the rate is kept.
func TestDeadlinesSaveNobodyFromTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, far := pair(t, "all 0.0.0.0/0 10KiB")
		const all = 110 << 10
		go func() { far.Write(make([]byte, all)) }()
		start, got, buf := time.Now(), 0, make([]byte, 4<<10)
		for got < all {
			c.SetReadDeadline(time.Now().Add(time.Millisecond)) // less than any piece takes
			n, err := c.Read(buf)
			if got += n; err != nil {
				t.Fatalf("after %d bytes: %v", got, err)
			}
			if n > 0 && time.Since(start) > time.Hour {
				t.Fatal("it takes for ever")
			}
		}
		c.SetReadDeadline(time.Time{})
		go func() { far.Write([]byte("x")) }()
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 9900*time.Millisecond || took > 10100*time.Millisecond {
			t.Errorf("110 KiB at 10 KiB/s with a burst of 10 KiB took %v, want 10 s", took)
		}
	})
}

// A deadline that is set while somebody waits wakes who waits: so net/http ends
// its reading in the background before a connection is taken over.
func TestDeadlineSetWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, far := pair(t, "all 0.0.0.0/0 1KiB")
		go func() { io.Copy(io.Discard, far) }()
		go func() { far.Write(make([]byte, 64<<10)) }()
		for what, tt := range map[string]struct {
			do   func() error
			wake func()
			want error
		}{
			"read":  {func() error { _, err := io.ReadFull(c, make([]byte, 32<<10)); return err }, func() { c.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
			"write": {func() error { _, err := c.Write(make([]byte, 32<<10)); return err }, func() { c.SetWriteDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		} {
			start := time.Now()
			time.AfterFunc(1234567*time.Microsecond, tt.wake)
			if err := tt.do(); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", what, err, tt.want)
			}
			if took := time.Since(start); took != 1234567*time.Microsecond {
				t.Errorf("%s: woken after %v", what, took)
			}
		}
		c.SetDeadline(time.Time{})
		start := time.Now()
		time.AfterFunc(time.Second, func() { c.SetReadDeadline(start.Add(2 * time.Second)) })
		if _, err := io.ReadFull(c, make([]byte, 32<<10)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 2*time.Second {
			t.Errorf("a deadline in the future: %v after %v", err, time.Since(start))
		}
	})
}

// Rules that change under a connection change its speed within a second, in
// either direction, and never break it.
func TestRulesChangeUnderAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c, far := pair(t, "all 0.0.0.0/0 100MiB")
		go func() { io.Copy(io.Discard, far) }()
		write := func(n int) time.Duration {
			t.Helper()
			start := time.Now()
			if _, err := c.Write(make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		change := func(lines ...string) {
			if err := l.Set(rules(lines...)); err != nil {
				t.Error(err)
			}
		}
		c.SetWriteDeadline(time.Now().Add(24 * time.Hour))
		write(1 << 20)
		change("all 0.0.0.0/0 1KiB") // a burst that is less than a piece was before
		if took := write(11 << 10); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("11 KiB at 1 KiB/s took %v", took)
		}
		time.AfterFunc(10*time.Second, func() { change("all 0.0.0.0/0 1MiB") })
		if took := write(4 << 20); took > 16*time.Second {
			t.Errorf("4 MiB, most of it at 1 MiB/s, took %v", took)
		}
		change("all 0.0.0.0/0 1KiB")
		time.AfterFunc(10*time.Second, func() { change() })
		if took := write(4 << 20); took > 11*time.Second+lookEvery {
			t.Errorf("after the rule was removed it still took %v", took)
		}
	})
}

// Those who share a rate take turns; what one gives up is there for the others;
// and a change is noticed by all that wait, however long the queue was.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c, far := pair(t, "all 0.0.0.0/0 1KiB")
		go func() { io.Copy(io.Discard, far) }()
		if _, err := c.Write(make([]byte, 1<<10)); err != nil { // the burst
			t.Fatal(err)
		}
		c.SetWriteDeadline(time.Now().Add(-time.Second))
		for range 1000 {
			if _, err := c.Write([]byte("given up")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
		}
		const many = 100
		start, done := time.Now(), make(chan time.Duration, many)
		for range many {
			near, far := net.Pipe()
			go func() { io.Copy(io.Discard, far) }()
			c := l.Wrap(pipeConn{near, "192.0.2.2:1"})
			go func() {
				_, err := c.Write(make([]byte, 256))
				done <- time.Since(start)
				if err = errors.Join(err, c.Close()); err != nil {
					t.Error(err)
				}
			}()
		}
		for i := range 10 {
			if took, want := <-done, time.Duration(i+1)*250*time.Millisecond; took < want-time.Millisecond || took > want+time.Millisecond {
				t.Errorf("number %d had its turn after %v, want %v", i, took, want)
			}
		}
		if err := l.Set(rules("all 0.0.0.0/0 1MiB")); err != nil {
			t.Fatal(err)
		}
		for range many - 10 {
			if took := <-done; took > 4*time.Second {
				t.Errorf("after the change one still waited until %v", took)
			}
		}
	})
}

// Without its rule nobody waits any more.
func TestRuleIsRemovedWhileManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c, far := pair(t, "all 0.0.0.0/0 1KiB")
		go func() { io.Copy(io.Discard, far) }()
		(*l.rules.Load())[0].out.take(100<<10, time.Now()) // what many others wait for
		start := time.Now()
		time.AfterFunc(5*time.Second, func() {
			if err := l.Set(nil); err != nil {
				t.Error(err)
			}
		})
		if _, err := c.Write([]byte("x")); err != nil || time.Since(start) > 6*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// At a low rate what comes is passed on in small pieces: a sign of life does
// not wait behind a megabyte.
func TestPiecesAreSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, far := pair(t, "all 0.0.0.0/0 10KiB")
		go func() { far.Write(make([]byte, 1<<20)) }()
		for i := range 100 {
			start := time.Now()
			if n, err := c.Read(make([]byte, 1<<20)); err != nil || time.Since(start) > 150*time.Millisecond {
				t.Fatalf("read %d: %d bytes after %v, %v", i, n, time.Since(start), err)
			}
		}
		if n, err := c.Read(nil); n != 0 || err != nil {
			t.Errorf("reading nothing: %d, %v", n, err)
		}
	})
}

// Of rules of which one makes no sense none is put in force, not even in part.
func TestRefusedRulesChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c, far := pair(t, "all 0.0.0.0/0 1KiB")
		go func() { io.Copy(io.Discard, far) }()
		if err := l.Set(rules("all 0.0.0.0/0 1GiB", "bad 192.0.2.0/24 fast")); err == nil {
			t.Fatal("nonsense is accepted")
		}
		start := time.Now()
		if _, err := c.Write(make([]byte, 11<<10)); err != nil || time.Since(start) < 9*time.Second {
			t.Errorf("11 KiB took %v, %v", time.Since(start), err)
		}
	})
}
