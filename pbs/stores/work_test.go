package stores_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// The status of a collection outlives the process, as that of a real server
// does, and the log says what came of it.
func TestGarbageCollection(t *testing.T) {
	w := storestest.New(t, "store1")
	backup(t, w, "store1", "", "vm/100/2024-01-02T03:04:05Z")
	before, err := w.GCStatus("store1")
	must(t, err)
	if before.UPID != nil {
		t.Errorf("before the first collection there is one: %+v", before)
	}
	u, err := w.StartGC("store1", "alice@pbs")
	if i := ended(t, w, u, err); i.Status() != "OK" || i.UPID.AuthID != "alice@pbs" || i.UPID.Type != "garbage_collection" || i.UPID.ID != "store1" {
		t.Errorf("the collection %s ended: %s", i.UPID, i.Status())
	}
	lines := log(t, w, u)
	for _, want := range []string{"starting garbage collection on store store1", "Start GC phase1 (mark used chunks)", "marked 100% (1 of 1 index files)", "Start GC phase2 (sweep unused chunks)", "Removed garbage: 0 B", "Removed chunks: 0", "On-Disk chunks: 1", "TASK OK"} {
		if !slices.Contains(lines, want) {
			t.Errorf("the log lacks %q:\n%s", want, strings.Join(lines, "\n"))
		}
	}
	g, err := w.GCStatus("store1")
	must(t, err)
	if g.UPID == nil || *g.UPID != u.String() || g.IndexFiles != 1 || g.DiskChunks != 1 || g.IndexBytes != 27 {
		t.Errorf("status %+v", g)
	}
	s, err := w.GCSchedule("store1")
	if err != nil || s.Last == nil || *s.Last != u || s.State != "OK" || !s.Next.IsZero() {
		t.Errorf("schedule %+v, %v", s, err)
	}
	must(t, w.Close())
	must(t, w.Open(t.Context()))
	if again, err := w.GCStatus("store1"); err != nil || *again.UPID != *g.UPID || again.DiskBytes != g.DiskBytes {
		t.Errorf("after a restart %+v, %v", again, err)
	}
}

// There is one collection at a time of a datastore.
func TestOneCollectionAtATime(t *testing.T) {
	w := storestest.New(t, "store1")
	refused := 0
	var all []jobs.UPID
	for range 1000 { // of a store this small one may be over before the next begins
		if refused > 0 {
			break
		}
		u, err := w.StartGC("store1", root)
		if err != nil {
			says(t, "a second collection", err, "Start GC failed - (already running/locked)")
			refused++
			continue
		}
		all = append(all, u)
	}
	if refused == 0 {
		t.Error("a thousand collections began at once")
	}
	for _, u := range all {
		ended(t, w, u, nil)
	}
}

func TestNamesOfTasks(t *testing.T) {
	w := storestest.New(t, "store1")
	d, err := w.Get("store1")
	must(t, err)
	must(t, d.CreateNamespace("a"))
	must(t, d.CreateNamespace("a/b"))
	backup(t, w, "store1", "", "vm/100/2023-11-14T22:13:20Z")
	backup(t, w, "store1", "a/b", "vm/100/2023-11-14T22:13:20Z")
	s := snapshot(t, "vm/100/2023-11-14T22:13:20Z")
	verify := func(v stores.Verify) (jobs.UPID, error) { return w.StartVerify("store1", "alice@pbs", v) }
	prune := func(p stores.Prune) (jobs.UPID, error) { return w.StartPrune("store1", "alice@pbs", p) }
	for _, c := range []struct {
		want  string // type and ID
		start func() (jobs.UPID, error)
	}{
		{"verify store1", func() (jobs.UPID, error) { return verify(stores.Verify{}) }},
		{"verify store1:ns/a/ns/b", func() (jobs.UPID, error) { return verify(stores.Verify{Namespace: "a/b"}) }},
		{"verify_group store1:/vm/100", func() (jobs.UPID, error) { return verify(stores.Verify{Group: &s.Group}) }},
		{"verify_group store1:ns/a/ns/b/vm/100", func() (jobs.UPID, error) { return verify(stores.Verify{Namespace: "a/b", Group: &s.Group}) }},
		{"verify_snapshot store1:/vm/100/6553F100", func() (jobs.UPID, error) { return verify(stores.Verify{Snapshot: &s}) }},
		{"prune store1::vm/100", func() (jobs.UPID, error) { return prune(stores.Prune{Group: &s.Group}) }},
		{"prune store1:a/b", func() (jobs.UPID, error) { return prune(stores.Prune{Namespace: "a/b"}) }},
		{"garbage_collection store1", func() (jobs.UPID, error) { return w.StartGC("store1", "alice@pbs") }},
	} {
		u, err := c.start()
		i := ended(t, w, u, err)
		if got := i.UPID.Type + " " + i.UPID.ID; got != c.want || i.Status() != "OK" {
			t.Errorf("task %s ended with %s, want %s", got, i.Status(), c.want)
		}
	}
	w.VerifySoon("store1", d, "a/b", s, "new snapshot")
	list, _ := w.Tasks.List(jobs.Filter{Type: "verify"})
	i := slices.IndexFunc(list, func(i jobs.Info) bool { return i.UPID.ID == "store1:ns/a/ns/b/vm/100/6553F100" })
	if i < 0 {
		t.Fatalf("verification of a new snapshot is not among %v", list)
	}
	if e := ended(t, w, list[i].UPID, nil); e.Status() != "OK" {
		t.Errorf("verification of a new snapshot: %s", e.Status())
	}
}

// Verification writes down what it found, skips what was found not long ago,
// and fails as a task when a snapshot is damaged.
func TestVerify(t *testing.T) {
	w := storestest.New(t, "store1")
	const whole, broken = "vm/100/2024-01-02T03:04:05Z", "vm/101/2024-01-02T03:04:05Z"
	backup(t, w, "store1", "", whole)
	backup(t, w, "store1", "", broken)
	d, err := w.Get("store1")
	must(t, err)
	f, err := w.FS.OpenFile(storestest.Dir+"store1/"+broken+"/disk.img.fidx", 2, 0)
	must(t, err)
	_, err = f.WriteAt([]byte{1}, 4096)
	must(t, err)
	f.Close()
	u, err := w.StartVerify("store1", root, stores.Verify{IgnoreVerified: true})
	if i := ended(t, w, u, err); i.Status() != "verification failed - please check the log for details" {
		t.Errorf("it ended: %s", i.Status())
	}
	if lines := log(t, w, u); !slices.Contains(lines, "\t"+broken) || !slices.Contains(lines, "verify store1:"+whole+": ok (1 chunks)") {
		t.Errorf("log:\n%s", strings.Join(lines, "\n"))
	}
	for name, want := range map[string]string{whole: "ok", broken: "failed"} {
		i, err := d.Describe("", snapshot(t, name))
		must(t, err)
		if i.Verification == nil || i.Verification.State != want || i.Verification.UPID != u.String() {
			t.Errorf("%s: %+v, want %s by %s", name, i.Verification, want, u)
		}
	}
	again, err := w.StartVerify("store1", root, stores.Verify{IgnoreVerified: true, OutdatedAfter: 30})
	if i := ended(t, w, again, err); i.Status() != "OK" {
		t.Errorf("again: %s", i.Status())
	}
	if lines := log(t, w, again); !slices.Contains(lines, "SKIPPED: verify store1:"+whole+" (recently verified)") {
		t.Errorf("log:\n%s", strings.Join(lines, "\n"))
	}
}

// Only those groups are worked on that the caller may.
func TestOnlySomeGroups(t *testing.T) {
	w := storestest.New(t, "store1")
	for _, s := range []string{"vm/100/2024-01-02T03:04:05Z", "vm/100/2024-02-02T03:04:05Z", "vm/101/2024-01-02T03:04:05Z", "vm/101/2024-02-02T03:04:05Z"} {
		backup(t, w, "store1", "", s)
	}
	only := func(_ catalog.Namespace, g catalog.Group) bool { return g.ID == "100" }
	list, err := w.Prune(t.Context(), "store1", root, stores.Prune{Keep: catalog.Keep{Last: 1}, Only: only})
	must(t, err)
	if len(list) != 2 || list[0].ID != "100" || list[0].Keep || !list[1].Keep {
		t.Errorf("pruned %+v", list)
	}
	u, err := w.StartVerify("store1", root, stores.Verify{Only: only})
	ended(t, w, u, err)
	d, _ := w.Get("store1")
	for id, want := range map[string]bool{"100": true, "101": false} {
		i, err := d.Describe("", snapshot(t, "vm/"+id+"/2024-02-02T03:04:05Z"))
		must(t, err)
		if (i.Verification != nil) != want {
			t.Errorf("vm/%s is verified: %+v", id, i.Verification)
		}
	}
}

