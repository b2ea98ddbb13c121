// Package link is the network between nodes over the tunnel: node IDs for
// addresses, and connections that know whose they are.
package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/holdfast-mesh/holdfast/mesh/network"
	"github.com/holdfast-mesh/holdfast/tunnel"
)

// A Network is the tunnel as services see it. What is sent by the address of
// a node comes from that node, since WireGuard drops all else.
type Network struct{ tunnel *tunnel.Tunnel }

var _ network.Network = Network{}

// New returns the network of a tunnel.
func New(t *tunnel.Tunnel) Network { return Network{t} }

// Listen takes connections to a service of this node.
func (n Network) Listen(service uint16) (net.Listener, error) {
	l, err := n.tunnel.Listen(service)
	if err != nil {
		return nil, err
	}
	return listener{l, n.tunnel}, nil
}

// Dial connects to a service of another node. It fails at once for one that is
// no peer.
func (n Network) Dial(ctx context.Context, node string, service uint16) (net.Conn, error) {
	c, err := n.tunnel.Dial(ctx, tunnel.NodeID(node), service)
	if err != nil {
		return nil, err
	}
	return conn{c, node}, nil
}

// ListenPacket receives and sends packets of a service.
func (n Network) ListenPacket(service uint16) (network.PacketConn, error) {
	c, err := n.tunnel.ListenPacket(service)
	if err != nil {
		return nil, err
	}
	return packetConn{c, n.tunnel, service}, nil
}

type listener struct {
	net.Listener
	tunnel *tunnel.Tunnel
}

func (l listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if node, ok := l.tunnel.NodeOf(c.RemoteAddr()); ok {
			return conn{c, string(node)}, nil
		}
		c.Close() // it was a peer a moment ago
	}
}

type conn struct {
	net.Conn
	node string
}

func (c conn) RemoteNode() string { return c.node }

type packetConn struct {
	net.PacketConn
	tunnel  *tunnel.Tunnel
	service uint16
}

// ReadFrom returns the next packet of a peer that came from the same service;
// others do not speak for a node's service and are dropped.
func (c packetConn) ReadFrom(b []byte) (int, string, error) {
	for {
		n, addr, err := c.PacketConn.ReadFrom(b)
		if err != nil {
			return 0, "", err
		}
		from, err := netip.ParseAddrPort(addr.String())
		if err != nil || from.Port() != c.service {
			continue
		}
		if node, ok := c.tunnel.NodeOf(addr); ok {
			return n, string(node), nil
		}
	}
}

// WriteTo sends a packet to a node; to one that is no peer it goes nowhere.
func (c packetConn) WriteTo(b []byte, node string) error {
	if len(b) > network.MaxPacket {
		return fmt.Errorf("a packet of %d bytes, want at most %d", len(b), network.MaxPacket)
	}
	addr, ok := c.tunnel.AddrOf(tunnel.NodeID(node), c.service)
	if !ok {
		return nil
	}
	if _, err := c.PacketConn.WriteTo(b, addr); err != nil && errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil // a packet that cannot be sent now is a lost one
}
