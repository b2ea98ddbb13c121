package export

import (
	"context"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// Whatever the directories of a PBS datastore are called, those that are
// backups are planned, each once, and the others are refused or not seen.
func FuzzSurvey(f *testing.F) {
	f.Add("a", "vm", "100", "2026-01-01T00:00:00Z")
	f.Add("..", "ct", ".hidden", "2026-01-01T00:00:00")
	f.Add("a b", "host", "-x", "2026-13-01T00:00:00Z")
	f.Add(strings.Repeat("n", 300), "VM", "1\x00", "yesterday")
	f.Fuzz(func(t *testing.T, ns, typ, id, at string) {
		m := disktest.NewMem()
		var parts []string
		for _, p := range []string{ns, typ, id, at} {
			if p == "" || p == "." || p == ".." || strings.ContainsAny(p, "/\x00") || len(p) > 255 {
				return // no file system has it
			}
			parts = append(parts, p)
		}
		dir := path.Join(append([]string{"/d", "ns"}, parts...)...)
		if err := disk.MkdirAll(m, dir, 0o755); err != nil {
			t.Fatal(err)
		}
		var report Report
		plan, err := survey(context.Background(), catalog.Tree{FS: m, Dir: "/d"}, Selection{}, &report)
		if err != nil {
			t.Fatal(err)
		}
		_, bad := naming.ParseNamespace(ns)
		snap, bad2 := naming.ParseSnapshot(strings.Join(parts[1:], "/"))
		if bad != nil || bad2 != nil {
			if plan.total != 0 {
				t.Errorf("%q is planned: %+v", dir, plan)
			}
			return
		}
		if plan.total != 1 || report.Refused != 0 || len(plan.groups) != 1 || !slices.Equal(plan.groups[0].snaps, []catalog.Snapshot{snap}) {
			t.Errorf("%q is not planned: %+v, %+v", dir, plan, report)
		}
	})
}

// A name is that of a damaged chunk if and only if PBS gave it.
func FuzzBadNames(f *testing.F) {
	hex := strings.Repeat("0a", 32)
	for _, s := range []string{hex, hex + ".0.bad", hex + ".9.bad", hex + ".10.bad", hex + ".bad", "x.0.bad", ".0.bad", hex + ".0.bad.0.bad"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		digits := strings.Trim(strings.ToLower(name[:min(64, len(name))]), "0123456789abcdef") == ""
		want := len(name) == 70 && digits && name[64] == '.' && name[65] >= '0' && name[65] <= '9' && name[66:] == ".bad"
		if got := isBad(name); got != want {
			t.Errorf("%q counts as damaged: %v", name, got)
		}
	})
}
