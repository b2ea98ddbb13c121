package peers

import (
	"context"
	"fmt"
	"net"

	"github.com/holdfast-mesh/holdfast/mesh/network"
	"github.com/holdfast-mesh/holdfast/tunnel"
)

// A Network is the network of the mesh over a tunnel: whatever comes from the
// address of a node in it comes from that node.
type Network struct{ t *tunnel.Tunnel }

var _ network.Network = Network{}

// NewNetwork returns the network over t.
func NewNetwork(t *tunnel.Tunnel) Network { return Network{t} }

// A conn is a connection with a node.
type conn struct {
	net.Conn
	node string
}

func (c *conn) RemoteNode() string { return c.node }

// NetConn returns the connection of the tunnel.
func (c *conn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends what is sent, and goes on receiving.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// Listen takes connections of peers to a service.
func (n Network) Listen(service uint16) (net.Listener, error) {
	l, err := n.t.Listen(service)
	if err != nil {
		return nil, fmt.Errorf("listen for peers on service %d: %w", service, err)
	}
	return &listener{l, n.t}, nil
}

type listener struct {
	net.Listener
	t *tunnel.Tunnel
}

// Accept waits for a connection of a peer.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		node, is := l.t.NodeOf(c.RemoteAddr())
		if is {
			return &conn{c, string(node)}, nil
		}
		c.Close() // it was a peer a moment ago
	}
}

// Dial connects to a service of a peer.
func (n Network) Dial(ctx context.Context, node string, service uint16) (net.Conn, error) {
	c, err := n.t.Dial(ctx, tunnel.NodeID(node), service)
	if err != nil {
		return nil, err
	}
	return &conn{c, node}, nil
}

// ListenPacket opens the packets of a service.
func (n Network) ListenPacket(service uint16) (network.PacketConn, error) {
	p, err := n.t.ListenPacket(service)
	if err != nil {
		return nil, fmt.Errorf("listen for packets of peers on service %d: %w", service, err)
	}
	return &packets{PacketConn: p, t: n.t, service: service}, nil
}

// packets are those of one service.
type packets struct {
	net.PacketConn
	t       *tunnel.Tunnel
	service uint16
}

// ReadFrom waits for a packet of a peer.
func (p *packets) ReadFrom(b []byte) (int, string, error) {
	for {
		n, from, err := p.PacketConn.ReadFrom(b)
		if err != nil {
			return 0, "", err
		}
		if node, is := p.t.NodeOf(from); is {
			return n, string(node), nil
		}
	}
}

// WriteTo sends a packet to the same service of a peer.
func (p *packets) WriteTo(b []byte, node string) error {
	to, is := p.t.AddrOf(tunnel.NodeID(node), p.service)
	if !is {
		return fmt.Errorf("send to %s: %w", node, tunnel.ErrNoPeer)
	}
	_, err := p.PacketConn.WriteTo(b, to)
	return err
}
