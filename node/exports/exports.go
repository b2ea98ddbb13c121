// Package exports runs the export jobs of a node: each writes the newest snapshots of
// groups to a directory in forms that every Linux reads without us (package plain), as
// a task with a log, by its schedule or by hand, and never twice at once.
package exports

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// Deps are what the jobs work with.
type Deps struct {
	Settings  settings.Store                              // required
	Stores    *stores.Set                                 // required
	Scheduler *jobs.Scheduler                             // required
	Keys      func(names []string) ([]*chunks.Key, error) // required
	Log       *slog.Logger                                // default: discard
}

// Exports are the export jobs of a node.
type Exports struct {
	cfg Deps

	mu   sync.Mutex
	puts map[string]bool // schedules that were put
	seen *settings.State
}

// New returns the jobs of a node. It starts nothing.
func New(cfg Deps) (*Exports, error) {
	if cfg.Settings == nil || cfg.Stores == nil || cfg.Scheduler == nil || cfg.Keys == nil {
		return nil, errors.New("exports: settings, datastores, a scheduler and keys are needed")
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Exports{cfg: cfg, puts: map[string]bool{}}, nil
}

// lookTick is how often Run looks for settings that changed.
const lookTick = 2 * time.Second

// Run has the schedules follow the settings until ctx is done. Tasks are waited
// for by their manager.
func (e *Exports) Run(ctx context.Context) error {
	tick := time.NewTicker(lookTick)
	defer tick.Stop()
	for {
		if err := e.Sync(ctx); err != nil {
			e.cfg.Log.Warn("export jobs do not follow the settings", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// taskType is the type of the tasks, and begins the names of the schedules.
const taskType = "exportjob"

func schedule(id string) string { return taskType + ":" + id }

// Sync makes the schedules follow the settings. One that makes no sense is
// reported, and stops none of the others.
func (e *Exports) Sync(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	state := e.cfg.Settings.State()
	if state == e.seen {
		return nil
	}
	var errs []error
	puts := map[string]bool{}
	for _, j := range state.ExportJobs {
		name, event := schedule(j.ID), j.Schedule
		if j.Disable {
			event = ""
		}
		puts[name] = true
		sched := state.Timed("export:"+j.ID, jobs.Schedule{
			Name: name, Event: event, Type: taskType, ID: j.Store + ":" + j.ID, Auth: "root@pam",
			Work: func(ctx context.Context, t *jobs.Task) error { return e.work(ctx, t, j.ID) },
		})
		if j.Disable {
			sched.After = ""
		}
		if err := e.cfg.Scheduler.Put(sched); err != nil {
			errs = append(errs, fmt.Errorf("export job %s: %w", j.ID, err))
		}
	}
	for name := range e.puts {
		if !puts[name] {
			e.cfg.Scheduler.Remove(name)
		}
	}
	e.puts, e.seen = puts, state
	return errors.Join(errs...)
}

// Start runs a job now.
func (e *Exports) Start(id, auth string) (jobs.UPID, error) {
	return e.cfg.Scheduler.Trigger(schedule(id), auth)
}

// Schedule returns how the schedule of a job stands.
func (e *Exports) Schedule(id string) (jobs.ScheduleStatus, error) {
	return e.cfg.Scheduler.Status(schedule(id))
}

// Claim marks the directory of a job.
func (e *Exports) Claim(j settings.ExportJob) error { return Claim(j) }

// open opens what a job works on. done lets go of it.
func (e *Exports) open(id string) (cfg Config, done func(), err error) {
	j, is := e.cfg.Settings.State().ExportJob(id)
	if !is {
		return cfg, nil, fmt.Errorf("no such export job '%s'", id)
	}
	keys, err := e.cfg.Keys(j.Keys)
	if err != nil {
		return cfg, nil, err
	}
	d, done, err := e.cfg.Stores.Use(j.Store, false)
	return Config{Job: j, Local: d, Keys: keys}, done, err
}

// work is a run of a job, as it is set up when the run begins.
func (e *Exports) work(ctx context.Context, t *jobs.Task, id string) error {
	cfg, done, err := e.open(id)
	if err != nil {
		return err
	}
	defer done()
	t.Logf("export job '%s': datastore '%s' to %s", id, cfg.Job.Store, cfg.Job.Path)
	cfg.Printf, cfg.Warnf = t.Logf, t.Warnf
	cfg.Progress = func(done, total int) {
		t.Progress(float64(done)/float64(max(total, 1)), fmt.Sprintf("%d/%d groups", done, total))
	}
	var wrote atomic.Int64
	t.Watch(wrote.Load)
	cfg.Wrote = func(string, int64) { wrote.Add(1) }
	if f, shared := jobs.FenceOf(ctx); shared {
		cfg.Fence = &f
	}
	r, err := Run(ctx, cfg)
	t.Count("groups", int64(r.Groups))
	t.Count("written", int64(r.Written))
	t.Count("removed", int64(r.Removed))
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// Plan returns what a run of a job would do now. Nothing is changed.
func (e *Exports) Plan(ctx context.Context, id string) ([]Step, error) {
	cfg, done, err := e.open(id)
	if err != nil {
		return nil, err
	}
	defer done()
	return Plan(ctx, cfg)
}
