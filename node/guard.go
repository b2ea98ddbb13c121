package node

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/node/warden"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// warden returns who keeps what of a datastore may not be removed.
func (n *Node) warden(store string) stores.Warden {
	return warden.Config{Guard: n.cluster.Guard(), Age: n.cluster.LedgerAge, Room: n.stores.Room, Log: n.log}.Of(store)
}

// alarms are what somebody has to look at, the worst first.
func (n *Node) alarms() []string {
	all := []string{}
	if index := n.cluster.Diverged(); index > 0 {
		all = append(all, fmt.Sprintf("CRITICAL: the ledger of this node is not that of the leader at index %d: keep both data directories, and see docs/consensus.md", index))
	}
	return append(all, warden.See(n.cluster.Guard(), n.cluster.LedgerAge()).Warnings()...)
}
