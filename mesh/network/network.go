// Package network is what all services between nodes run on: streams and
// packets by node ID and service, each with proof of who is at the other end.
//
// There are three: the tunnel (node/link), the tunnel over simulated networks
// (the same, over tunnel/tunneltest), and one in memory for virtual time
// (mesh/meshtest). What runs on one of them runs on all.
package network

import (
	"context"
	"net"
	"time"
)

// The services between nodes. A number is never used again for another one.
const (
	ServiceRaft   = 8300 // consensus: Raft itself
	ServiceLedger = 8301 // consensus: commands and questions of members
	ServiceGossip = 7946 // mesh/gossip: packets and streams
	ServiceHealth = 7947 // mesh/health: packets
	ServiceFeeds  = 8302 // mesh/exchange: streams
	ServiceRPC    = 8400 // calls from node to node
	ServiceBulk   = 8401 // chunks
)

// MaxPacket is the largest packet that every Network carries whole: what is
// left of 1280 bytes behind the headers of IPv6 and UDP.
const MaxPacket = 1280 - 40 - 8

// A Network is one node's view of the others. Connections that a listener
// accepts, and those that Dial opens, are [Conn].
type Network interface {
	Listen(service uint16) (net.Listener, error)
	Dial(ctx context.Context, node string, service uint16) (net.Conn, error)
	ListenPacket(service uint16) (PacketConn, error)
}

// A Conn is a connection whose other end is authenticated.
type Conn interface {
	net.Conn
	RemoteNode() string
}

// A PacketConn sends and receives packets of one service. Packets get lost,
// and come twice or in another order; who sent one is certain.
type PacketConn interface {
	// ReadFrom waits for a packet. What does not fit into b is cut off.
	ReadFrom(b []byte) (n int, node string, err error)
	// WriteTo sends a packet to the same service of another node. That it
	// returns nil does not mean that the packet arrives.
	WriteTo(b []byte, node string) error
	SetReadDeadline(t time.Time) error
	Close() error
}

// RemoteNode returns who is at the other end of c, "" if nobody has proved it.
func RemoteNode(c net.Conn) string {
	if c, ok := c.(Conn); ok {
		return c.RemoteNode()
	}
	return ""
}
