package pulls

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/rate"
)

// A job is what is kept of a sync job between its runs.
type job struct {
	last    atomic.Pointer[Last]
	watched watched
}

// Last is what the last run of a job in this process did.
type Last struct {
	At     time.Time          `json:"at"` // when it ended
	OK     bool               `json:"ok"`
	Error  string             `json:"error,omitempty"`
	Report replication.Report `json:"report"`
}

// options are the options of a job as the planner takes them.
func (p *Pulls) options(j settings.SyncJob) (replication.Job, error) {
	filters, err := j.Filters()
	if err != nil {
		return replication.Job{}, err
	}
	return replication.Job{ID: j.ID, Workers: max(j.WorkerThreads, 1), Floor: p.floor(j.Store), MayMake: p.mayHave(j.OwnerOrRoot(), j.Store), Options: plan.Options{
		From: j.RemoteNS, To: j.NS, MaxDepth: j.MaxDepth, Filters: filters, Owner: j.OwnerOrRoot(),
		VerifiedOnly: settings.Is(j.VerifiedOnly), EncryptedOnly: settings.Is(j.EncryptedOnly), ResyncCorrupt: settings.Is(j.ResyncCorrupt),
		TransferLast: j.TransferLast, RemoveVanished: settings.Is(j.RemoveVanished),
	}}, j.Check()
}

// Find returns a job by its ID.
func (p *Pulls) Find(id string) (settings.SyncJob, error) {
	j, is := p.cfg.Settings.State().SyncJob(id)
	if !is {
		return j, fmt.Errorf("no such sync job '%s'", id)
	}
	return j, nil
}

