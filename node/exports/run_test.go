package exports

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// The newest snapshot of each group is written once, to a directory that is the one
// that was meant; the job's own rules say what stays there.
func TestRun(t *testing.T) {
	t.Parallel()
	d, key := pbstest.NewDatastore(t), chunks.NewKey([chunks.KeySize]byte{1})
	image := bytes.Repeat([]byte("holdfast"), 100_000)
	back := func(name string, key *chunks.Key) {
		t.Helper()
		err := storestest.Make(t.Context(), d, storestest.Backup{Snapshot: name, Owner: "root@pam", Key: key, Files: []storestest.File{
			{Name: "drive.img.fidx", Content: image}, {Name: "guest.conf.blob", Content: []byte("conf")},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "usb")
	c := Config{
		Job:   settings.ExportJob{ID: "usb", Store: "main", Path: dir, Keep: retention.Keep{Last: 2}},
		Local: d, Printf: t.Logf, Warnf: t.Logf, Progress: func(int, int) {},
	}
	back("vm/1/2026-01-01T00:00:00Z", nil)
	back("vm/1/2026-01-02T00:00:00Z", nil)
	back("vm/2/2026-01-01T00:00:00Z", key)
	if err := Claim(c.Job); err == nil {
		t.Error("a directory that is not there is claimed")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "is not the directory that was meant") {
		t.Fatalf("to a directory that nobody has claimed: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("something was written: %v", entries)
	}
	if err := Claim(c.Job); err != nil {
		t.Fatal(err)
	}
	run := func(what string, want Report) {
		t.Helper()
		if r, err := Run(t.Context(), c); err != nil || r != want {
			t.Errorf("%s: %+v %v", what, r, err)
		}
	}
	run("without the key", Report{Groups: 2, Written: 1, Left: 1})
	c.Keys = []*chunks.Key{key}
	run("with the key", Report{Groups: 2, Written: 1, Skipped: 1})
	run("once more", Report{Groups: 2, Skipped: 2})
	for _, where := range []string{"vm/1/2026-01-02T00-00-00Z", "vm/2/2026-01-01T00-00-00Z"} {
		if got, err := os.ReadFile(filepath.Join(dir, where, "drive.img")); err != nil || !bytes.Equal(got, image) {
			t.Errorf("%s: %v", where, err)
		}
		if _, err := os.Stat(filepath.Join(dir, where, sums)); err != nil {
			t.Error(err)
		}
	}
	// One that was cut short is made anew, and the oldest of three goes.
	back("vm/1/2026-01-03T00:00:00Z", nil)
	if err := os.MkdirAll(filepath.Join(dir, "vm/1/2026-01-03T00-00-00Z.part"), 0o700); err != nil {
		t.Fatal(err)
	}
	run("the third", Report{Groups: 2, Written: 1, Skipped: 1})
	back("vm/1/2026-01-04T00:00:00Z", nil)
	run("the fourth", Report{Groups: 2, Written: 1, Skipped: 1, Removed: 1})
	left, _ := os.ReadDir(filepath.Join(dir, "vm/1"))
	if len(left) != 2 || left[0].Name() != "2026-01-03T00-00-00Z" {
		t.Errorf("left: %v", left)
	}
}
