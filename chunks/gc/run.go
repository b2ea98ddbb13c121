package gc

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Options says how a garbage collection behaves. The zero value sweeps and
// reclaims at full speed.
type Options struct {
	DryRun    bool          // make the plan, and write nothing at all
	Urgent    bool          // space is short: copy packs that are less dead
	RateBytes int64         // bytes freed or copied per second; 0: no limit
	Pause     time.Duration // rest after each pack
	Progress  func(Progress)
	Planned   func(Plan) // told what is about to be done; default: nobody
}

// Progress says how far a collection is. Phase is "mark", "sweep" or
// "reclaim"; Done and Total count roots or packs.
type Progress struct {
	Phase       string
	Done, Total int
}

// RootMissing names a root that needs chunks which are not here.
type RootMissing struct {
	Root   string `json:"root"`
	Chunks int    `json:"chunks"` // repetitions included
}

// maxMissingRoots bounds how many roots a report names.
const maxMissingRoots = 1000

// A Report says what a collection found and did. Names that PBS has in its
// status of a collection are PBS's (protocol notes §9.3). Of its counts,
// removed-bad and still-bad have no counterpart: a damaged chunk here is an
// entry like any other, condemned once nothing refers to it.
type Report struct {
	IndexFiles    int64 `json:"index-file-count"`
	IndexBytes    int64 `json:"index-data-bytes"` // content that all indexes describe
	DiskChunks    int64 `json:"disk-chunks"`      // live
	DiskBytes     int64 `json:"disk-bytes"`
	RemovedChunks int64 `json:"removed-chunks"`
	RemovedBytes  int64 `json:"removed-bytes"`
	PendingChunks int64 `json:"pending-chunks"` // condemned, not worth reclaiming yet
	PendingBytes  int64 `json:"pending-bytes"`

	Epoch           uint64        `json:"epoch"`
	CachedFiles     int64         `json:"cached-file-count"` // of IndexFiles, known from a bitmap
	CondemnedChunks int64         `json:"condemned-chunks"`  // by this collection
	CopiedBytes     int64         `json:"copied-bytes"`      // written again to free others
	Missing         []RootMissing `json:"missing,omitempty"` // the first thousand
	MissingRoots    int           `json:"missing-roots"`     // all of them
	Plan            Plan          `json:"plan"`              // as it was before the sweep
}

// newReport returns a report on nothing, whose plan is a list all the same: in
// JSON it is [], never null.
func newReport() Report { return Report{Plan: Plan{Packs: []PackPlan{}}} }

func (r *Report) addMissing(root string, count int) {
	r.MissingRoots++
	if len(r.Missing) < maxMissingRoots {
		r.Missing = append(r.Missing, RootMissing{root, count})
	}
}

// Run collects garbage once. It fails with [ErrRunning] if a collection is
// under way, and before anything is condemned if a root cannot be read.
// Cancelled or killed at any moment it leaves the store whole, and the next
// Run goes on. The report is what was done until then.
func (c *Collector) Run(ctx context.Context, options Options) (Report, error) {
	y, err := c.begin(ctx, options)
	if err != nil {
		return newReport(), fmt.Errorf("collect garbage of %s: %w", c.cfg.Store, err)
	}
	defer c.end()
	err = y.run(ctx)
	if !options.DryRun {
		c.records.trim()
	}
	if err != nil {
		err = fmt.Errorf("collect garbage of %s: %w", c.cfg.Store, err)
	}
	return y.report, err
}

func (y *cycle) run(ctx context.Context) (err error) {
	if err := y.markAll(ctx); err != nil {
		return err
	}
	if y.report.Plan, err = y.plan(); err != nil {
		return err
	}
	if y.options.DryRun {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if y.options.Planned != nil {
		y.options.Planned(y.report.Plan)
	}
	y.progress("sweep", 0, 0)
	if err := y.sweep(ctx); err != nil {
		return err
	}
	err = y.reclaim(ctx)
	return errors.Join(err, y.count())
}

func (y *cycle) markAll(ctx context.Context) error {
	if err := y.list(ctx); err != nil {
		return err
	}
	for more := true; more; {
		y.progress("mark", len(y.marked), len(y.marked)+len(y.queue))
		var err error
		if more, err = y.markNext(ctx); err != nil {
			return err
		}
	}
	if y.options.DryRun {
		return nil
	}
	if err := y.c.cache.clean(y.marked); err != nil {
		y.c.cfg.Log.Debug("old bitmaps were not removed", "err", err)
	}
	return nil
}

// count fills in what there is at the end.
func (y *cycle) count() error {
	p, err := y.measure(y.c.cfg.Store.Condemned())
	if err != nil {
		return err
	}
	y.report.DiskChunks, y.report.DiskBytes = p.LiveChunks, p.LiveBytes
	y.report.PendingChunks, y.report.PendingBytes = p.DeadChunks, p.DeadBytes
	return nil
}

func (y *cycle) progress(phase string, done, total int) {
	if y.options.Progress != nil {
		y.options.Progress(Progress{phase, done, total})
	}
}
