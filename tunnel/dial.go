package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

type netAddr = net.Addr

// ErrNoPeer is what Dial fails with for a node that is not in the table.
var ErrNoPeer = errors.New("it is not a peer")

// Listen accepts connections of peers to a service. [Tunnel.NodeOf] tells whose
// a connection is.
func (t *Tunnel) Listen(service uint16) (net.Listener, error) {
	l, err := t.stack.Listen(service)
	if err != nil {
		return nil, t.orFailed(err)
	}
	return &listener{l, t}, nil
}

// ListenPacket receives and sends packets; see [Tunnel.AddrOf].
func (t *Tunnel) ListenPacket(service uint16) (net.PacketConn, error) {
	p, err := t.stack.ListenPacket(service)
	if err != nil {
		return nil, t.orFailed(err)
	}
	return p, nil
}

// orFailed is why the tunnel did not start, if it did not, in the place of what comes of
// that.
func (t *Tunnel) orFailed(err error) error {
	if why := t.failed.Load(); why != nil {
		return *why
	}
	return err
}

// Dial opens a connection to a service of a node.
func (t *Tunnel) Dial(ctx context.Context, node NodeID, service uint16) (net.Conn, error) {
	t.mu.Lock()
	addr, ok := t.address(node)
	t.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("dial service %d of %s: %w", service, node, ErrNoPeer)
	}
	c, err := t.stack.Dial(ctx, netip.AddrPortFrom(addr, service))
	if err != nil {
		return nil, fmt.Errorf("dial service %d of %s: %w", service, node, reason(ctx, err))
	}
	return t.track(node, c)
}

// reason leaves out the addresses that net.OpError repeats.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// AddrOf returns where packets for a service of a node go.
func (t *Tunnel) AddrOf(node NodeID, service uint16) (*net.UDPAddr, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	addr, ok := t.address(node)
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, service)), ok
}

func (t *Tunnel) address(node NodeID) (netip.Addr, bool) {
	if node == t.cfg.Self {
		return t.cfg.Address, true
	}
	p, ok := t.peers[node]
	return p.Address, ok
}

type listener struct {
	net.Listener
	t *Tunnel
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		node, ok := l.t.NodeOf(c.RemoteAddr())
		if !ok { // it was a peer a moment ago
			c.Close()
			continue
		}
		if c, err := l.t.track(node, c.(*gonet.TCPConn)); err == nil {
			return c, nil
		}
	}
}

// A connection ends when its node is no peer any more.
type connection struct {
	*gonet.TCPConn
	t      *Tunnel
	closed func()
}

// SetReadBuffer and SetWriteBuffer are those of net.TCPConn.
func (c *connection) SetReadBuffer(bytes int) error {
	c.t.stack.SetReadBuffer(c.TCPConn, bytes)
	return nil
}

func (c *connection) SetWriteBuffer(bytes int) error {
	c.t.stack.SetWriteBuffer(c.TCPConn, bytes)
	return nil
}

func (c *connection) Close() error {
	c.closed()
	return c.TCPConn.Close()
}

// track has c close when node leaves the table.
func (t *Tunnel) track(node NodeID, c *gonet.TCPConn) (net.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.address(node); !ok {
		c.Close()
		return nil, fmt.Errorf("connection with %s: %w", node, ErrNoPeer)
	}
	all := t.conns[node]
	if all == nil {
		all = map[io.Closer]struct{}{}
		t.conns[node] = all
	}
	all[c] = struct{}{}
	var once sync.Once
	return &connection{c, t, func() {
		once.Do(func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if delete(all, c); len(all) == 0 && t.conns[node] != nil && len(t.conns[node]) == 0 {
				delete(t.conns, node)
			}
		})
	}}, nil
}

// hangUp closes all connections with node.
func (t *Tunnel) hangUp(node NodeID) {
	for c := range t.conns[node] {
		c.Close()
	}
	delete(t.conns, node)
}