// A prune that is only tried leaves no task and removes nothing; one that is
// carried out leaves a log.
func TestPrune(t *testing.T) {
	w := storestest.New(t, "store1")
	for day := 1; day <= 3; day++ {
		backup(t, w, "store1", "", fmt.Sprintf("vm/100/2024-01-%02dT00:00:00Z", day))
	}
	g := naming.Group{Type: naming.VM, ID: "100"}
	p := stores.Prune{Group: &g, Keep: catalog.Keep{Last: 1}, DryRun: true}
	list, err := w.Prune(t.Context(), "store1", root, p)
	must(t, err)
	if _, n := w.Tasks.List(jobs.Filter{Type: "prune"}); len(list) != 3 || n != 0 {
		t.Errorf("tried: %d decisions, %d tasks", len(list), n)
	}
	p.DryRun = false
	if _, err = w.Prune(t.Context(), "store1", root, p); err != nil {
		t.Fatal(err)
	}
	d, _ := w.Get("store1")
	left, err := d.Snapshots(t.Context(), "", g)
	must(t, err)
	tasks, _ := w.Tasks.List(jobs.Filter{Type: "prune"})
	if len(left) != 1 || len(tasks) != 1 {
		t.Fatalf("%d snapshots are left, %d tasks", len(left), len(tasks))
	}
	if lines := log(t, w, tasks[0].UPID); !slices.Contains(lines, "retention options: --keep-last 1") || !slices.Contains(lines, "1 snapshots kept, 2 removed, 0 could not be removed") {
		t.Errorf("log:\n%s", strings.Join(lines, "\n"))
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	if _, err := w.Prune(gone, "store1", root, p); err == nil {
		t.Error("a prune for somebody who has gone went on")
	}
}

// Schedules follow the settings: they come, change and go with them, and what
// a time starts is root's.
func TestSchedules(t *testing.T) {
	w := storestest.New(t, "store1")
	for day := 1; day <= 3; day++ {
		backup(t, w, "store1", "", fmt.Sprintf("vm/100/2024-01-%02dT00:00:00Z", day))
	}
	set := func(change func(*settings.State)) {
		t.Helper()
		must(t, w.Settings.Update(t.Context(), func(s *settings.State) error { change(s); return nil }))
		must(t, w.Sync(t.Context()))
	}
	set(func(s *settings.State) {
		s.Datastores[0].GCSchedule = "daily"
		s.PruneJobs = []settings.PruneJob{{ID: "job1", Store: "store1", Schedule: "hourly", Keep: catalog.Keep{Last: 2}}}
		s.VerifyJobs = []settings.VerifyJob{{ID: "job2", Store: "store1", Schedule: "weekly"}}
	})
	gc, err := w.GCSchedule("store1")
	if err != nil || gc.Event != "daily" || gc.Next.IsZero() || gc.Auth != root {
		t.Errorf("collection: %+v, %v", gc, err)
	}
	prune, err := w.PruneSchedule("job1")
	if err != nil || prune.Event != "hourly" || prune.Auth != root || prune.Type != "prunejob" || prune.ID != "store1" {
		t.Errorf("prune job: %+v, %v", prune, err)
	}
	u, err := w.RunPruneJob("job1", "alice@pbs")
	if i := ended(t, w, u, err); i.Status() != "OK" || u.AuthID != "alice@pbs" {
		t.Errorf("prune job %s: %s", u, i.Status())
	}
	d, _ := w.Get("store1")
	if left, _ := d.Snapshots(t.Context(), "", naming.Group{Type: naming.VM, ID: "100"}); len(left) != 2 {
		t.Errorf("%d snapshots are left", len(left))
	}
	v, err := w.RunVerifyJob("job2", root)
	if i := ended(t, w, v, err); i.Status() != "OK" || v.Type != "verificationjob" || v.ID != "store1:job2" {
		t.Errorf("verify job %s: %s", v, i.Status())
	}
	set(func(s *settings.State) { s.PruneJobs[0].Disable, s.VerifyJobs = true, nil })
	if s, err := w.PruneSchedule("job1"); err != nil || s.Event != "" || !s.Next.IsZero() {
		t.Errorf("a job that is disabled: %+v, %v", s, err)
	}
	if _, err := w.VerifySchedule("job2"); err == nil {
		t.Error("a job that was removed has a schedule")
	}
}
