package meshtest

import (
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/network"
)

var _ network.Network = (*Node)(nil)

// maxWaiting is how many packets wait for who reads them, as in the buffer of
// a socket; more are lost.
const maxWaiting = 512

// ListenPacket receives and sends packets of a service of this node.
func (p *Node) ListenPacket(service uint16) (network.PacketConn, error) {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	k := key{p.name, service}
	if p.n.packets[k] != nil {
		return nil, fmt.Errorf("%s receives packets on %d already", p.name, service)
	}
	c := &packetConn{n: p.n, key: k, moved: make(chan struct{})}
	p.n.packets[k] = c
	return c, nil
}

// lost tells whether a packet does not arrive.
func (n *Network) lost(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.isCutLocked(from, to) || n.rng.Float64() < n.loss
}

// delayPacket returns how long a packet that arrives takes.
func (n *Network) delayPacket(from, to string, bytes int) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.traffic[from] += int64(bytes)
	n.traffic[to] += int64(bytes)
	n.messages[from]++
	n.messages[to]++
	return time.Duration(float64(n.rtt) / 2 * (1 + n.jitter*n.rng.Float64()))
}

func (n *Network) packetConn(k key) *packetConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.packets[k]
}

// A packetConn is a service of a node that receives packets.
type packetConn struct {
	n   *Network
	key key

	mu       sync.Mutex
	queue    []datagram // by the time at which they arrive
	deadline time.Time
	closed   bool
	moved    chan struct{} // closed when any of the above changes
}

type datagram struct {
	at   time.Time
	from string
	data []byte
}

func (c *packetConn) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.moved)
	c.moved = make(chan struct{})
}

func (c *packetConn) ReadFrom(b []byte) (int, string, error) {
	for {
		c.mu.Lock()
		now, moved, deadline := time.Now(), c.moved, c.deadline
		until := deadline
		switch {
		case c.closed:
			c.mu.Unlock()
			return 0, "", net.ErrClosed
		case !deadline.IsZero() && !now.Before(deadline):
			c.mu.Unlock()
			return 0, "", os.ErrDeadlineExceeded
		case len(c.queue) > 0 && !now.Before(c.queue[0].at):
			d := c.queue[0]
			c.queue = c.queue[1:]
			c.mu.Unlock()
			return copy(b, d.data), d.from, nil
		case len(c.queue) > 0 && (until.IsZero() || c.queue[0].at.Before(until)):
			until = c.queue[0].at
		}
		c.mu.Unlock()
		wait(until, moved)
	}
}

// wait waits for a time, if it is not zero, or until moved is closed.
func wait(until time.Time, moved <-chan struct{}) {
	if until.IsZero() {
		<-moved
		return
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-t.C:
	case <-moved:
	}
}

func (c *packetConn) WriteTo(b []byte, node string) error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	switch {
	case closed:
		return net.ErrClosed
	case len(b) > network.MaxPacket:
		return fmt.Errorf("a packet of %d bytes, want at most %d", len(b), network.MaxPacket)
	}
	delay := c.n.delayPacket(c.key.node, node, len(b))
	to := c.n.packetConn(key{node, c.key.service})
	if to == nil || c.n.lost(c.key.node, node) {
		return nil
	}
	d := datagram{time.Now().Add(delay), c.key.node, append([]byte{}, b...)}
	to.change(func() {
		if to.closed || len(to.queue) >= maxWaiting {
			return
		}
		i := len(to.queue)
		for i > 0 && d.at.Before(to.queue[i-1].at) {
			i--
		}
		to.queue = append(to.queue, datagram{})
		copy(to.queue[i+1:], to.queue[i:])
		to.queue[i] = d
	})
	return nil
}

func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.change(func() { c.deadline = t })
	return nil
}

func (c *packetConn) Close() error {
	c.n.mu.Lock()
	if c.n.packets[c.key] == c {
		delete(c.n.packets, c.key)
	}
	c.n.mu.Unlock()
	c.change(func() { c.closed = true })
	return nil
}
