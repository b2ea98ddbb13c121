package node

import (
	"github.com/holdfast-mesh/holdfast/mesh/invite"
)

// ask returns whom a machine that joins can ask.
func (n *Node) ask() []invite.Member { return []invite.Member{{Node: n.cluster.Self()}} }

// statusOfPeer fills in what this node has heard of another.
func (n *Node) statusOfPeer(m *member) {}
