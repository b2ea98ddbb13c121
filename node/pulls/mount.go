package pulls

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// away is how long a datastore must have been missing before its return counts
// as a disk that was mounted.
const away = 2 * time.Second

// mounts starts jobs that run when their datastore has become available: its
// disk was mounted, or it is in service again.
func (p *Pulls) mounts(ctx context.Context) error {
	tick := time.NewTicker(lookTick)
	defer tick.Stop()
	var runs sync.WaitGroup
	defer runs.Wait()
	missing := map[string]time.Time{} // since when
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, d := range p.cfg.Settings.State().Datastores {
			since, was := missing[d.Name]
			switch here := p.available(d.Name); {
			case !here && !was:
				missing[d.Name] = time.Now()
			case here && was:
				delete(missing, d.Name)
				if time.Since(since) >= away {
					runs.Go(func() { p.mounted(ctx, d.Name) })
				}
			}
		}
	}
}

func (p *Pulls) available(store string) bool {
	_, done, err := p.cfg.Stores.Use(store, true)
	if err != nil {
		return false
	}
	done()
	return true
}

// mounted runs the jobs of a datastore that wait for it, one after another by
// their IDs, and takes it out of service if one of them asks for that.
func (p *Pulls) mounted(ctx context.Context, store string) {
	leave := false
	for _, j := range p.cfg.Settings.State().SyncJobs { // by ID
		if j.Store != store || j.Disable || !settings.Is(j.RunOnMount) {
			continue
		}
		p.cfg.Log.Info("datastore has become available", "store", store, "job", j.ID)
		if err := p.runAndWait(ctx, j.ID); err != nil {
			if ctx.Err() == nil {
				p.cfg.Log.Warn("a job that waited for its datastore was not started", "job", j.ID, "err", err)
			}
			continue
		}
		leave = leave || settings.Is(j.UnmountOnDone)
	}
	if !leave || ctx.Err() != nil {
		return
	}
	if p.cfg.Unmount != nil {
		if is, err := p.cfg.Unmount(ctx, store); is {
			if err != nil && ctx.Err() == nil {
				p.cfg.Log.Warn("the disk of a datastore is not unmounted after its jobs", "store", store, "err", err)
			}
			return
		}
	}
	err := p.cfg.Stores.Update(ctx, store, "", func(d *stores.Described) error {
		d.Settings.Maintenance = catalog.Maintenance{Mode: catalog.Offline, Message: "its sync jobs are done; it can be unmounted"}
		return nil
	})
	if err != nil {
		p.cfg.Log.Warn("datastore is not taken out of service after its jobs", "store", store, "err", err)
	}
}

// runAndWait runs a job and waits for its end, whatever that is.
func (p *Pulls) runAndWait(ctx context.Context, id string) error {
	for started := false; ; {
		s, err := p.Schedule(id)
		switch {
		case err != nil:
			return err
		case !s.Running && started:
			return nil
		case !s.Running:
			if err := p.begin(id, "its datastore has become available"); err != nil && !errors.Is(err, jobs.ErrRunning) {
				return err
			}
			started = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookTick / 5):
		}
	}
}
