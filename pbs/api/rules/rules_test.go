package rules_test

import (
	"context"
	"strings"
	"testing"
	"time"

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
		Plan: func(_ context.Context, job string) (any, error) { return "plan of " + job, nil },
		Calendar: func(from, _ time.Time) []rules.Slot {
			return []rules.Slot{{Store: "main", Job: "gc:main"}, {Store: "other", Job: "gc:other"}}
		},
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
		{"prune:daily", "shared=1&timezone=UTC", "", "only pushes, exports and what works on a bucket"},
		{"push:offsite", "shared=1", "", "say in which timezone"},
		{"push:offsite", "weight=3", "", "for jobs that are shared"},
		{"prune:daily", "paused=1", `"paused":true`, ""},
		{"prune:daily", "window=22-6&window=sat,sun+0-24", `"window":["22-6","sat,sun 0-24"]`, ""},
		{"prune:daily", "window=8-8", "", "it ends when it begins"},
		{"prune:daily", "window-end=abort", "", "there is no window"},
		{"prune:daily", "window=8-9&window-end=never", "", "is no end of a window"},
		{"prune:daily", "overlap=queue", `"overlap":"queue"`, ""},
		{"prune:daily", "overlap=replace", "", "a prune job is never stopped for its next run"},
		{"push:offsite", "overlap=replace", `"overlap":"replace"`, ""},
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
	w.Ask("boss@pbs", "PUT", "/holdfast/jobs/push:offsite/rule", storestest.Form, "shared=1&timezone=UTC&weight=3")
	if r := w.Settings.State().Rule("sync:offsite"); !r.Shared || r.Weight != 3 {
		t.Errorf("shared: %+v", r)
	}
	w.Ask("boss@pbs", "PUT", "/holdfast/jobs/push:offsite/rule", storestest.Form, "delete=shared&delete=weight&delete=timezone")
	w.Ask("boss@pbs", "PUT", "/holdfast/jobs/prune:daily/rule", storestest.Form, "paused=1&window=22-6&window-end=abort&overlap=queue")
	if st, err := w.Scheduler.Status("prunejob:daily"); err != nil || !st.Held || !st.Paused || len(st.Windows) != 2 || st.AtEnd != "abort" || st.Overlap != "queue" {
		t.Errorf("in force: %+v, %v", st, err)
	}
	if _, body := w.Ask("eye@pbs", "GET", "/holdfast/jobs", "", ""); !strings.Contains(body, `"paused":true`) {
		t.Errorf("listed: %s", body)
	}
	if _, body := w.Ask("none@pbs", "GET", "/holdfast/jobs", "", ""); strings.Contains(body, "prune") {
		t.Errorf("listed to somebody who sees no datastore: %s", body)
	}
	w.Ask("boss@pbs", "PUT", "/holdfast/jobs/prune:daily/rule", storestest.Form, "delete=paused&delete=window&delete=overlap")
	if n := len(w.Settings.State().JobRules); n != 0 {
		t.Errorf("taken back: %v", w.Settings.State().JobRules)
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

// What ran is listed with what it counted; the plan and the calendar are for who may
// look at the datastores.
func TestHistoryPlanAndCalendar(t *testing.T) {
	w := newWorld(t)
	u, err := w.Scheduler.Trigger("prunejob:later", "boss@pbs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Tasks.Wait(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	for { // its end is noted soon after
		if _, body := w.Ask("eye@pbs", "GET", "/holdfast/jobs/prune:later/history", "", ""); strings.Contains(body, `"statistics":{"kept":0,"removed":0}`) && strings.Contains(body, `"status":"OK"`) {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("the run is not listed")
		}
		time.Sleep(time.Millisecond)
	}
	for who, want := range map[string]int{"eye@pbs": 200, "none@pbs": 403} {
		for _, what := range []string{"history", "plan"} {
			if status, body := w.Ask(who, "GET", "/holdfast/jobs/prune:later/"+what, "", ""); status != want {
				t.Errorf("%s asks for the %s: %d %s", who, what, status, body)
			}
		}
	}
	if _, body := w.Ask("eye@pbs", "GET", "/holdfast/calendar?hours=48", "", ""); !strings.Contains(body, "gc:main") || strings.Contains(body, "gc:other") {
		t.Errorf("the calendar: %s", body)
	}
	if status, _ := w.Ask("eye@pbs", "GET", "/holdfast/calendar?hours=0", "", ""); status == 200 {
		t.Error("no hours are a calendar")
	}
}
