package meshtest

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A conn is one end of a connection. What is written to it arrives at the
// other end after the delay of the network, in order.
type conn struct {
	n             *Network
	local, remote string
	in, out       *pipe

	mu    sync.Mutex
	read  time.Time // deadline
	write time.Time
	moved chan struct{} // closed when the read deadline changes
}

func newConns(n *Network, local, remote string) (a, b *conn) {
	there, back := newPipe(), newPipe()
	a = &conn{n: n, local: local, remote: remote, in: back, out: there, moved: make(chan struct{})}
	b = &conn{n: n, local: remote, remote: local, in: there, out: back, moved: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[a], n.conns[b] = struct{}{}, struct{}{}
	return a, b
}

func (c *conn) RemoteNode() string   { return c.remote }
func (c *conn) LocalAddr() net.Addr  { return addr(c.local) }
func (c *conn) RemoteAddr() net.Addr { return addr(c.remote) }

func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	deadline := c.write
	c.mu.Unlock()
	if !deadline.IsZero() && !time.Now().Before(deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	if len(b) == 0 {
		return 0, nil
	}
	return c.out.put(b, time.Now().Add(c.n.send(c.local, c.remote, len(b))))
}

func (c *conn) Read(b []byte) (int, error) {
	for {
		c.mu.Lock()
		deadline, moved := c.read, c.moved
		c.mu.Unlock()
		if !deadline.IsZero() && !time.Now().Before(deadline) {
			return 0, os.ErrDeadlineExceeded
		}
		if c.n.isCut(c.remote, c.local) {
			if !c.wait(deadline, moved, time.Now().Add(250*time.Millisecond), c.in.ended()) {
				continue
			}
			if c.in.isReset() {
				return 0, errReset
			}
			continue
		}
		n, at, more, err := c.in.take(b)
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		c.wait(deadline, moved, at, more)
	}
}

// wait waits for the first of the times that are not zero, a move of the
// deadline, or more; it tells whether it was more.
func (c *conn) wait(deadline time.Time, moved <-chan struct{}, at time.Time, more <-chan struct{}) bool {
	first := at
	if !deadline.IsZero() && (first.IsZero() || deadline.Before(first)) {
		first = deadline
	}
	var timer <-chan time.Time
	if !first.IsZero() {
		t := time.NewTimer(time.Until(first))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
	case <-moved:
	case <-more:
		return true
	}
	return false
}

func (c *conn) Close() error {
	c.n.mu.Lock()
	delete(c.n.conns, c)
	c.n.mu.Unlock()
	c.in.reset()
	c.out.end(time.Now().Add(c.n.send(c.local, c.remote, 0)))
	return nil
}

// CloseWrite tells the other end that no more comes.
func (c *conn) CloseWrite() error {
	c.out.end(time.Now().Add(c.n.send(c.local, c.remote, 0)))
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	c.SetWriteDeadline(t)
	return c.SetReadDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	close(c.moved)
	c.moved = make(chan struct{})
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	return nil
}

// A pipe is one direction of a connection.
type pipe struct {
	mu     sync.Mutex
	queue  []packet
	last   time.Time // when the newest packet arrives
	closed bool      // by the writer
	gone   bool      // the reader
	more   chan struct{}
	done   chan struct{} // closed when gone
}

type packet struct {
	at   time.Time
	data []byte // nil: the end
}

func newPipe() *pipe { return &pipe{more: make(chan struct{}), done: make(chan struct{})} }

func (p *pipe) put(b []byte, at time.Time) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.gone {
		return 0, errReset
	}
	p.push(packet{at, append([]byte{}, b...)})
	return len(b), nil
}

func (p *pipe) push(k packet) {
	if k.at.Before(p.last) {
		k.at = p.last
	}
	p.last = k.at
	p.queue = append(p.queue, k)
	close(p.more)
	p.more = make(chan struct{})
}

// take returns what has arrived, or when something will, or a channel that is
// closed when something is sent.
func (p *pipe) take(b []byte) (n int, at time.Time, more <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone:
		return 0, at, nil, net.ErrClosed
	case len(p.queue) == 0:
		return 0, at, p.more, nil
	case time.Now().Before(p.queue[0].at):
		return 0, p.queue[0].at, p.more, nil
	case p.queue[0].data == nil:
		return 0, at, nil, io.EOF
	}
	n = copy(b, p.queue[0].data)
	if p.queue[0].data = p.queue[0].data[n:]; len(p.queue[0].data) == 0 {
		p.queue = p.queue[1:]
	}
	return n, at, nil, nil
}

func (p *pipe) end(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		p.push(packet{at: at})
	}
}

func (p *pipe) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		p.gone = true
		close(p.done)
		close(p.more)
		p.more = make(chan struct{})
	}
}

func (p *pipe) ended() <-chan struct{} { return p.done }

func (p *pipe) isReset() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}
