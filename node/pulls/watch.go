package pulls

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs"
)

// tags say what a source looked like.
type tags string

// watch starts jobs that run on change: it asks their sources from time to time
// whether anything is new, which costs some hundred bytes if nothing is.
func (p *Pulls) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, j := range p.cfg.Settings.State().SyncJobs {
			if j.OnChange && !j.Disable {
				p.look(ctx, j.ID)
			}
		}
	}
}

// look starts a job if its source is not as it was.
func (p *Pulls) look(ctx context.Context, id string) {
	_, err := p.Start(id, ownerOfRuns)
	if err != nil && !errors.Is(err, jobs.ErrRunning) {
		p.cfg.Log.Warn("a job is not started though something may be new at its source", "job", id, "err", err)
	}
	_ = ctx
}
