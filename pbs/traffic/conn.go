package traffic

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// A Conn keeps to the rules of its [Limiter].
type Conn struct {
	net.Conn
	limiter *Limiter
	from    netip.Addr

	closeOnce sync.Once
	closed    chan struct{}

	readBy, writeBy deadline

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
	if end, _ := c.readBy.get(); !end.IsZero() && !time.Now().Before(end) {
		return 0, os.ErrDeadlineExceeded // else all that is there could be read without waiting
	}
	n, err := c.Conn.Read(p[:r.in.piece(len(p))])
	if n > 0 {
		now := time.Now()
		r.in.count.add(n, now)
		place := r.in.take(n, now)
		if err == nil {
			// What was read is there, whatever ends the waiting: an error now
			// would lose it. Whoever reads next pays.
			_ = c.wait(r.in, place, &c.readBy)
		}
	}
	return n, err
}

// Write writes in pieces, and waits before each.
func (c *Conn) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		piece := p
		if r := c.current(); r != nil {
			piece = p[:r.out.piece(len(p))]
			place := r.out.take(len(piece), time.Now())
			if err := c.wait(r.out, place, &c.writeBy); err != nil {
				r.out.giveBack(len(piece))
				return written, err
			}
			r.out.count.add(len(piece), time.Now())
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

// wait waits until the bytes before a place may pass, the deadline is over, or
// the connection is closed. It notices within a second that limits change.
func (c *Conn) wait(b *bucket, place int64, by *deadline) error {
	for {
		now := time.Now()
		left := b.delay(place, now)
		if left == 0 || !c.keepsTo(b) {
			return nil
		}
		left = min(left, lookEvery)
		end, changed := by.get()
		if !end.IsZero() {
			if !now.Before(end) {
				return os.ErrDeadlineExceeded
			}
			left = min(left, end.Sub(now))
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-changed:
		case <-c.closed:
			timer.Stop()
			return net.ErrClosed
		}
		timer.Stop()
	}
}

// keepsTo tells whether b is still what limits the connection.
func (c *Conn) keepsTo(b *bucket) bool {
	r := c.current()
	return r != nil && (r.in == b || r.out == b)
}

// A deadline is one that may be changed while somebody waits for it.
type deadline struct {
	mu sync.Mutex

	at      time.Time // zero: none
	changed chan struct{}
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = t
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

// get returns the deadline, and a channel that is closed when it changes.
func (d *deadline) get() (time.Time, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return d.at, d.changed
}

// Close closes the connection and ends all waiting.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// SetDeadline is that of [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	c.readBy.set(t)
	c.writeBy.set(t)
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline is that of [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.readBy.set(t)
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline is that of [net.Conn].
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.set(t)
	return c.Conn.SetWriteDeadline(t)
}

// NetConn returns the connection below, as that of crypto/tls does.
func (c *Conn) NetConn() net.Conn { return c.Conn }
