package stores_test

import (
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

const root = "root@pam"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// says fails the test unless err has that text.
func says(t *testing.T, what string, err error, want string) {
	t.Helper()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != want {
		t.Errorf("%s: %q, want %q", what, text, want)
	}
}

// backup makes a small backup of alice's.
func backup(t testing.TB, w *storestest.World, store string, ns catalog.Namespace, snapshot string) {
	t.Helper()
	w.Back(t, store, storestest.Backup{
		Namespace: ns, Snapshot: snapshot, Owner: "alice@pbs",
		Files: []storestest.File{{Name: "disk.img.fidx", Content: []byte(snapshot + string(ns))}},
	})
}

// ended waits for a task and returns how it ended.
func ended(t testing.TB, w *storestest.World, u jobs.UPID, err error) jobs.Info {
	t.Helper()
	must(t, err)
	i, err := w.Tasks.Wait(t.Context(), u)
	must(t, err)
	return i
}

// log returns the lines of a task's log without their times.
func log(t testing.TB, w *storestest.World, u jobs.UPID) (lines []string) {
	t.Helper()
	page, err := w.Tasks.Log(u, 1, 0)
	must(t, err)
	for _, l := range page.Lines {
		lines = append(lines, l.Text[27:])
	}
	return lines
}

func snapshot(t testing.TB, text string) naming.Snapshot {
	t.Helper()
	s, err := naming.ParseSnapshot(text)
	must(t, err)
	return s
}
