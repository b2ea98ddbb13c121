package tier

import (
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// The stats tell what is only on the disk and since when, and how the last work on
// the bucket failed, until it goes well.
func TestWhatWaitsIsTold(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	s.create(cfg, true)
	tr, _ := s.open(cfg)
	if st := tr.Stats(); st.Queued != 0 || st.Trouble != "" {
		t.Errorf("of a new one: %d bytes wait, trouble %q", st.Queued, st.Trouble)
	}
	const n = 8 * chunkSize
	mustBackup(t, tr, "vm/100/2024-01-02T03:04:05Z", image(1, n))
	if st := tr.Stats(); st.Queued < n {
		t.Errorf("%d bytes wait after a backup of %d", st.Queued, n)
	}
	s.proxy.On(func(cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Status: 403, Code: "AccessDenied"} })
	if _, err := tr.Offload(t.Context(), OffloadOptions{}); err == nil {
		t.Fatal("the offload went well")
	}
	s.proxy.On(nil)
	st := tr.Stats()
	if st.Queued < n || !strings.Contains(st.Trouble, "access was denied") || st.Troubled.IsZero() {
		t.Errorf("after it failed: %d bytes wait, trouble %q at %s", st.Queued, st.Trouble, st.Troubled)
	}
	if _, err := tr.Offload(t.Context(), OffloadOptions{After: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	if st = tr.Stats(); st.Oldest.IsZero() || st.Trouble != "" {
		t.Errorf("when an offload has seen it: oldest %s, trouble %q", st.Oldest, st.Trouble)
	}
	if _, err := tr.Offload(t.Context(), OffloadOptions{}); err != nil {
		t.Fatal(err)
	}
	if st = tr.Stats(); st.Queued != 0 || !st.Oldest.IsZero() || st.Bytes < n {
		t.Errorf("when all is in the bucket: %d bytes wait since %s, %d are there", st.Queued, st.Oldest, st.Bytes)
	}
	mustBackup(t, tr, day1, image(2, n)) // of what no snapshot needs a copy stays, and waits for nothing
	if err := tr.Datastore().Forget(t.Context(), "", snapshot(t, day1)); err != nil {
		t.Fatal(err)
	}
	if r, err := tr.Offload(t.Context(), OffloadOptions{}); err != nil || r.Chunks != 8 || r.Evicted != 0 {
		t.Fatalf("offload: %+v, %v", r, err)
	}
	if st = tr.Stats(); st.Queued != 0 || !st.Oldest.IsZero() {
		t.Errorf("when it is in both places: %d bytes wait since %s", st.Queued, st.Oldest)
	}
}

// The plan of a collection said of packs that had been moved to the bucket, and wait
// for their grace on the disk, that no snapshot names their chunks.
func TestWhatWasMovedIsNoGarbage(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	s.create(cfg, false)
	tr, _ := s.open(cfg)
	mustBackup(t, tr, "vm/100/2024-01-02T03:04:05Z", image(1, 4*chunkSize))
	offload(t, tr, OffloadOptions{})
	mustBackup(t, tr, "vm/100/2024-01-03T03:04:05Z", image(2, 2*chunkSize))
	r, err := tr.Datastore().Collect(t.Context(), gc.Options{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	given, dead := tr.GivenUp(), uint32(0)
	for _, p := range r.Plan.Packs {
		if dead += p.Dead; given[p.Pack] != p.Dead {
			t.Errorf("%+v: %d were given up", p, given[p.Pack])
		}
	}
	if dead == 0 {
		t.Error("nothing of what was moved is on the disk: this shows nothing")
	}
}
