package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/claims"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/pbs/api/rules"
)

// share decides which of the nodes that share a sync job runs it.
func (n *Node) share(id string) jobs.Share {
	return func(ctx context.Context, slot, until time.Time, run func(context.Context) error) error {
		err := n.cluster.Claims().Turn(ctx, claimOf("sync:"+id), slot, until, n.sharers(id), func(ctx context.Context, _ ledger.Fence) error {
			return run(ctx)
		})
		if other := (*claims.Elsewhere)(nil); errors.As(err, &other) {
			return &jobs.Elsewhere{Node: n.nameOf(other.Node), How: other.State}
		}
		return err
	}
}

// claimOf is what is claimed for a job.
func claimOf(job string) string { return "job/" + job }

// sharers are the nodes that have a shared job of an ID, and would run it.
func (n *Node) sharers(id string) (all []claims.Candidate) {
	for _, m := range members.All(n.cluster, false) {
		state := n.cluster.SettingsOf(m.ID).State()
		if j, is := state.SyncJob(id); is && !j.Disable && state.Rule("sync:"+id).Shared {
			all = append(all, claims.Candidate{Node: m.ID, Weight: 1})
		}
	}
	return all
}

func (n *Node) nameOf(id string) string {
	if row, is := ledger.Members.Get(n.cluster.View(), id); is && row.Body.Name != "" {
		return row.Body.Name
	}
	return id
}

// claimsOf are who had the slots of a shared job, and who comes next.
func (n *Node) claimsOf(job string) (all []rules.Claim, order []string) {
	for _, row := range ledger.Claims.All(n.cluster.View()) {
		if b := row.Body; b.Job == claimOf(job) {
			all = append(all, rules.Claim{Slot: b.Slot, Node: n.nameOf(b.Owner.NodeID()), State: b.State, Fence: b.Fence.Index, At: row.Changed.Unix()})
		}
	}
	slices.SortFunc(all, func(a, b rules.Claim) int { return int(a.Slot - b.Slot) })
	for _, id := range n.cluster.Claims().Next(claimOf(job), n.sharers(strings.TrimPrefix(job, "sync:"))) {
		order = append(order, n.nameOf(id))
	}
	return all, order
}
