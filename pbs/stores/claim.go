package stores

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/stores/fit"
)

// A Claim runs work on the bucket of a datastore. If other nodes may own it as
// well, none of them works on it meanwhile: it returns a [*jobs.Elsewhere] if one
// does, and the context of the work ends when another may. unsure is why nobody
// could be asked; then what the bucket says of its owner has to do.
type Claim func(ctx context.Context, store, bucket string, work func(ctx context.Context, shared bool, unsure error) error) error

// Claimed runs work on the bucket of a datastore while no other node does. The
// claim decides who tries; what counts is decided in the bucket, which refuses
// whoever does not own it. So work goes on while the cluster cannot be asked, and
// a node that does not own a shared bucket leaves it to the one that does.
func (s *Set) Claimed(ctx context.Context, t *jobs.Task, name string, work func(context.Context) error) error {
	ti, done, err := s.UseTier(name)
	if err != nil || s.cfg.Claim == nil {
		if err == nil {
			done()
		}
		return work(ctx) // which says what is wrong
	}
	defer done()
	err = s.cfg.Claim(ctx, name, ti.Stats().Store, func(ctx context.Context, shared bool, unsure error) error {
		if unsure != nil {
			t.Warnf("other nodes may own this bucket and the cluster cannot be asked: its owner is who the bucket says (%v)", unsure)
		}
		if why := ti.Writable(); shared && (errors.Is(why, cloud.ErrOwned) || errors.Is(why, cloud.ErrFenced)) {
			return leave(ctx, t, name, ti.Owner)
		}
		return work(ctx)
	})
	if other := (*jobs.Elsewhere)(nil); errors.As(err, &other) {
		t.Logf("node %s works on this bucket now: nothing is done here", other.Node)
		return nil
	}
	return err
}

// leave leaves a bucket to its owner, as long as it has one.
func leave(ctx context.Context, t *jobs.Task, name string, owner func(context.Context) (cloud.Owner, error)) error {
	is, err := owner(ctx)
	switch {
	case err != nil:
		return err
	case time.Now().After(is.Until):
		return fit.Unkept(name, is)
	}
	t.Logf("node %s owns this bucket until %s: nothing is done here", is.Node, is.Until.Format(time.RFC3339))
	return nil
}

// claimed is [Set.Claimed] for work that a schedule runs.
func (s *Set) claimed(name string, work func(context.Context, *jobs.Task) error) func(context.Context, *jobs.Task) error {
	return func(ctx context.Context, t *jobs.Task) error {
		return s.Claimed(ctx, t, name, func(ctx context.Context) error { return work(ctx, t) })
	}
}
