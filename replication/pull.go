// Package replication makes copies: it pulls what a job wants from other nodes
// into a datastore of this one.
//
// A [Puller] compares catalogues and makes a plan (package plan), fetches
// manifests and indexes, asks the local store which chunks are missing, and has
// these fetched from every source that holds them (package swarm). The
// snapshot's manifest is written last, when all it names is here and durable.
// Sources are asked by the peer protocol (package wire), which cannot change
// what they hold.
//
// What is durable when: a chunk some seconds after it arrived, and always
// before a snapshot that names it. A pull that is cancelled or killed keeps
// what it has under a lease, and the next one goes on there.
package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/replication/crypt"
	"github.com/holdfast-mesh/holdfast/replication/partial"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/swarm"
	"github.com/holdfast-mesh/holdfast/replication/vanish"
	"github.com/holdfast-mesh/holdfast/replication/vouch"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// A Source is a datastore somewhere else. It is all that this package knows of
// the mesh; nothing in it can change what the source holds.
type Source interface {
	swarm.Source

	// Catalog lists a namespace and those at most depth levels below it, all
	// if depth is negative.
	Catalog(ctx context.Context, ns naming.Namespace, depth int) (plan.Side, error)

	// Files calls fn with the files of each snapshot in turn, none if it is
	// gone. A [*Refusal] is about the one whose turn it was, and no other.
	Files(ctx context.Context, list []wire.Snapshot, fn func(i int, files []wire.File) error) error

	// Have reports which chunks it holds and would give us.
	Have(ctx context.Context, ds []chunks.Digest) ([]bool, error)
}

// A Refusal is why a source does not give one snapshot.
type Refusal struct{ Err error }

func (r *Refusal) Error() string { return r.Err.Error() }
func (r *Refusal) Unwrap() error { return r.Err }

// A Job is what an operator wants pulled. The options are those of a sync job
// of a Proxmox Backup Server (PBS protocol notes §6.6).
type Job struct {
	ID string
	plan.Options
	Workers int // groups at the same time, 1 to 32; default 1

	// For RemoveVanished: how long a snapshot must be absent and how much may go at
	// once, and what this site keeps in a namespace here in any case.
	Vanish vanish.Rules
	Floor  func(ns naming.Namespace) []retention.Keep

	// MayMake tells whether the owner of the job may make and remove a namespace
	// here. Default: it may.
	MayMake func(ns naming.Namespace) bool
}

// Check refuses a job that makes no sense.
func (j Job) Check() error {
	switch {
	case j.Workers < 0 || j.Workers > 32:
		return fmt.Errorf("worker-threads is %d, want 1 to 32", j.Workers)
	case j.TransferLast < 0:
		return fmt.Errorf("transfer-last is %d, want at least 1", j.TransferLast)
	case j.MaxDepth != nil && (*j.MaxDepth < 0 || *j.MaxDepth > naming.MaxDepth):
		return fmt.Errorf("max-depth is %d, want 0 to %d", *j.MaxDepth, naming.MaxDepth)
	}
	return naming.CheckAuthID(j.Owner)
}

