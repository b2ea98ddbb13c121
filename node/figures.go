package node

import (
	"slices"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/metrics"
	"github.com/holdfast-mesh/holdfast/node/peers"
)

// meshFigures are what monitors are told of the mesh.
func (n *Node) meshFigures() metrics.Mesh {
	g := n.cluster.Group().Status()
	open, _ := n.cluster.Guard().Breaker()
	m := metrics.Mesh{
		Ledger: metrics.Ledger{
			Quorum: g.Leader != "", Leader: g.Leader == n.cluster.Self(), Voter: slices.Contains(g.Voters, n.cluster.Self()),
			Applied: g.Applied, Term: g.Term, Seen: g.LeaderSeen, Diverged: n.cluster.Diverged() > 0, Rejoins: g.Rejoins,
		},
		Guard:  metrics.Guard{BreakerOpen: open, Pending: len(n.cluster.Guard().Pending()), Blocks: len(n.cluster.Guard().Blocks())},
		Claims: map[string]int{},
	}
	for _, c := range ledger.Claims.All(n.cluster.View()) {
		switch {
		case c.Body.State != ledger.Running:
		case c.Body.Owner.NodeID() == n.cluster.Self():
			m.Claims["self"]++
		default:
			m.Claims["others"]++
		}
	}
	ways, said := n.ways(), n.feeds.Nodes()
	for _, x := range members.All(n.cluster, false) {
		if x.Self {
			continue
		}
		way := ways[x.ID]
		m.Peers = append(m.Peers, metrics.Peer{
			Name: x.Name, Site: x.Site, Up: way.Path != "" && way.Path != peers.PathNone, Direct: way.Path == peers.PathDirect,
			RTT: way.RTT, Loss: way.Loss, Heard: way.Heard, Handshake: way.Handshake, Changes: way.Changes,
			Lag: n.feeds.Lag(x.ID, way.Feed), Said: said[x.ID].Newest,
		})
	}
	return m
}

// ways is what is known of the ways to the other nodes.
func (n *Node) ways() map[string]peers.Peer {
	if n.link == nil {
		return nil
	}
	return n.link.Peers()
}
