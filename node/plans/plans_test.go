package plans

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/node/exports"
	"github.com/holdfast-mesh/holdfast/node/pushes"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// newConfig returns a datastore with two snapshots and a job of each kind.
func newConfig(t *testing.T) (Config, *storestest.World) {
	t.Helper()
	w := storestest.New(t, "main")
	for _, name := range []string{"vm/1/2026-01-01T00:00:00Z", "vm/1/2026-01-02T00:00:00Z"} {
		w.Back(t, "main", storestest.Backup{Snapshot: name, Owner: "root@pam", Files: []storestest.File{{Name: "guest.conf.blob", Content: []byte(name)}}})
	}
	dir := t.TempDir()
	export := settings.ExportJob{ID: "usb", Store: "main", Path: dir}
	err := w.Settings.Update(t.Context(), func(s *settings.State) error {
		s.PruneJobs = []settings.PruneJob{{ID: "daily", Store: "main", Schedule: "daily", Keep: retention.Keep{Last: 1}}}
		s.VerifyJobs = []settings.VerifyJob{{ID: "weekly", Store: "main"}}
		s.ExportJobs = []settings.ExportJob{export}
		s.SyncJobs = []settings.SyncJob{{ID: "in", Store: "main", RemoteStore: "x"}, {ID: "out", Store: "main", Remote: "r", RemoteStore: "x", SyncDirection: "push"}}
		return nil
	})
	if err == nil {
		err = exports.Claim(export)
	}
	if err != nil {
		t.Fatal(err)
	}
	own := func(what string) func(context.Context, string) (any, error) {
		return func(_ context.Context, id string) (any, error) { return what + " " + id, nil }
	}
	c := Config{Settings: w.Settings, Stores: w.Set, Pull: own("pull"), Offload: own("offload"), Push: func(_ context.Context, j settings.SyncJob) ([]pushes.Step, error) {
		return []pushes.Step{{Do: "push", What: j.ID}}, nil
	}}
	c.Exports, err = exports.New(exports.Deps{Settings: w.Settings, Stores: w.Set, Scheduler: w.Scheduler, Keys: func([]string) ([]*chunks.Key, error) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c, w
}

// Each kind of job has a plan, which changes nothing; none of a datastore out of
// service has one.
func TestOf(t *testing.T) {
	c, w := newConfig(t)
	plans := map[string]string{
		"prune:daily":   `"remove vm/1/2026-01-01T00:00:00Z","keep vm/1/2026-01-02T00:00:00Z"`,
		"verify:weekly": `"verify vm/1/2026-01-02T00:00:00Z","verify vm/1/2026-01-01T00:00:00Z"`,
		"export:usb":    `"write `,
		"sync:out":      `"push out"`,
		"sync:in":       `"pull in"`,
		"offload:up":    `"offload up"`,
		"gc:main":       `[]`,
	}
	for job, want := range plans {
		got, err := c.Of(t.Context(), job)
		if p, is := got.(Plan); is {
			steps := []string{}
			for _, s := range p.Steps {
				steps = append(steps, s.Do+" "+s.What)
			}
			got = steps
		}
		if text, _ := json.Marshal(got); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %s %v, want %s", job, text, err, want)
		}
	}
	d, err := w.Get("main")
	if err != nil {
		t.Fatal(err)
	}
	if list, err := d.List(t.Context(), catalog.ListOptions{}); err != nil || len(list) != 2 {
		t.Errorf("after the plans: %d snapshots, %v", len(list), err)
	}
	for _, job := range []string{"prune:none", "verify:none", "export:none", "gc:none", "drill:x"} {
		if got, err := c.Of(t.Context(), job); err == nil {
			t.Errorf("%s: %v", job, got)
		}
	}
}

// The calendar has the times of all nodes, in order, and says which jobs get in each
// other's way.
func TestCalendar(t *testing.T) {
	home, dc := settings.New(), settings.New()
	home.Datastores = []settings.Datastore{{Name: "main", Path: "/main", GCSchedule: "02:30"}}
	home.PruneJobs = []settings.PruneJob{{ID: "daily", Store: "main", Schedule: "01:00", Disable: true}, {ID: "odd", Store: "main", Schedule: "06:00"}}
	home.JobRules = []settings.JobRule{{Job: "gc:main", Window: []string{"3-5"}}, {Job: "prune:odd", Paused: true}}
	dc.Datastores = []settings.Datastore{{Name: "copy", Path: "/copy"}}
	dc.SyncJobs = []settings.SyncJob{
		{ID: "from-home", Store: "copy", NS: "home", Remote: "HOMEID", RemoteStore: "main", Schedule: "02:45"},
		{ID: "elsewhere", Store: "copy", Remote: "office", RemoteStore: "x", Schedule: "03:10", SyncDirection: "push"},
	}
	resolve := func(node string) (string, bool) {
		return map[string]string{"HOMEID": "home"}[node], node == "HOMEID"
	}
	took := func(job string) time.Duration {
		return map[string]time.Duration{"sync:from-home": 20 * time.Minute}[job]
	}
	from := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	var got []string
	for _, s := range Calendar([]Site{{"dc", "dc", dc, time.UTC, resolve, took}, {"home", "home", home, time.UTC, resolve, took}}, from, from.Add(24*time.Hour)) {
		got = append(got, fmt.Sprintf("%s %s/%s %s %v", time.Unix(s.At, 0).UTC().Format("15:04"), s.Node, s.Job, s.Flow, s.Overlaps))
	}
	want := []string{
		"02:45 dc/sync:from-home home/main → dc/copy:home []",
		"03:00 home/gc:main home/main [dc/sync:from-home]",
		"03:10 dc/sync:elsewhere dc/copy → office/x []",
	}
	// At 03:05 the pull has ended.
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// How long a run took is read from what its node has said.
func TestTook(t *testing.T) {
	s := settings.New()
	s.Datastores = []settings.Datastore{{Name: "main", Path: "/m"}}
	s.PruneJobs = []settings.PruneJob{{ID: "p", Store: "main", NS: "a"}}
	s.SyncJobs = []settings.SyncJob{{ID: "s", Store: "main"}}
	run := func(typ, id string, minutes int) facts.Run {
		return facts.Run{ID: fmt.Sprintf("UPID:home:00000001:00000001:00000001:65000000:%s:%s:root@pam:", typ, strings.ReplaceAll(id, ":", "\\x3a")), Of: typ, Job: id, Ended: time.Unix(0x65000000, 0).Add(time.Duration(minutes) * time.Minute)}
	}
	said := []facts.Run{run("syncjob", "x:y:main::other", 9), run("syncjob", "x:y:main::s", 3), run("garbage_collection", "main", 5), run("prunejob", "main:a", 1)}
	for job, want := range map[string]int{"sync:s": 3, "gc:main": 5, "prune:p": 1, "verify:none": 0} {
		if got := Took(said, s, job); got != time.Duration(want)*time.Minute {
			t.Errorf("%s took %s, want %d minutes", job, got, want)
		}
	}
}
