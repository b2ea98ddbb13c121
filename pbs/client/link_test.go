package client_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A wire is one direction of a connection over a long way: what is written
// arrives after the delay, however much it is. In a bubble of package synctest
// the delay costs nothing.
type wire struct {
	delay time.Duration

	mu      sync.Mutex
	changed *sync.Cond
	parts   []part
	closed  bool // by who writes
	left    bool // by who reads
	cut     bool // nothing arrives any more, and nobody is told
	until   time.Time
}

// A part is what one call of Write had.
type part struct {
	data   []byte
	arrive time.Time
}

func newWire(delay time.Duration) *wire {
	w := &wire{delay: delay}
	w.changed = sync.NewCond(&w.mu)
	return w
}

func (w *wire) write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.left {
		return 0, net.ErrClosed
	}
	if !w.cut {
		w.parts = append(w.parts, part{append([]byte(nil), b...), time.Now().Add(w.delay)})
		time.AfterFunc(w.delay, w.wake)
	}
	return len(b), nil
}

func (w *wire) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed.Broadcast()
}

func (w *wire) read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.left:
			return 0, net.ErrClosed
		case !w.until.IsZero() && !time.Now().Before(w.until):
			return 0, os.ErrDeadlineExceeded
		case len(w.parts) > 0 && !time.Now().Before(w.parts[0].arrive):
			n := copy(b, w.parts[0].data)
			if w.parts[0].data = w.parts[0].data[n:]; len(w.parts[0].data) == 0 {
				w.parts = w.parts[1:]
			}
			return n, nil
		case w.closed && len(w.parts) == 0:
			return 0, io.EOF
		}
		w.changed.Wait()
	}
}

// close ends the wire, for who writes or for who reads.
func (w *wire) close(closed *bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*closed = true
	w.changed.Broadcast()
}

// deadline bounds reading.
func (w *wire) deadline(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = at
	if !at.IsZero() {
		time.AfterFunc(time.Until(at), w.wake)
	}
	w.changed.Broadcast()
}

// An end is one end of a connection over a long way.
type end struct{ in, out *wire }

// farApart returns both ends of a connection with the given round trip.
func farApart(roundTrip time.Duration) (end, end) {
	a, b := newWire(roundTrip/2), newWire(roundTrip/2)
	return end{a, b}, end{b, a}
}

func (e end) Read(b []byte) (int, error)  { return e.in.read(b) }
func (e end) Write(b []byte) (int, error) { return e.out.write(b) }

func (e end) Close() error {
	e.in.close(&e.in.left)
	e.out.close(&e.out.closed)
	return nil
}

// cut has nothing arrive any more, in either direction.
func (e end) cut() {
	for _, w := range []*wire{e.in, e.out} {
		w.mu.Lock()
		w.cut, w.parts = true, nil
		w.mu.Unlock()
	}
}

func (e end) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (e end) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (e end) SetWriteDeadline(t time.Time) error { return nil } // writing never waits
func (e end) SetReadDeadline(t time.Time) error  { e.in.deadline(t); return nil }
func (e end) SetDeadline(t time.Time) error      { e.in.deadline(t); return nil }

// A listener hands out connections that were made beforehand.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn, 16), done: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, errors.New("closed")
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }
