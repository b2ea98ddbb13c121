// Package offloads runs the offload jobs of a node: each copies snapshots of a
// datastore on a disk into one whose home is a bucket (package offload), as a task
// with a log, by its schedule or by hand, and never twice at once.
package offloads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/replication/offload"
	"github.com/holdfast-mesh/holdfast/replication/plan"
)

// Config says what the jobs work with.
type Config struct {
	Settings  settings.Store  // required
	Stores    *stores.Set     // required
	Scheduler *jobs.Scheduler // required
	Log       *slog.Logger    // default: discard
}

// Offloads are the offload jobs of a node.
type Offloads struct {
	cfg Config

	mu   sync.Mutex
	puts map[string]bool // schedules that were put
	seen *settings.State
}

// New returns the jobs of a node. It starts nothing.
func New(cfg Config) (*Offloads, error) {
	if cfg.Settings == nil || cfg.Stores == nil || cfg.Scheduler == nil {
		return nil, errors.New("offloads: settings, datastores and a scheduler are needed")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Offloads{cfg: cfg, puts: map[string]bool{}}, nil
}

// lookTick is how often Run looks for settings that changed.
const lookTick = 2 * time.Second

// Run has the schedules follow the settings until ctx is done. Tasks are waited
// for by their manager.
func (o *Offloads) Run(ctx context.Context) error {
	tick := time.NewTicker(lookTick)
	defer tick.Stop()
	for {
		if err := o.Sync(ctx); err != nil {
			o.cfg.Log.Warn("offload jobs do not follow the settings", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// taskType is the type of the tasks, and begins the names of the schedules.
const taskType = "offloadjob"

func schedule(id string) string { return taskType + ":" + id }

// Sync makes the schedules follow the settings. One that makes no sense is
// reported, and stops none of the others.
func (o *Offloads) Sync(context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	state := o.cfg.Settings.State()
	if state == o.seen {
		return nil
	}
	var errs []error
	puts := map[string]bool{}
	for _, j := range state.OffloadJobs {
		name, event := schedule(j.ID), j.Schedule
		if j.Disable {
			event = ""
		}
		puts[name] = true
		sched := state.Timed("offload:"+j.ID, jobs.Schedule{
			Name: name, Event: event, Type: taskType, ID: j.To + ":" + j.Store + ":" + j.ID, Auth: "root@pam",
			Work: func(ctx context.Context, t *jobs.Task) error { return o.work(ctx, t, j.ID) },
		})
		if j.Disable {
			sched.After = ""
		}
		if err := o.cfg.Scheduler.Put(sched); err != nil {
			errs = append(errs, fmt.Errorf("offload job %s: %w", j.ID, err))
		}
	}
	for name := range o.puts {
		if !puts[name] {
			o.cfg.Scheduler.Remove(name)
		}
	}
	o.puts, o.seen = puts, state
	return errors.Join(errs...)
}

// Start runs a job now.
func (o *Offloads) Start(id, auth string) (jobs.UPID, error) {
	return o.cfg.Scheduler.Trigger(schedule(id), auth)
}

// Schedule returns how the schedule of a job stands.
func (o *Offloads) Schedule(id string) (jobs.ScheduleStatus, error) {
	return o.cfg.Scheduler.Status(schedule(id))
}

// open opens what a job works on. done lets go of it.
func (o *Offloads) open(id string, write bool, c offload.Config) (off *offload.Offloader, j settings.OffloadJob, job offload.Job, done func(), err error) {
	j, is := o.cfg.Settings.State().OffloadJob(id)
	if !is {
		return nil, j, job, nil, fmt.Errorf("no such offload job '%s'", id)
	}
	filters, ferr := j.Filters()
	after, aerr := j.Age()
	if err := errors.Join(j.Check(), ferr, aerr); err != nil {
		return nil, j, job, nil, err
	}
	job = offload.Job{ID: j.ID, After: after, Options: plan.Options{
		From: j.NS, To: j.ToNS, MaxDepth: j.MaxDepth, Filters: filters, Owner: j.OwnerOrRoot(), VerifiedOnly: j.VerifiedOnly, TransferLast: j.TransferLast,
	}}
	from, fromDone, err := o.cfg.Stores.Use(j.Store, false)
	if err != nil {
		return nil, j, job, nil, err
	}
	_, writeDone, err := o.cfg.Stores.Use(j.To, write)
	if err != nil {
		fromDone()
		return nil, j, job, nil, err
	}
	to, toDone, err := o.cfg.Stores.UseTier(j.To)
	if err != nil {
		fromDone()
		writeDone()
		return nil, j, job, nil, err
	}
	done = func() { toDone(); writeDone(); fromDone() }
	c.From, c.To, c.Log = from, to, o.cfg.Log.With("job", j.ID)
	if off, err = offload.New(c); err != nil {
		done()
	}
	return off, j, job, done, err
}

// work is a run of a job, as it is set up when the run begins.
func (o *Offloads) work(ctx context.Context, t *jobs.Task, id string) error {
	off, j, job, done, err := o.open(id, true, offload.Config{Printf: t.Logf, Warnf: t.Warnf, Progress: func(p offload.Progress) {
		part := 0.0
		if p.SnapshotsTotal > 0 {
			part = float64(p.Snapshots) / float64(p.SnapshotsTotal)
		}
		t.Progress(part, fmt.Sprintf("%d/%d snapshots, %d packs", p.Snapshots, p.SnapshotsTotal, p.Packs))
	}})
	if err != nil {
		return err
	}
	defer done()
	t.Logf("offload job '%s': datastore '%s' to '%s'", j.ID, j.Store, j.To)
	return o.cfg.Stores.Claimed(ctx, t, j.To, func(ctx context.Context) error {
		ti, away, err := o.cfg.Stores.UseTier(j.To)
		if err != nil {
			return err
		}
		defer away()
		ctx, m := o.cfg.Stores.Metered(ctx, t, ti, j.To)
		p, err := off.Plan(ctx, job)
		if err == nil {
			m.Says(prices.Use{Requests: p.Requests, In: p.Read, Out: p.Written}, nil)
		} else {
			m.Says(prices.Use{}, err)
		}
		err = run(ctx, t, off, job)
		m.End(err)
		return err
	})
}

// run runs a job and says what came of it.
func run(ctx context.Context, t *jobs.Task, off *offload.Offloader, job offload.Job) error {
	r, err := off.Run(ctx, job)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	t.Logf("%d snapshots are in the bucket and were not, %d have new notes, %d were skipped", r.Snapshots, r.Renewed, r.Skipped)
	t.Logf("%d chunks (%.1f MiB) were sent in %d packs, %d of them as they were; %d chunks were read back", r.Chunks, float64(r.Bytes)/(1<<20), r.Packs, r.Whole, r.Read)
	return err
}

// Plan returns what a run of a job would do now, and what it would cost. Nothing
// is changed.
func (o *Offloads) Plan(ctx context.Context, id string) (any, error) {
	off, j, job, done, err := o.open(id, false, offload.Config{})
	if err != nil {
		return nil, err
	}
	defer done()
	p, err := off.Plan(ctx, job)
	if err != nil {
		return nil, err
	}
	p.Source = j.Store
	return p, nil
}