// puller makes what pulls for a job. done closes its connections.
func (p *Pulls) puller(ctx context.Context, j settings.SyncJob, d *catalog.Datastore, t teller) (puller *replication.Puller, done func(), err error) {
	lines := newGuards(ctx, delayOf(j))
	sources, err := p.sources(ctx, j, rate.New(p.in, p.limit(j.ID)), lines, t.note)
	if err != nil {
		lines.end()
		return nil, nil, err
	}
	c := replication.Config{Local: d, Sources: sources, Printf: t.line, Progress: t.progress, Now: p.cfg.Now, Log: p.cfg.Log.With("job", j.ID)}
	if len(j.AssociatedKeys) > 0 && p.cfg.Keys != nil {
		if c.Keys, err = p.cfg.Keys(j.AssociatedKeys); err != nil {
			lines.end()
			return nil, nil, err
		}
	}
	p.weigh(&c, j, sources[0])
	if m, err := p.Resolve(j.Remote); err == nil && !c.Unsigned {
		p.prove(&c, j, m, d)
	}
	puller, err = replication.New(c)
	done = func() {
		lines.end()
		for _, s := range sources {
			s.(interface{ Close() }).Close()
		}
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return puller, done, nil
}

// A teller is where a run says what it does.
type teller struct {
	line     func(format string, a ...any)
	note     func(format string, a ...any)
	progress func(replication.Progress)
}

func tell(t *jobs.Task) teller {
	return teller{t.Logf, t.Warnf, func(pr replication.Progress) { t.Progress(progressOf(pr)) }}
}

// progressOf says how far a pull is: by snapshots, since nobody knows how many
// bytes of those to come are here already.
func progressOf(pr replication.Progress) (done float64, doing string) {
	if pr.SnapshotsTotal > 0 {
		done = float64(pr.Snapshots) / float64(pr.SnapshotsTotal)
	}
	doing = fmt.Sprintf("%d/%d groups, %d/%d snapshots, %d chunks, %s fetched", pr.Groups, pr.GroupsTotal, pr.Snapshots, pr.SnapshotsTotal, pr.Chunks, size(pr.Bytes))
	if pr.Waiting > 0 {
		doing += fmt.Sprintf(", %d chunks to come", pr.Waiting)
	}
	return done, doing
}

// size prints bytes for people.
func size(n int64) string {
	f, unit := float64(n), 0
	for f >= 1024 && unit < 4 {
		f, unit = f/1024, unit+1
	}
	return fmt.Sprintf("%.1f %s", f, [...]string{"B", "KiB", "MiB", "GiB", "TiB"}[unit])
}

// work is a run of a job, as it is set up when the run begins.
func (p *Pulls) work(ctx context.Context, t *jobs.Task, id string) error {
	j, err := p.Find(id)
	if err != nil {
		return err
	}
	if j.Pushes() {
		return p.push(ctx, t, j)
	}
	opt, err := p.options(j)
	if err != nil {
		return err
	}
	t.Logf("Starting datastore sync job '%s'", t.UPID().ID)
	t.Logf("sync datastore '%s' from '%s'", j.Store, from(j))
	d, done, err := p.cfg.Stores.Use(j.Store, true)
	if err != nil {
		return err
	}
	defer done()
	puller, closed, err := p.puller(ctx, j, d, tell(t))
	if err != nil {
		return err
	}
	defer closed()
	report, err := puller.Run(ctx, opt)
	count(t, report)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	last := &Last{At: time.Now(), OK: err == nil, Report: report}
	if err != nil {
		last.Error = err.Error()
	}
	p.job(id).last.Store(last)
	t.Logf("sync job '%s' end", j.ID)
	t.Logf("queued notification (id=%s)", t.UPID()) // as the task it is about, and in its text
	return err
}

// count notes what a run did. What most runs have none of is left out where there is
// none.
func count(t *jobs.Task, r replication.Report) {
	for what, n := range map[string]int64{"snapshots": int64(r.Pulled), "chunks": r.Swarm.Fetched, "bytes": r.Swarm.Bytes} {
		t.Count(what, n)
	}
	for what, n := range map[string]int{"renewed": r.Renewed, "decrypted": r.Decrypted, "removed": r.Removed, "kept": r.Kept, "failed": len(r.Errors)} {
		if n > 0 {
			t.Count(what, int64(n))
		}
	}
}

// push is a run of a job that pushes.
func (p *Pulls) push(ctx context.Context, t *jobs.Task, j settings.SyncJob) error {
	if p.cfg.Push == nil {
		return errors.New("this node has no remotes")
	}
	t.Logf("Starting datastore sync job '%s'", t.UPID().ID)
	t.Logf("sync datastore '%s' to '%s'", j.Store, from(j))
	state := p.cfg.Settings.State()
	mine, _ := state.Remote(j.Remote)
	for _, o := range state.SyncJobs {
		theirs, is := state.Remote(o.Remote)
		if o.ID != j.ID && o.Pushes() && is && theirs.SameUser(mine) && o.RemoteStore == j.RemoteStore && overlap(j, o) {
			t.Warnf("job '%s' pushes to the same datastore as the same user: each may skip, or with remove-vanished remove, what the other pushes; give each a remote with a user of its own", o.ID)
		}
	}
	err := p.cfg.Push(ctx, t, j, p.limit(j.ID))
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	last := &Last{At: time.Now(), OK: err == nil}
	if err != nil {
		last.Error = err.Error()
	}
	p.job(j.ID).last.Store(last)
	t.Logf("sync job '%s' end", j.ID)
	t.Logf("queued notification (id=%s)", t.UPID()) // as the task it is about, and in its text
	return err
}

// overlap tells whether two jobs push to namespaces of which one lies in the other.
func overlap(a, b settings.SyncJob) bool {
	return a.RemoteNS.Contains(b.RemoteNS) || b.RemoteNS.Contains(a.RemoteNS)
}

// from is where a job pulls from, or pushes to, as its log says it.
func from(j settings.SyncJob) string {
	if j.Remote == "" {
		return j.RemoteStore
	}
	return j.Remote + "/" + j.RemoteStore
}

// mayHave tells whether somebody may make and remove namespaces of a datastore.
func (p *Pulls) mayHave(owner, store string) func(naming.Namespace) bool {
	return func(ns naming.Namespace) bool {
		up, below := ns.Parent()
		return !below || p.cfg.May == nil || owner == ownerOfRuns || p.cfg.May(owner, store, up)
	}
}

// Last returns what the last run of a job did, nil if none ran in this process.
func (p *Pulls) Last(id string) *Last { return p.job(id).last.Load() }

// A Plan is what a run of a job would do now.
type Plan struct {
	Job       string `json:"id"`
	Source    string `json:"source"`
	Snapshots int    `json:"snapshots"` // to be fetched or looked at again
	Bytes     uint64 `json:"bytes"`     // of these, as their manifests say; chunks that are here are not fetched
	*plan.Plan

	// Fates say what would become of what vanished at the source, if the job removes
	// such.
	Fates []Fate `json:"vanished"`
}

// Plan returns what a run would do now. Nothing is changed.
func (p *Pulls) Plan(ctx context.Context, id string) (*Plan, error) {
	j, err := p.Find(id)
	if err != nil {
		return nil, err
	}
	if j.Pushes() {
		return nil, fmt.Errorf("job '%s' pushes, and has no plan: it pushes what is newer than the newest there", id)
	}
	opt, err := p.options(j)
	if err != nil {
		return nil, err
	}
	d, done, err := p.cfg.Stores.Use(j.Store, false)
	if err != nil {
		return nil, err
	}
	defer done()
	j.Sources = nil // chunks are not asked for
	nothing := teller{func(string, ...any) {}, func(string, ...any) {}, nil}
	puller, closed, err := p.puller(ctx, j, d, nothing)
	if err != nil {
		return nil, err
	}
	defer closed()
	pl, err := puller.Plan(ctx, opt)
	if err != nil {
		return nil, err
	}
	fates, err := puller.Vanishing(ctx, opt, pl)
	if err != nil {
		return nil, err
	}
	n, size := pl.Snapshots()
	return &Plan{Job: id, Source: from(j), Snapshots: n, Bytes: size, Plan: pl, Fates: shownFates(fates)}, nil
}
