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
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// share decides which of the nodes that share a sync job runs it.
func (n *Node) share(id string) jobs.Share {
	return func(ctx context.Context, slot, until time.Time, run func(context.Context, time.Time) error) error {
		all, job := n.cluster.Claims(), claimOf("sync:"+id)
		err := all.Turn(ctx, job, slot, until, n.sharers(id), func(ctx context.Context, _ ledger.Fence) error {
			return run(ctx, all.Before(job, slot))
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

// claimBucket runs work on a bucket of this node, and none of another node
// meanwhile that has set up a datastore in the same place to write to it.
func (n *Node) claimBucket(ctx context.Context, store, bucket string, work func(ctx context.Context, shared bool, unsure error) error) error {
	if !n.owners(store) {
		return work(ctx, false, nil)
	}
	began := false
	err := n.cluster.Claims().Hold(ctx, "bucket/"+bucket, func(ctx context.Context, _ ledger.Fence) error {
		began = true
		return work(ctx, true, nil)
	})
	taken := (*claims.Taken)(nil)
	switch {
	case errors.As(err, &taken):
		return &jobs.Elsewhere{Node: n.nameOf(taken.Node), How: "running"}
	case err != nil && !began && ctx.Err() == nil:
		return work(ctx, true, err) // a site stands alone: the bucket has a fence of its own
	}
	return err
}

// owners tells whether other nodes may own the bucket of a datastore of ours.
func (n *Node) owners(store string) bool {
	mine := n.settings.State()
	d, _ := mine.Datastore(store)
	place := mine.BucketOf(d)
	for _, m := range members.All(n.cluster, false) {
		if m.ID == n.cluster.Self() || place == "" {
			continue
		}
		state := n.cluster.SettingsOf(m.ID).State()
		if slices.ContainsFunc(state.Datastores, func(d settings.Datastore) bool { return !d.Backend.ReadOnly && state.BucketOf(d) == place }) {
			return true
		}
	}
	return false
}
