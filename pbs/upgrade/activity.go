package upgrade

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// activity is a connection that knows when a byte last crossed it, and how
// many handlers wait for one.
type activity struct {
	net.Conn
	begun   time.Time
	last    atomic.Int64 // nanoseconds since begun
	waiting atomic.Int32
}

func newActivity(conn net.Conn) *activity { return &activity{Conn: conn, begun: time.Now()} }

func (a *activity) note() { a.last.Store(int64(time.Since(a.begun))) }

func (a *activity) Read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	a.note()
	return n, err
}

func (a *activity) Write(p []byte) (int, error) {
	defer a.wait()()
	n, err := a.Conn.Write(p)
	a.note()
	return n, err
}

// wait counts a handler that waits for the client, until the result is called.
func (a *activity) wait() (done func()) {
	if a.waiting.Add(1) == 1 {
		a.note() // silence before was nobody's fault
	}
	return func() { a.waiting.Add(-1) }
}

// watch calls stalled if handlers wait and nothing moves for so long.
func (a *activity) watch(ctx context.Context, limit time.Duration, stalled func()) {
	tick := time.NewTicker(limit / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		silent := time.Since(a.begun) - time.Duration(a.last.Load())
		if a.waiting.Load() > 0 && silent >= limit {
			stalled()
			return
		}
	}
}

// counted counts handlers that wait for the client.
type counted struct {
	next     http.Handler
	activity *activity
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = &body{r.Body, c.activity}
	c.next.ServeHTTP(&writer{w, c.activity}, r)
}

type body struct {
	io.ReadCloser
	activity *activity
}

func (b *body) Read(p []byte) (int, error) {
	defer b.activity.wait()()
	return b.ReadCloser.Read(p)
}

type writer struct {
	http.ResponseWriter
	activity *activity
}

func (w *writer) Write(p []byte) (int, error) {
	defer w.activity.wait()()
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
