package catalog

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

func TestPrune(t *testing.T) {
	d, _, _ := newStore(t)
	for day := range 5 {
		mustBackUp(t, d, "", snap("vm/100", day))
		mustBackUp(t, d, "", snap("ct/1", day))
	}
	must(t, d.SetProtected("", snap("vm/100", 0), true))
	must(t, d.FS.Mkdir(d.snapDir("", Snapshot{Group: group("vm/100"), Time: day0.Unix() + 7}), 0o755)) // never finished
	r, err := d.OpenSnapshot(t.Context(), "", snap("vm/100", 1))
	must(t, err)
	defer r.Close()
	w, err := d.Begin(t.Context(), "", snap("vm/100", 9), alice)
	must(t, err)
	defer w.Abort()
	var vms Filters
	must(t, vms.Set("type:vm"))
	opt := PruneOptions{Filters: vms, Keep: Keep{Last: 2}, Location: time.UTC, DryRun: true}
	for _, dry := range []bool{true, false} {
		opt.DryRun = dry
		plan, err := d.Prune(t.Context(), opt)
		must(t, err)
		var got []string
		for _, p := range plan {
			s := strings.TrimPrefix(naming.FormatTime(p.Time), "2026-01-")[:2] + " " + string(p.Mark)
			if !p.Keep && p.Reason != "" {
				s += " in use"
			}
			got = append(got, s)
		}
		want := "01 protected|01 remove|02 remove|03 remove|04 keep|05 keep|10 keep-partial" // oldest first
		if !dry {
			want = strings.Replace(want, "02 remove", "02 remove in use", 1)
		}
		if g := strings.Join(got, "|"); g != want {
			t.Errorf("dry run %v: plan is %s,\nwant %s", dry, g, want)
		}
		left, err := d.Snapshots(t.Context(), "", group("vm/100"))
		if want := map[bool]int{true: 7, false: 5}[dry]; err != nil || len(left) != want {
			t.Errorf("dry run %v: %d snapshots are left, want %d, %v", dry, len(left), want, err)
		}
	}
	if left, err := d.Snapshots(t.Context(), "", group("ct/1")); err != nil || len(left) != 5 {
		t.Errorf("%d snapshots of a group that was not asked for, %v", len(left), err)
	}
	plan, err := d.Prune(t.Context(), PruneOptions{})
	must(t, err)
	for _, p := range plan {
		if !p.Keep {
			t.Errorf("without a rule %+v goes", p)
		}
	}
	if _, err := d.Prune(t.Context(), PruneOptions{Keep: Keep{Daily: -1}}); err == nil {
		t.Error("a negative number was taken")
	}
	_, err = d.Prune(t.Context(), PruneOptions{Namespace: "none", Keep: Keep{Last: 1}})
	wants(t, "a namespace that is not there", err, fs.ErrNotExist)
}
