package stores

import (
	"context"
	"fmt"
	"path"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// Verify says what is verified: a snapshot, a group, or a namespace.
type Verify struct {
	Namespace catalog.Namespace
	MaxDepth  *int // levels below Namespace; nil: all
	Group     *catalog.Group
	Snapshot  *catalog.Snapshot

	// IgnoreVerified skips what was verified not more than OutdatedAfter days
	// ago; with 0 it is never too long ago.
	IgnoreVerified bool
	OutdatedAfter  int
	ReadThreads    int // files read at the same time; 0: as the datastore was opened
	Threads        int // chunks decoded at the same time; 0: as many as processors

	// Only, if given, says of which groups of a namespace.
	Only func(catalog.Namespace, catalog.Group) bool
}

// task returns the type and the ID of the task (§7.9).
func (v Verify) task(store string) (typ, id string) {
	switch {
	case v.Snapshot != nil:
		return "verify_snapshot", fmt.Sprintf("%s:%s/%s/%08X", store, v.Namespace.Path(), v.Snapshot.Group, v.Snapshot.Time)
	case v.Group != nil:
		return "verify_group", fmt.Sprintf("%s:%s/%s", store, v.Namespace.Path(), v.Group)
	case v.Namespace != "":
		return "verify", store + ":" + v.Namespace.Path()
	}
	return "verify", store
}

// StartVerify begins a verification.
func (s *Set) StartVerify(name, auth string, v Verify) (jobs.UPID, error) {
	typ, id := v.task(name)
	return s.start(name, typ, id, auth, false, func(ctx context.Context, t *jobs.Task) error { return s.verify(ctx, t, name, v) })
}

// VerifySoon verifies a snapshot in a task of its own and waits for nothing. It
// is what a backup asks for that has ended, where new snapshots are verified.
func (s *Set) VerifySoon(store string, _ *catalog.Datastore, ns catalog.Namespace, snap catalog.Snapshot, why string) {
	v := Verify{Namespace: ns, Snapshot: &snap}
	id := fmt.Sprintf("%s:%s/%08X", store, path.Join(ns.Path(), snap.Group.String()), snap.Time)
	_, err := s.start(store, "verify", id, root, false, func(ctx context.Context, t *jobs.Task) error {
		t.Logf("%s", why)
		return s.verifyAll(ctx, t, store, v) // what is new is on the disk, and costs nothing
	})
	if err != nil {
		s.cfg.Log.Warn("snapshot is not verified", "store", store, "ns", ns, "snapshot", snap, "why", why, "err", err)
	}
}

// start begins work on a datastore that is there and in service.
func (s *Set) start(name, typ, id, auth string, write bool, work func(context.Context, *jobs.Task) error) (jobs.UPID, error) {
	_, done, err := s.Use(name, write)
	if err != nil {
		return jobs.UPID{}, err
	}
	defer done()
	return s.cfg.Tasks.Start(context.Background(), typ, id, auth, work)
}

// VerifyOf says what a job verifies.
func VerifyOf(j settings.VerifyJob) Verify {
	v := Verify{
		Namespace: j.NS, MaxDepth: j.MaxDepth, IgnoreVerified: j.IgnoreVerified == nil || *j.IgnoreVerified,
		ReadThreads: j.ReadThreads, Threads: j.VerifyThreads,
	}
	if j.OutdatedAfter != nil {
		v.OutdatedAfter = *j.OutdatedAfter
	}
	return v
}

// verifyJob is the work of a job.
func (s *Set) verifyJob(j settings.VerifyJob) func(context.Context, *jobs.Task) error {
	return func(ctx context.Context, t *jobs.Task) error {
		t.Logf("Starting datastore verify job '%s'", j.ID)
		if j.Sample > 0 {
			return s.sample(ctx, t, j)
		}
		if j.Schedule != "" {
			t.Logf("task triggered by schedule '%s', or by hand", j.Schedule)
		}
		return s.verify(ctx, t, j.Store, VerifyOf(j))
	}
}

// Options are those of a run.
func (v Verify) Options() verify.Options {
	return verify.Options{
		Namespace: v.Namespace, Depth: depth(v.MaxDepth), Group: v.Group, Snapshot: v.Snapshot, Only: v.Only,
		IgnoreVerified: v.IgnoreVerified, OutdatedAfter: v.OutdatedAfter, Readers: v.ReadThreads, Workers: v.Threads,
	}
}

// verify verifies as long as the budget lets it: what is in a bucket costs money.
func (s *Set) verify(ctx context.Context, t *jobs.Task, name string, v Verify) error {
	return s.afford(ctx, t, name, func(ctx context.Context) error { return s.verifyAll(ctx, t, name, v) })
}

func (s *Set) verifyAll(ctx context.Context, t *jobs.Task, name string, v Verify) error {
	d, done, err := s.Use(name, false)
	if err != nil {
		return err
	}
	defer done()
	opt := v.Options()
	opt.UPID, opt.Store, opt.Log = t.UPID().String(), name, s.cfg.Log
	if v.Snapshot == nil {
		t.Logf("verify datastore %s", place(name, v.Namespace, v.Group))
	}
	p := verifyProgress{task: t, store: name}
	opt.Each, opt.Progress = p.each, p.tell
	report, err := verify.Run(ctx, d, opt)
	t.Logf("verified %d snapshots: %d ok, %d failed, %d busy, %d skipped; read %s in %d chunks",
		report.OK+report.Failed, report.OK, report.Failed, report.Busy, report.Skipped, human(report.Bytes), report.Chunks)
	t.Count("snapshots", int64(report.OK+report.Failed))
	t.Count("failed", int64(report.Failed))
	t.Count("bytes", report.Bytes)
	if err != nil {
		return err
	}
	if report.Damaged+report.Missing > 0 {
		t.Logf("%d chunks are damaged, %d missing", report.Damaged, report.Missing)
		if s.cfg.Corrupt != nil {
			s.cfg.Corrupt(name, int(report.Damaged), int(report.Missing))
		}
	}
	if report.Failed == 0 {
		return nil
	}
	t.Logf("Failed to verify the following snapshots/groups:")
	for _, r := range report.Results {
		if r.State == verify.Failed {
			t.Logf("\t%s", path.Join(r.Namespace.Path(), r.Snapshot.String()))
		}
	}
	return fmt.Errorf("verification failed - please check the log for details")
}

// A verifyProgress writes what becomes of each snapshot, and how far it is.
type verifyProgress struct {
	task    *jobs.Task
	store   string
	percent int
}

func (p *verifyProgress) each(r verify.Result) {
	where := place(p.store, r.Namespace, nil) + r.Snapshot.String()
	if r.Namespace == "" {
		where = p.store + ":" + r.Snapshot.String()
	}
	switch r.State {
	case verify.Skipped:
		p.task.Logf("SKIPPED: verify %s (recently verified)", where)
	case verify.Busy:
		p.task.Logf("SKIPPED: verify %s - could not acquire snapshot lock", where)
	default:
		p.task.Logf("verify %s: %s (%d chunks)", where, r.State, r.Chunks)
	}
	for _, text := range r.Errors {
		p.task.Logf("  %s", text)
	}
	if more := r.ErrorCount - len(r.Errors); more > 0 {
		p.task.Logf("  and %d errors more", more)
	}
	if r.Unstored != "" {
		p.task.Warnf("  the state could not be stored: %s", r.Unstored)
	}
}

func (p *verifyProgress) tell(v verify.Progress) {
	if v.SnapshotsTotal == 0 {
		return
	}
	part := float64(v.Snapshots) / float64(v.SnapshotsTotal)
	p.task.Progress(part, fmt.Sprintf("%d of %d snapshots", v.Snapshots, v.SnapshotsTotal))
	if percent := int(part * 100); percent > p.percent {
		p.percent = percent
		p.task.Logf("percentage done: %.2f%% (%d/%d snapshots, read %s)", part*100, v.Snapshots, v.SnapshotsTotal, human(v.Bytes))
	}
}

// place names what is worked on: "store1", "store1:a/b:", "store1:host/ab".
func place(store string, ns catalog.Namespace, g *catalog.Group) string {
	text := store
	if ns != "" {
		text += ":" + string(ns) + ":"
	}
	if g != nil {
		if ns == "" {
			text += ":"
		}
		text += g.String()
	}
	return text
}

// depth returns how many levels a maximal depth means to package catalog.
func depth(maxDepth *int) int {
	if maxDepth == nil {
		return naming.MaxDepth
	}
	return *maxDepth
}
