package stores

import (
	"context"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog/tier/sample"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/logs"
	"github.com/holdfast-mesh/holdfast/pbs/stores/meter"
)

// sample is the work of a verification job that reads a little of a bucket. What
// it says about no snapshot in particular is not kept with any.
func (s *Set) sample(ctx context.Context, t *jobs.Task, j settings.VerifyJob) error {
	ti, done, err := s.UseTier(j.Store)
	if err != nil {
		return fmt.Errorf("a sample is for datastores with a bucket; verify others whole: %w", err)
	}
	defer done()
	ctx, run := s.Metered(ctx, t, ti, j.Store)
	c, u, err := meter.Sample(ctx, ti, j, depth(j.MaxDepth))
	if run.Says(u, err); err != nil {
		run.End(err)
		return err
	}
	r, err := c.Run(ctx, ti.Datastore(), sample.Options{
		Bad:      func(text string) { t.Warnf("%s", text) },
		Progress: func(n, total int) { t.Progress(float64(n)/float64(total), fmt.Sprintf("%d of %d stretches", n, total)) },
	})
	t.Logf("read %s in %d chunks, %d stretches chosen by chance from %d snapshots", logs.Human(r.Bytes), r.Chunks, r.Stretches, r.Snapshots)
	run.End(err)
	if err != nil {
		return err
	}
	if r.Bad() == 0 {
		return nil
	}
	if s.cfg.Corrupt != nil {
		s.cfg.Corrupt(j.Store, r.Damaged, r.Missing)
	}
	return fmt.Errorf("%d chunks of the bucket are damaged, %d missing: a full verification tells which snapshots are at risk", r.Damaged, r.Missing)
}