// Config says what a Puller works with. The zero value of an optional field
// means its default.
type Config struct {
	Local   *catalog.Datastore // required
	Sources []Source           // required: the first that answers says what there is; all of them give chunks

	// Proven says whether an encrypted blob, whose name cannot be checked
	// without its key, is what its origin stored. Default: such a chunk counts
	// when its CRC is right, and is counted as unproven.
	Proven func(d chunks.Digest, b chunks.Blob) (proven bool, err error)

	// Sums, if given, has the sums that origins of snapshots signed, and decides
	// instead of Proven: an encrypted snapshot is pulled only if its origin has
	// signed what its chunks are, and an encrypted chunk counts only if its bytes
	// are those. It is that of Local; sources hand the sums on if their servers
	// have a wire.ServerConfig.Vouch.
	Sums *vouch.Keeper

	// Origin asks the origin of a snapshot for its sums when the source had none
	// that count. Where there is no origin any more, so that nobody could have
	// signed, encrypted chunks count when their CRCs are right, and are counted as
	// unproven. Default: there is always one, and it cannot be asked.
	Origin Origin

	// Keys decrypt snapshots that were encrypted with one of them, and all of them:
	// what is kept here is then not encrypted. Others are kept as they are.
	Keys crypt.Keys

	// Pulled is told of each snapshot before it can be seen here; default: nobody.
	Pulled func(ns naming.Namespace, s naming.Snapshot)

	// Pruned returns what the source has signed of a snapshot that it has no
	// more, named as it is there; nil if it signed nothing. In a mesh that is a
	// Pruned fact of the source's feed, later than the last fact that it added
	// the snapshot. With it a job that wants RemoveVanished follows the rules of
	// package vanish. Default: nothing is signed.
	Pruned func(ctx context.Context, s wire.Snapshot) (*Prune, error)

	// Unsigned says that the source is a server that signs nothing, so that what it
	// has no more may go without Pruned: after five complete passes in a week, not
	// three in two days.
	Unsigned bool

	Streams  int                           // to each source to begin with; see swarm.Config
	Printf   func(format string, a ...any) // lines of the task log; default: none
	Progress func(Progress)                // called at times; never twice at the same time
	Log      *slog.Logger                  // default: discard
	Now      func() time.Time              // default: time.Now
}

// An Origin returns the sums that the origin of a snapshot signs, and whether there
// is an origin.
type Origin func(ctx context.Context, m *manifest.Manifest) (files []vouch.File, known bool, err error)

// Progress says how far a pull is.
type Progress struct {
	Groups, GroupsTotal       int
	Snapshots, SnapshotsTotal int
	Chunks, Bytes             int64 // fetched
	Waiting                   int   // chunks that are known to be missing
}

// A Report says what a pull did.
type Report struct {
	Groups    int           `json:"groups"`
	Pulled    int           `json:"snapshots"` // that are here now and were not
	Renewed   int           `json:"renewed"`   // that were here, and are newer or whole now
	Skipped   int           `json:"skipped"`
	Decrypted int           `json:"decrypted"` // of those that were pulled
	Gone      int           `json:"gone"`      // vanished from the source while we pulled
	Removed   int           `json:"removed"`   // here, since they vanished at the source
	Kept      int           `json:"kept"`      // vanished, and kept all the same
	Unproven  int64         `json:"unproven-chunks"`
	Errors    []string      `json:"errors,omitempty"`
	Swarm     swarm.Stats   `json:"transfer"`
	Took      time.Duration `json:"-"`
	FilesSize int64         `json:"file-bytes"` // of manifests, indexes and small files
}

// ErrSome says that a pull went on after failures, which are in its report.
var ErrSome = errors.New("sync failed with some errors")

// A Puller pulls into one datastore. One Run at a time.
type Puller struct {
	cfg  Config
	left *gc.Session // of a run that was cut short: keeps what it fetched
}

