package traffic

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A Conn keeps to the rules of its [Limiter].
type Conn struct {
	net.Conn
	limiter *Limiter
	from    netip.Addr

	closed context.Context
	cancel context.CancelFunc

	readBy, writeBy atomic.Int64 // deadlines, ns since 1970; 0: none

	mu sync.Mutex

	user   string
	rule   *rule
	looked time.Time // when rule was looked for
}

// lookEvery is how long a rule is believed to be the right one.
const lookEvery = time.Second

// SetUser says whose connection it is, once that is known.
func (c *Conn) SetUser(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.user != user {
		c.user, c.looked = user, time.Time{}
	}
}

// current returns the rule that is in force, nil if there is none.
func (c *Conn) current() *rule {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= lookEvery || now.Before(c.looked) {
		c.rule, c.looked = c.limiter.find(c.from, c.user, now), now
	}
	return c.rule
}

// Read reads, and then waits for as long as what was read takes.
func (c *Conn) Read(p []byte) (int, error) {
	r := c.current()
	if r == nil {
		return c.Conn.Read(p)
	}
	n, err := c.Conn.Read(p[:r.in.piece(len(p))])
	if n > 0 && err == nil {
		// What was read is there, whatever happens while we wait: an error
		// now would lose it. Only Close cuts the waiting short.
		_ = c.wait(r.in, n, &c.readBy)
	}
	return n, err
}

// Write writes in pieces, and waits before each.
func (c *Conn) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		piece := p
		if r := c.current(); r != nil {
			piece = p[:r.out.piece(len(p))]
			if err := c.wait(r.out, len(piece), &c.writeBy); err != nil {
				return written, err
			}
		}
		n, err := c.Conn.Write(piece)
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// wait waits until n bytes may pass, at most until the deadline.
func (c *Conn) wait(b *bucket, n int, deadline *atomic.Int64) error {
	ctx := c.closed
	if by := deadline.Load(); by != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, time.Unix(0, by))
		defer cancel()
	}
	err := b.wait(ctx, n)
	switch {
	case err == nil:
		return nil
	case c.closed.Err() != nil:
		return net.ErrClosed
	case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
		return os.ErrDeadlineExceeded
	}
	// The limiter says in advance that it would take longer than the deadline.
	return os.ErrDeadlineExceeded
}

// Close closes the connection and ends all waiting.
func (c *Conn) Close() error {
	c.cancel()
	return c.Conn.Close()
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// SetDeadline is that of [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	c.readBy.Store(nanos(t))
	c.writeBy.Store(nanos(t))
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline is that of [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.readBy.Store(nanos(t))
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline is that of [net.Conn].
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.Store(nanos(t))
	return c.Conn.SetWriteDeadline(t)
}

// NetConn returns the connection below, as that of crypto/tls does.
func (c *Conn) NetConn() net.Conn { return c.Conn }
