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
	"github.com/holdfast-mesh/holdfast/pbs/stores/logs"
	"github.com/holdfast-mesh/holdfast/pbs/stores/meter"
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
		if j.Sample > 0 || j.MaxBytes > 0 {
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

func (s *Set) verifyAll(ctx context.Context, t *jobs.Task, name string, v Verify) (failed error) {
	d, done, err := s.Use(name, false)
	if err != nil {
		return err
	}
	defer done()
	opt := v.Options()
	opt.UPID, opt.Store, opt.Log = t.UPID().String(), name, s.cfg.Log
	if v.Snapshot == nil {
		t.Logf("verify datastore %s", logs.Place(name, v.Namespace, v.Group))
	}
	if ti, away, err := s.UseTier(name); err == nil {
		var run *meter.Run
		ctx, run = s.Metered(ctx, t, ti, name)
		defer func() { run.End(failed); away() }()
		run.Says(meter.Verify(ctx, ti, d, opt))
	}
	p := logs.Verify{Task: t, Store: name}
	opt.Each, opt.Progress = p.Each, p.Tell
	report, err := verify.Run(ctx, d, opt)
	p.Done()
	t.Logf("verified %d snapshots: %d ok, %d failed, %d busy, %d skipped; read %s in %d chunks",
		report.OK+report.Failed, report.OK, report.Failed, report.Busy, report.Skipped, logs.Human(report.Bytes), report.Chunks)
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

// depth returns how many levels a maximal depth means to package catalog.
func depth(maxDepth *int) int {
	if maxDepth == nil {
		return naming.MaxDepth
	}
	return *maxDepth
}
