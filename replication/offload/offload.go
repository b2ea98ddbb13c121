// Package offload copies snapshots of a datastore on a disk into a datastore of
// the same node whose home is a bucket.
//
// Which snapshots, says the plan of a pull (package plan): what is new in a group,
// oldest first, within the job's filters; and what is younger than the job's age
// waits. The bucket's datastore keeps what its own prune jobs say, whatever is
// pruned at home, and what was pruned there does not come back.
//
// Chunks that the bucket lacks go as packs: a pack of the disk of which nearly
// everything is wanted goes as it is, byte for byte, and the rest is put into new
// ones. Nothing passes through the local part of the bucket's datastore.
//
// What is durable when: of a batch (some gigabytes) first the packs are in the
// bucket, each confirmed with its sum; then an index object and a signed root
// name them; then a few of their chunks are read back; then snapshots that are
// whole are written on this disk, manifests last and synced; then a second root
// names their files, and only then can whoever has nothing but the bucket restore
// them. A job that is cut off goes on at the first chunk that no root names: what
// was confirmed by then is kept under a lease, and packs that were on their way
// are found in the queue, and in the bucket, under their names.
package offload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// A Job is what an operator wants in the bucket.
type Job struct {
	ID string
	plan.Options
	After time.Duration // only snapshots that are at least so old; 0: all
}

// Config says what a job works with. The zero value of an optional field means
// its default.
type Config struct {
	From *catalog.Datastore // required: on a disk
	To   *tier.Tier         // required

	BatchBytes int64                         // content after which a root is written; default 2 GiB
	Printf     func(format string, a ...any) // lines of the task log; default: none
	Warnf      func(format string, a ...any) // the same, of what deserves a look
	Progress   func(Progress)                // called after each batch and snapshot
	Log        *slog.Logger                  // default: discard
	Now        func() time.Time              // default: time.Now
}

// Progress says how far a job is.
type Progress struct {
	Snapshots, SnapshotsTotal int
	Bytes                     int64 // of content that the bucket has got
	Packs                     int
}

// A Report says what a job did.
type Report struct {
	Snapshots int           `json:"snapshots"` // that are in the bucket now and were not
	Renewed   int           `json:"renewed"`   // that were there, and have other notes now
	Skipped   int           `json:"skipped"`
	Gone      int           `json:"gone"`   // removed here since the plan was made
	Chunks    int           `json:"chunks"` // sent
	Bytes     int64         `json:"bytes"`  // of them, as they are stored
	Packs     int           `json:"packs"`
	Whole     int           `json:"whole-packs"` // of these, as they were
	Read      int           `json:"read-back"`   // chunks that were read back and compared
	Errors    []string      `json:"errors,omitempty"`
	Requests  tier.Requests `json:"requests"`
	Cost      *tier.Bill    `json:"cost,omitempty"` // of the requests
}

// ErrSome says that a job went on after failures, which are in its report.
var ErrSome = errors.New("offload failed with some errors")

// An Offloader does jobs from one datastore to another. One Run at a time.
type Offloader struct{ cfg Config }

// New returns an offloader. It starts nothing.
func New(cfg Config) (*Offloader, error) {
	if cfg.From == nil || cfg.To == nil {
		return nil, errors.New("offload: two datastores are needed")
	}
	nothing := func(string, ...any) {}
	if cfg.Printf == nil {
		cfg.Printf = nothing
	}
	if cfg.Warnf == nil {
		cfg.Warnf = nothing
	}
	if cfg.Progress == nil {
		cfg.Progress = func(Progress) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.BatchBytes = cmp.Or(cfg.BatchBytes, 2<<30)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Offloader{cfg}, nil
}

// plan says which snapshots are to go.
func (o *Offloader) plan(ctx context.Context, j Job) (*plan.Plan, error) {
	if err := naming.CheckAuthID(j.Owner); err != nil {
		return nil, err
	}
	depth := -1
	if j.MaxDepth != nil {
		depth = *j.MaxDepth
	}
	all := func(naming.Namespace) bool { return true }
	here, err := wire.Side(ctx, o.cfg.From, j.From, depth, all)
	if err != nil {
		return nil, err
	}
	var there plan.Side
	ok, err := o.cfg.To.Datastore().HasNamespace(j.To)
	if err == nil && ok {
		there, err = wire.Side(ctx, o.cfg.To.Datastore(), j.To, -1, all)
	}
	if err != nil {
		return nil, err
	}
	pl, err := plan.New(here, there, j.Options)
	if err == nil && j.After > 0 {
		o.wait(pl, j.After)
	}
	return pl, err
}

// wait leaves out what is too young to go.
func (o *Offloader) wait(pl *plan.Plan, after time.Duration) {
	limit := o.cfg.Now().Add(-after).Unix()
	for i := range pl.Groups {
		g := &pl.Groups[i]
		var old []plan.Fetch
		for _, f := range g.Fetch {
			if f.Time > limit && f.Why == plan.Fresh {
				g.Skip = append(g.Skip, plan.Skip{Time: f.Time, Reason: fmt.Sprintf("younger than %s", after)})
			} else {
				old = append(old, f)
			}
		}
		g.Fetch = old
	}
}

const leaseKind = "offload"

// lease keeps in the bucket's datastore what was sent: that of a run that was cut
// short, or a new one.
func (o *Offloader) lease(id string) (*gc.Session, error) {
	c := o.cfg.To.Datastore().Collector()
	for _, l := range c.Leases() {
		if l.Recovered && l.Kind == leaseKind && l.Owner == id {
			if s, err := c.Resume(l.ID); err == nil {
				return s, nil
			}
		}
	}
	return c.Open(leaseKind, id)
}

// Run does a job. What fails for one group does not stop the others; the error is
// then ErrSome. It stops soon after ctx is done, and the next Run goes on there.
func (o *Offloader) Run(ctx context.Context, j Job) (Report, error) {
	r := &run{Offloader: o, job: j, failed: map[string]bool{}}
	made := o.cfg.To.Counting()
	err := r.run(ctx)
	r.report.Requests = made()
	r.report.Cost, _ = o.cfg.To.Estimate(use(r.report.Requests, 0, r.report.Bytes), 0, 0)
	if err == nil && len(r.report.Errors) > 0 {
		err = ErrSome
	}
	return r.report, err
}
