// Package figures gathers what monitors are told of the mesh.
package figures

import (
	"slices"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/feeds"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/metrics"
	"github.com/holdfast-mesh/holdfast/node/peers"
)

// Of returns what there is to tell by now; ways are those to the other nodes.
func Of(c *cluster.Cluster, f *feeds.Feeds, ways map[string]peers.Peer) metrics.Mesh {
	g := c.Group().Status()
	open, _ := c.Guard().Breaker()
	m := metrics.Mesh{
		Ledger: metrics.Ledger{
			Quorum: g.Leader != "", Leader: g.Leader == c.Self(), Voter: slices.Contains(g.Voters, c.Self()),
			Applied: g.Applied, Term: g.Term, Seen: g.LeaderSeen, Diverged: c.Diverged() > 0, Rejoins: g.Rejoins,
		},
		Guard:  metrics.Guard{BreakerOpen: open, Pending: len(c.Guard().Pending()), Blocks: len(c.Guard().Blocks())},
		Claims: map[string]int{},
	}
	for _, claim := range ledger.Claims.All(c.View()) {
		switch {
		case claim.Body.State != ledger.Running:
		case claim.Body.Owner.NodeID() == c.Self():
			m.Claims["self"]++
		default:
			m.Claims["others"]++
		}
	}
	said := f.Nodes()
	for _, x := range members.All(c, false) {
		if x.Self {
			continue
		}
		way := ways[x.ID]
		m.Peers = append(m.Peers, metrics.Peer{
			Name: x.Name, Site: x.Site, Up: way.Path != "" && way.Path != peers.PathNone, Direct: way.Path == peers.PathDirect,
			RTT: way.RTT, Loss: way.Loss, Heard: way.Heard, Handshake: way.Handshake, Changes: way.Changes,
			Lag: f.Lag(x.ID, way.Feed), Said: said[x.ID].Newest,
		})
	}
	return m
}
