// Package shares decides which node does what several could: the runs of jobs that
// they share, and what is written to a bucket.
package shares

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/claims"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/pbs/api/rules"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// Shares are those of one node.
type Shares struct {
	Cluster *cluster.Cluster
	Alive   func(node string) bool // whether another is heard of
}

// Share decides which of the nodes that share the job of a schedule runs it.
func (s Shares) Share(schedule string) jobs.Share {
	job := settings.JobOf(schedule)
	return func(ctx context.Context, slot, until time.Time, run func(context.Context, time.Time) error) error {
		all, claim := s.Cluster.Claims(), claimOf(job)
		err := all.Turn(ctx, claim, slot, until, s.candidates(job), func(ctx context.Context, f ledger.Fence) error {
			err := run(jobs.WithFence(ctx, jobs.Fence(f)), all.Before(claim, slot))
			if errors.Is(err, jobs.ErrStalled) {
				err = errors.Join(err, claims.ErrStalled)
			}
			return err
		})
		if other := (*claims.Elsewhere)(nil); errors.As(err, &other) {
			return &jobs.Elsewhere{Node: s.Cluster.NameOf(other.Node), How: other.State}
		}
		return err
	}
}

// Relief tells whether another node could take over what has stalled here.
func (s Shares) Relief(schedule string) bool {
	if s.Cluster.View().Level() < authority.LevelDelay || s.Cluster.Group().Status().Leader == "" {
		return false
	}
	return slices.ContainsFunc(s.candidates(settings.JobOf(schedule)), func(c claims.Candidate) bool {
		return c.Node != s.Cluster.Self() && s.Alive(c.Node)
	})
}

// claimOf is what is claimed for a job.
func claimOf(job string) string { return "job/" + job }

// candidates are the nodes that have a shared job, would run it, and could.
func (s Shares) candidates(job string) (all []claims.Candidate) {
	for _, m := range members.All(s.Cluster, false) {
		state := s.Cluster.SettingsOf(m.ID).State()
		if r := state.Rule(job); r.Shared && state.Floats(job) && state.Ready(job) && m.State != ledger.Draining {
			all = append(all, claims.Candidate{Node: m.ID, Weight: float64(max(r.Weight, 1))})
		}
	}
	return all
}

// Claims are who had the slots of a shared job, and who comes next.
func (s Shares) Claims(job string) (all []rules.Claim, order []string) {
	for _, row := range ledger.Claims.All(s.Cluster.View()) {
		if b := row.Body; b.Job == claimOf(job) {
			all = append(all, rules.Claim{Slot: b.Slot, Node: s.Cluster.NameOf(b.Owner.NodeID()), State: b.State, Fence: b.Fence.Index, At: row.Changed.Unix()})
		}
	}
	slices.SortFunc(all, func(a, b rules.Claim) int { return int(a.Slot - b.Slot) })
	for _, id := range s.Cluster.Claims().Next(claimOf(job), s.candidates(job)) {
		order = append(order, s.Cluster.NameOf(id))
	}
	return all, order
}

// ClaimBucket runs work on a bucket of this node, and none of another node
// meanwhile that has set up a datastore in the same place to write to it.
func (s Shares) ClaimBucket(ctx context.Context, store, bucket string, work func(ctx context.Context, shared bool, unsure error) error) error {
	if !s.owners(store) {
		return work(ctx, false, nil)
	}
	began := false
	err := s.Cluster.Claims().Hold(ctx, "bucket/"+bucket, func(ctx context.Context, _ ledger.Fence) error {
		began = true
		return work(ctx, true, nil)
	})
	taken := (*claims.Taken)(nil)
	switch {
	case errors.As(err, &taken):
		return &jobs.Elsewhere{Node: s.Cluster.NameOf(taken.Node), How: "running"}
	case err != nil && !began && ctx.Err() == nil:
		return work(ctx, true, err) // a site stands alone: the bucket has a fence of its own
	}
	return err
}

// owners tells whether other nodes may own the bucket of a datastore of ours.
func (s Shares) owners(store string) bool {
	mine := s.Cluster.SettingsOf(s.Cluster.Self()).State()
	d, _ := mine.Datastore(store)
	place := mine.BucketOf(d)
	for _, m := range members.All(s.Cluster, false) {
		if m.ID == s.Cluster.Self() || place == "" {
			continue
		}
		state := s.Cluster.SettingsOf(m.ID).State()
		if slices.ContainsFunc(state.Datastores, func(d settings.Datastore) bool { return !d.Backend.ReadOnly && state.BucketOf(d) == place }) {
			return true
		}
	}
	return false
}
