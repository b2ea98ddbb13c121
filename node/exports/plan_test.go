package exports

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// The plan of an export is what its run does then; a run that another node has
// superseded writes nothing and removes nothing.
func TestPlanAndFence(t *testing.T) {
	t.Parallel()
	d, dir := pbstest.NewDatastore(t), t.TempDir()
	c := Config{
		Job:   settings.ExportJob{ID: "nas", Store: "main", Path: dir, Keep: retention.Keep{Last: 1}},
		Local: d, Printf: t.Logf, Warnf: t.Logf, Progress: func(int, int) {}, Fence: &jobs.Fence{Incarnation: 1, Index: 7},
	}
	back := func(name string) {
		t.Helper()
		err := storestest.Make(t.Context(), d, storestest.Backup{Snapshot: name, Owner: "root@pam", Files: []storestest.File{{Name: "guest.conf.blob", Content: []byte("conf")}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	plan := func(want ...string) {
		t.Helper()
		steps, err := Plan(t.Context(), c)
		var got []string
		for _, s := range steps {
			got = append(got, s.Do+" "+strings.TrimPrefix(s.What, dir+"/"))
		}
		if err != nil || strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("planned %q, want %q; %v", got, want, err)
		}
	}
	if _, err := Plan(t.Context(), c); err == nil {
		t.Error("a directory that nobody has claimed has a plan")
	}
	if err := Claim(c.Job); err != nil {
		t.Fatal(err)
	}
	back("vm/1/2026-01-01T00:00:00Z")
	plan("write vm/1/2026-01-01T00-00-00Z")
	if r, err := Run(t.Context(), c); err != nil || r.Written != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	plan("skip vm/1/2026-01-01T00-00-00Z")
	back("vm/1/2026-01-02T00:00:00Z")
	plan("write vm/1/2026-01-02T00-00-00Z", "remove vm/1/2026-01-01T00-00-00Z")

	other := c
	other.Fence = &jobs.Fence{Incarnation: 1, Index: 6} // it had it before, and hung
	if r, err := Run(t.Context(), other); !errors.Is(err, errSuperseded) || r != (Report{}) {
		t.Errorf("a run that was superseded: %+v %v", r, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "vm/1/2026-01-01T00-00-00Z", sums)); err != nil {
		t.Errorf("it has removed something: %v", err)
	}
	other.Fence = &jobs.Fence{Incarnation: 2, Index: 1} // of the cluster, which has begun anew
	if r, err := Run(t.Context(), other); err != nil || r.Written != 1 || r.Removed != 1 {
		t.Errorf("the next owner: %+v %v", r, err)
	}
}
