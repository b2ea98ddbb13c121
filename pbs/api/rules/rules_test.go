package rules_test

import (
	"context"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/pbs/api/rules"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

func newWorld(t *testing.T) *storestest.World {
	w := storestest.New(t, "main")
	err := w.Settings.Update(t.Context(), func(s *settings.State) error {
		s.PruneJobs = []settings.PruneJob{{ID: "daily", Store: "main", Schedule: "daily"}, {ID: "later", Store: "main"}}
		s.SyncJobs = []settings.SyncJob{{ID: "offsite", Store: "main", Remote: "office", RemoteStore: "x", SyncDirection: "push"}}
		return nil
	})
	if err == nil {
		err = w.Sync(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	w.Serve(t, rules.Endpoints(rules.Config{
		Settings: w.Settings, Scheduler: w.Scheduler, Follow: func(ctx context.Context) error { return w.Sync(ctx) },
		Claims: func(string) ([]rules.Claim, []string) { return []rules.Claim{{Slot: 1, Node: "dc"}}, []string{"dc"} },
	})...)
	w.AddUser(t, "boss@pbs", "/datastore/main DatastoreAdmin")
	w.AddUser(t, "eye@pbs", "/datastore/main DatastoreAudit")
	w.AddUser(t, "none@pbs")
	return w
}

// Each option of a rule is taken or refused, shown, in force at once, and taken
// back.
func TestRule(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct{ job, set, shown, wrong string }{
		{"prune:daily", "catch-up=skip", `"catch-up":"skip"`, ""},
		{"prune:daily", "catch-up=twice", "", "is no rule for missed times"},
		{"prune:daily", "stagger=1", `"stagger":true`, ""},
		{"prune:daily", "timezone=Europe/Vienna", `"timezone":"Europe/Vienna"`, ""},
		{"prune:daily", "timezone=Atlantis", "", "is no zone"},
		{"prune:later", "after=gc:main", `"after":"gc:main"`, ""},
		{"prune:later", "after=prune:later", "", "cannot come after itself"},
		{"prune:later", "after=prune:none", "", "no such job"},
		{"prune:later", "after=main", "", "want KIND:ID"},
		{"prune:daily", "shared=1", "", "only push jobs"},
		{"push:offsite", "shared=1", "", "say in which timezone"},
		{"gc:main", "stagger=1", `"stagger":true`, ""},
		{"gc:main", "delete=nothing", "", "'delete'"},
		{"prune:none", "stagger=1", "", "403"},
	} {
		path := "/holdfast/jobs/" + tt.job + "/rule"
		status, body := w.Ask("boss@pbs", "PUT", path, storestest.Form, tt.set)
		if tt.wrong != "" {
			if status == 200 || !strings.Contains(body, tt.wrong) && tt.wrong != "403" {
				t.Errorf("%s %s: %d %s", tt.job, tt.set, status, body)
			}
			continue
		}
		if _, shown := w.Ask("eye@pbs", "GET", path, "", ""); status != 200 || !strings.Contains(shown, tt.shown) {
			t.Errorf("%s %s: %d %s, shown as %s", tt.job, tt.set, status, body, shown)
		}
		name, _, _ := strings.Cut(tt.set, "=")
		w.Ask("boss@pbs", "PUT", path, storestest.Form, "delete="+name)
		if n := len(w.Settings.State().JobRules); n != 0 {
			t.Errorf("%s, taken back: %d rules", tt.set, n)
		}
	}
	w.Ask("boss@pbs", "PUT", "/holdfast/jobs/prune:later/rule", storestest.Form, "after=prune:daily")
	if _, body := w.Ask("boss@pbs", "PUT", "/holdfast/jobs/prune:daily/rule", storestest.Form, "after=prune:later"); !strings.Contains(body, "comes after this job itself") {
		t.Errorf("a ring: %s", body)
	}
	if sched, err := w.Scheduler.Status("prunejob:later"); err != nil || sched.After != "prunejob:daily" {
		t.Errorf("in force: %+v, %v", sched, err)
	}
	err := w.Settings.Update(t.Context(), func(s *settings.State) error { s.PruneJobs = nil; return nil })
	if err != nil || len(w.Settings.State().JobRules) != 0 {
		t.Errorf("rules of jobs that are gone: %v, %v", w.Settings.State().JobRules, err)
	}
}

// A job is explained to who may look at its datastore, and changed by who may
// change that.
func TestWhoAsksWhy(t *testing.T) {
	w := newWorld(t)
	for who, want := range map[string][2]int{"boss@pbs": {200, 200}, "eye@pbs": {200, 403}, "none@pbs": {403, 403}} {
		status, body := w.Ask(who, "GET", "/holdfast/jobs/prune:daily/why", "", "")
		if status != want[0] || status == 200 && !strings.Contains(body, `"now":"it waits for `) {
			t.Errorf("%s: %d %s", who, status, body)
		}
		if status, body := w.Ask(who, "PUT", "/holdfast/jobs/prune:daily/rule", storestest.Form, "stagger=1"); status != want[1] {
			t.Errorf("%s changes it: %d %s", who, status, body)
		}
	}
	if _, body := w.Ask("boss@pbs", "GET", "/holdfast/jobs/prune:later/why", "", ""); !strings.Contains(body, "only when somebody asks") {
		t.Error(body)
	}
}
