package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/claims"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/plans"
	"github.com/holdfast-mesh/holdfast/pbs/api/rules"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// share decides which of the nodes that share the job of a schedule runs it.
func (n *Node) share(schedule string) jobs.Share {
	job := settings.JobOf(schedule)
	return func(ctx context.Context, slot, until time.Time, run func(context.Context, time.Time) error) error {
		all, claim := n.cluster.Claims(), claimOf(job)
		err := all.Turn(ctx, claim, slot, until, n.sharers(job), func(ctx context.Context, f ledger.Fence) error {
			return run(jobs.WithFence(ctx, jobs.Fence(f)), all.Before(claim, slot))
		})
		if other := (*claims.Elsewhere)(nil); errors.As(err, &other) {
			return &jobs.Elsewhere{Node: n.nameOf(other.Node), How: other.State}
		}
		return err
	}
}

// claimOf is what is claimed for a job.
func claimOf(job string) string { return "job/" + job }

// sharers are the nodes that have a shared job, would run it, and could.
func (n *Node) sharers(job string) (all []claims.Candidate) {
	for _, m := range members.All(n.cluster, false) {
		state := n.cluster.SettingsOf(m.ID).State()
		if r := state.Rule(job); r.Shared && state.Floats(job) && state.Ready(job) && m.State != ledger.Draining {
			all = append(all, claims.Candidate{Node: m.ID, Weight: float64(max(r.Weight, 1))})
		}
	}
	return all
}

// calendar is when the jobs of all nodes are due.
func (n *Node) calendar(from, until time.Time) []rules.Slot {
	var all []plans.Site
	said := n.feeds.Nodes()
	for _, m := range members.All(n.cluster, false) {
		s := plans.Site{Node: m.Name, Site: m.Site, State: n.cluster.SettingsOf(m.ID).State(), Zone: time.Local}
		s.Resolve = func(remote string) (string, bool) {
			if remote == "" {
				return m.Name, true
			}
			other, err := n.pulls.Resolve(remote)
			return other.Name, err == nil
		}
		s.Took = func(job string) time.Duration { return plans.Took(said[m.ID].Last, s.State, job) }
		all = append(all, s)
	}
	return plans.Calendar(all, from, until)
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
	for _, id := range n.cluster.Claims().Next(claimOf(job), n.sharers(job)) {
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
