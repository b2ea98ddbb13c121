package offloads_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/node/offloads"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
	"github.com/holdfast-mesh/holdfast/replication/offload"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const cacheSize = 64 << 20

// newWorld has a datastore on a disk with two snapshots, and an empty one with a
// bucket.
func newWorld(t *testing.T) (*storestest.World, *cloudtest.Proxy, *offloads.Offloads) {
	t.Helper()
	p := cloudtest.Front(t, cloudtest.Start(t))
	w := storestest.NewCloud(t, settings.S3Client{Endpoint: p.URL, Region: cloudtest.Region, AccessKey: cloudtest.Key, PathStyle: true}, cloudtest.Secret, "main")
	for _, s := range []string{"vm/100/2024-01-02T03:04:05Z", "vm/100/2024-01-03T03:04:05Z"} {
		w.Back(t, "main", storestest.Backup{Snapshot: s, Owner: "root@pam", Files: []storestest.File{{Name: "disk.img.fidx", Content: []byte(s)}}})
	}
	key, err := seal.NewIdentity()
	must(t, err)
	u, err := w.StartCreate(t.Context(), "root@pam", stores.Create{
		Datastore: settings.Datastore{Name: "cloud", Path: storestest.Dir + "cloud", Backend: settings.Backend{Client: "near", Bucket: cloudtest.Name, CacheSize: cacheSize}},
		Cloud:     stores.NewCloud{Recovery: key.String(), Override: []string{"keys", "lifecycle", "versioning", "tls"}},
	})
	if state, text := end(t, w, u, err); state != "OK" && !strings.HasPrefix(state, "WARNINGS") {
		t.Fatalf("create: %s\n%s", state, text)
	}
	o, err := offloads.New(offloads.Config{Settings: w.Settings, Stores: w.Set, Scheduler: w.Scheduler})
	must(t, err)
	return w, p, o
}

// end waits for a task, and returns how it ended and what it said.
func end(t *testing.T, w *storestest.World, u jobs.UPID, err error) (state, text string) {
	t.Helper()
	must(t, err)
	i, err := w.Tasks.Wait(t.Context(), u)
	must(t, err)
	page, err := w.Tasks.Log(u, 1, 0)
	must(t, err)
	for _, l := range page.Lines {
		text += l.Text + "\n"
	}
	return i.Status(), text
}

func setJobs(t *testing.T, w *storestest.World, o *offloads.Offloads, all ...settings.OffloadJob) error {
	t.Helper()
	must(t, w.Settings.Update(t.Context(), func(s *settings.State) error { s.OffloadJobs = all; return nil }))
	return o.Sync(t.Context())
}

// A job is planned, runs with its requests in the log, and finds nothing to do the
// second time. What it was to do is what it did.
func TestAJobRuns(t *testing.T) {
	w, p, o := newWorld(t)
	must(t, setJobs(t, w, o, settings.OffloadJob{ID: "upl", Store: "main", To: "cloud"}))
	p.Reset()
	got, err := o.Plan(t.Context(), "upl")
	must(t, err)
	if n := p.Counts()["put"]; n != 0 {
		t.Errorf("the plan wrote %d objects", n)
	}
	plan := got.(*offload.Plan)
	if plan.Source != "main" {
		t.Errorf("the plan is %+v", plan)
	}
	p.Reset()
	u, err := o.Start("upl", "root@pam")
	state, text := end(t, w, u, err)
	for _, want := range []string{"datastore 'main' to 'cloud'", "2 snapshots are in the bucket and were not", "requests to the store: ", " put (forecast "} {
		if state != "OK" || !strings.Contains(text, want) {
			t.Errorf("the log lacks %q: %s\n%s", want, state, text)
		}
	}
	if n := p.Counts()["put"]; n == 0 {
		t.Error("nothing was written")
	}
	p.Reset()
	for u, err = o.Start("upl", "root@pam"); errors.Is(err, jobs.ErrRunning); u, err = o.Start("upl", "root@pam") {
		time.Sleep(time.Millisecond) // that it has ended is noted after the task is told
	}
	if state, text := end(t, w, u, err); state != "OK" || !strings.Contains(text, "0 snapshots are in the bucket and were not") || p.Counts()["put"] != 0 {
		t.Errorf("the second run: %s, %v\n%s", state, p.Counts(), text)
	}
}

// Schedules follow the settings. A job that makes no sense is reported and stops
// no other; one that is gone, or is of a datastore that is gone, does not run.
func TestSchedulesFollow(t *testing.T) {
	w, _, o := newWorld(t)
	err := setJobs(t, w, o,
		settings.OffloadJob{ID: "bad", Store: "main", To: "cloud", Schedule: "sometimes"},
		settings.OffloadJob{ID: "upl", Store: "main", To: "cloud", Schedule: "daily"},
		settings.OffloadJob{ID: "off", Store: "main", To: "cloud", Schedule: "daily", Disable: true},
		settings.OffloadJob{ID: "lost", Store: "gone", To: "cloud"})
	if err == nil || !strings.Contains(err.Error(), "offload job bad: ") || strings.Contains(err.Error(), "upl") {
		t.Errorf("sync: %v", err)
	}
	if s, err := o.Schedule("upl"); err != nil || s.Next.IsZero() {
		t.Errorf("schedule of upl: %+v, %v", s, err)
	}
	if s, err := o.Schedule("off"); err != nil || !s.Next.IsZero() {
		t.Errorf("schedule of a job that is off: %+v, %v", s, err)
	}
	u, err := o.Start("lost", "root@pam")
	if state, _ := end(t, w, u, err); !strings.Contains(state, "gone") {
		t.Errorf("a job of a datastore that is gone: %s", state)
	}
	must(t, setJobs(t, w, o))
	if _, err := o.Start("upl", "root@pam"); !errors.Is(err, jobs.ErrNoJob) {
		t.Errorf("a job that was removed is started: %v", err)
	}
}

// A cache has its new bound while the datastore is open and used.
func TestTheCacheIsResizedLive(t *testing.T) {
	w, _, _ := newWorld(t)
	d, done, err := w.Use("cloud", true)
	must(t, err)
	defer done()
	for _, size := range []int64{2 * cacheSize, cacheSize / 2} {
		must(t, w.Settings.Update(t.Context(), func(s *settings.State) error {
			for i := range s.Datastores {
				if s.Datastores[i].Name == "cloud" {
					s.Datastores[i].Backend.CacheSize = size
				}
			}
			return nil
		}))
		must(t, w.Sync(t.Context()))
		st, ok := w.Cloud("cloud")
		if !ok || st.Cache.Bound != size || st.Cache.Used > size {
			t.Errorf("the cache is %+v, want a bound of %d", st.Cache, size)
		}
		again, err := w.Get("cloud")
		if err != nil || again != d {
			t.Errorf("the datastore was opened anew: %v", err)
		}
	}
}
