package node

import (
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/overview"
	"github.com/holdfast-mesh/holdfast/node/warden"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// warden returns who keeps what of a datastore may not be removed.
func (n *Node) warden(store string) stores.Warden {
	return warden.Config{Guard: n.cluster.Guard(), Age: n.cluster.LedgerAge, Room: n.stores.Room, Copies: n.proven, Log: n.log}.Of(store)
}

// proven is how many other nodes have a copy of a snapshot that was whole when they
// verified it.
func (n *Node) proven(store string, ns catalog.Namespace, s catalog.Snapshot) int {
	return n.feeds.Proven(store, factsGroup(ns, s.Group), s.Time)
}

// alarms are what somebody has to look at of the ledger and the guard of this
// node, the worst first.
func (n *Node) alarms() []overview.Warning {
	list := []overview.Warning{}
	if n.cluster.Gone() {
		list = append(list, overview.Warning{Level: "critical", Node: n.cfg.Name, Text: "it was removed from the cluster: nobody talks to it, and its copies do not count", Hint: goneHint})
	}
	list = slices.Concat(list, members.Waiting(n.cluster, n.cfg.Name), members.KeptOut(n.cluster, n.cfg.Name), members.Clock(n.cluster, n.cfg.Name),
		members.Drafted(n.cluster.Drafts().List(), n.cfg.Name))
	if wrong := n.clockWrong(); wrong != "" {
		list = append(list, overview.Warning{Level: "critical", Node: n.cfg.Name, Text: wrong, Hint: "set it (`timedatectl`), or those of the others if they are wrong and this one is right: times of snapshots, schedules and invites go by them"})
	}
	for _, text := range warden.See(n.cluster.Guard(), members.Missed(n.cluster, n.started)).Warnings() {
		list = append(list, overview.Warning{Level: "warning", Node: n.cfg.Name, Text: text, Hint: "holdfast guard show"})
	}
	return list
}