// New returns a puller. It starts nothing.
func New(cfg Config) (*Puller, error) {
	if cfg.Local == nil || len(cfg.Sources) == 0 || len(cfg.Sources) > swarm.MaxSources {
		return nil, fmt.Errorf("replication: a puller needs a datastore and 1 to %d sources", swarm.MaxSources)
	}
	if cfg.Printf == nil {
		cfg.Printf = func(string, ...any) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Puller{cfg: cfg}, nil
}

// Plan returns what Run would do now. Nothing is changed.
func (p *Puller) Plan(ctx context.Context, j Job) (*plan.Plan, error) {
	pl, _, err := p.plan(ctx, j)
	return pl, err
}

// plan returns the plan and the place of the source that it is made of.
func (p *Puller) plan(ctx context.Context, j Job) (*plan.Plan, int, error) {
	if err := j.Check(); err != nil {
		return nil, 0, err
	}
	depth := -1
	if j.MaxDepth != nil {
		depth = *j.MaxDepth
	}
	var errs []error
	for i, src := range p.cfg.Sources {
		there, err := src.Catalog(ctx, j.From, depth)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		here, err := p.here(ctx, j)
		if err != nil {
			return nil, 0, err
		}
		pl, err := plan.New(there, here, j.Options)
		return pl, i, err
	}
	return nil, 0, errors.Join(errs...)
}

// here lists what is in the scope of the job already.
func (p *Puller) here(ctx context.Context, j Job) (plan.Side, error) {
	ok, err := p.cfg.Local.HasNamespace(j.To)
	if err != nil || !ok {
		return plan.Side{}, err
	}
	return wire.Side(ctx, p.cfg.Local, j.To, -1, func(naming.Namespace) bool { return true })
}

// Run pulls what the job wants. What fails for one group does not stop the
// others; the error is then ErrSome. It stops soon after ctx is done, and what
// has arrived by then is not fetched again by the next Run.
func (p *Puller) Run(ctx context.Context, j Job) (Report, error) {
	start := time.Now()
	pl, first, err := p.plan(ctx, j)
	if err != nil {
		return Report{}, err
	}
	r := &run{Puller: p, job: j, plan: pl, first: first, started: start}
	err = r.run(ctx)
	r.report.Took = time.Since(start)
	r.summary()
	if err == nil && len(r.report.Errors) > 0 {
		err = ErrSome
	}
	return r.report, err
}

// away says that a source does not answer. The run goes on: with others, or when
// it answers again.
func (r *run) away(source string, err error) {
	r.cfg.Printf("WARNING: %s does not answer, it is asked again and again: %v", source, err)
}

// session returns the lease that keeps what is fetched: that of a run that was
// cut short, in this process or an earlier one, or a new one.
func (p *Puller) session(id string) (*gc.Session, error) {
	if s := p.left; s != nil {
		p.left = nil
		if _, err := s.Renew(); err == nil {
			return s, nil
		}
		s.Abort()
	}
	c := p.cfg.Local.Collector()
	for _, l := range c.Leases() {
		if l.Recovered && l.Kind == leaseKind && l.Owner == id {
			if s, err := c.Resume(l.ID); err == nil {
				return s, nil
			}
		}
	}
	return c.Open(leaseKind, id)
}

const leaseKind = "pull"

// noted logs what is wrong with the beginnings of chunks: they are fetched anew
// then, and nothing else depends on them.
func (r *run) noted(err error) {
	if err != nil {
		r.cfg.Log.Warn("beginnings of chunks are not kept", "err", err)
	}
}

// run runs the parts of a pull: fetching, publishing, and what keeps an eye on
// them.
func (r *run) run(ctx context.Context) (err error) {
	if r.lease, err = r.session(r.job.ID); err != nil {
		return err
	}
	defer func() {
		if err == nil && len(r.report.Errors) == 0 {
			r.lease.Abort()
			r.noted(r.parts.Clear())
			return
		}
		if cerr := r.commit(context.WithoutCancel(ctx)); cerr != nil {
			err = errors.Join(err, cerr)
		}
		r.noted(r.parts.Close())
		r.left = r.lease
	}()
	r.parts, err = partial.Open(r.cfg.Local.FS, path.Join(r.cfg.Local.Dir, partialDir, url.PathEscape(r.job.ID)))
	r.noted(err)
	sources := make([]swarm.Source, len(r.cfg.Sources))
	for i, s := range r.cfg.Sources {
		sources[i] = s
	}
	planned, _ := r.plan.Snapshots()
	r.swarm, err = swarm.New(swarm.Config{Sources: sources, Put: r.put, Check: r.check, Known: r.known, Parts: r.parts, Soon: planned > 0, Away: r.away, Streams: r.cfg.Streams, Log: r.cfg.Log})
	if err != nil {
		return err
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	ctx, done := context.WithCancel(ctx)
	defer done()
	g.Go(func() error { return r.swarm.Run(ctx) })
	g.Go(func() error { return r.tend(ctx) })
	g.Go(func() error { return r.prepare(ctx) })
	g.Go(func() error {
		defer done()
		return r.publish(ctx)
	})
	err = g.Wait()
	r.report.Swarm = r.swarm.Stats()
	r.report.Unproven = r.unproven.Load()
	if err == nil && len(r.report.Errors) == 0 { // a pass that is not complete says nothing about absence
		err = r.vanish(context.WithoutCancel(ctx))
	}
	return err
}
