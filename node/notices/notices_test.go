package notices

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/notify"
	"github.com/holdfast-mesh/holdfast/pbs/secrets"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

func TestEventsOfTasks(t *testing.T) {
	info := func(typ, id string, s jobs.State, message string) jobs.Info {
		return jobs.Info{UPID: jobs.UPID{Node: "home", Type: typ, ID: id, AuthID: "root@pam", Start: 1767225600}, State: s, Message: message, Warnings: 2, End: time.Unix(1767225660, 0)}
	}
	tests := []struct {
		name string
		info jobs.Info
		want string // type severity title fields; "": nobody is told
	}{
		{"a collection", info("garbage_collection", "main", jobs.OK, ""), "gc info gc of main is done map[datastore:main]"},
		{"one that failed", info("garbage_collection", "main", jobs.Failed, "disk full"), "gc error gc of main failed: disk full map[datastore:main]"},
		{"a verify job with warnings", info("verificationjob", "main:daily", jobs.Warning, ""), "verify warning verify job daily is done, with 2 warnings map[datastore:main job-id:daily]"},
		{"a sync job of PBS", info("syncjob", "remote:r:main:ns:home-to-dc", jobs.OK, ""), "sync info sync job home-to-dc is done map[datastore:main job-id:home-to-dc]"},
		{"an export", info("exportjob", "main:usb", jobs.OK, ""), "export info export job usb is done map[datastore:main job-id:usb]"},
		{"an offload", info("offloadjob", "cloud:main:up", jobs.OK, ""), "offload info offload job up is done map[datastore:main job-id:up]"},
		{"one that the daemon did not outlive", info("verify", "main", jobs.Unknown, ""), "verify error verify of main did not end: the daemon did before map[datastore:main]"},
		{"a doctor's visit", info("s3-doctor", "cloud", jobs.Failed, "the bucket is not fit for backups"), "doctor error doctor of cloud failed: the bucket is not fit for backups map[datastore:cloud]"},
		{"a backup, of which its client tells", info("backup", "main:vm/100", jobs.Failed, "x"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, is := ofTask(tt.info)
			got := fmt.Sprintf("%s %s %s %v", e.Type, e.Severity, e.Title, e.Fields)
			if !is {
				got = ""
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestFindingsOfTheDoctor(t *testing.T) {
	for severity, want := range map[doctor.Severity]string{doctor.Critical: "doctor error home: full doctor/space/critical", doctor.Warning: "doctor warning home: full doctor/space/warning"} {
		e := ofFinding(doctor.Finding{Check: "space", Severity: severity, Text: "full", Consequence: "Backups are refused.", Cure: "prune"}, "home")
		if got := fmt.Sprintf("%s %s %s %s", e.Type, e.Severity, e.Title, e.Key); got != want || !strings.Contains(e.Text, "Cure: prune") {
			t.Errorf("%q with %q, want %q and the cure", got, e.Text, want)
		}
	}
}

func TestBudgets(t *testing.T) {
	all := ofBudget(Budget{Client: "near", Month: "2026-11", Action: prices.Stop, Lines: []prices.Line{
		{What: "money", Limit: 20, Used: 20, Forecast: 30}, {What: "requests", Limit: 100, Used: 81, Forecast: 90}, {What: "egress-gb", Limit: 100, Used: 10, Forecast: 50},
	}})
	var got []string
	for _, e := range all {
		got = append(got, fmt.Sprint(e.Severity, " ", e.Title, " ", e.Key))
	}
	want := []string{
		"error the budget of S3 endpoint near is used up: money budget/near/money/over/2026-11",
		"warning the budget of S3 endpoint near may not be enough: requests budget/near/requests/near/2026-11",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if len(all) > 0 && !strings.Contains(all[0].Text, "wait until the month is over") {
		t.Errorf("it does not say what stops: %q", all[0].Text)
	}
}

func TestSpace(t *testing.T) {
	tests := []struct {
		name string
		s    disk.Space
		want string
	}{
		{"half", disk.Space{TotalBytes: 100, FreeBytes: 50, TotalInodes: 100, FreeInodes: 50}, ""},
		{"85 %", disk.Space{TotalBytes: 100, FreeBytes: 15}, "warning capacity/main/bytes/85"},
		{"90 %", disk.Space{TotalBytes: 100, FreeBytes: 10}, "error capacity/main/bytes/90"},
		{"inodes, apart", disk.Space{TotalBytes: 100, FreeBytes: 12, TotalInodes: 1000, FreeInodes: 0}, "warning capacity/main/bytes/85 error capacity/main/inodes/90"},
		{"no limit of inodes", disk.Space{TotalBytes: 100, FreeBytes: 99, TotalInodes: 0, FreeInodes: 0}, ""},
	}
	for _, tt := range tests {
		var got []string
		for _, e := range ofSpace("main", tt.s) {
			got = append(got, string(e.Severity), e.Key)
		}
		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, text, tt.want)
		}
	}
}

// A world that a test changes.
type fake struct {
	mu      sync.Mutex
	reached bool
	quorum  bool
	open    bool
	free    int64
	newest  time.Time
}

func (f *fake) world() World {
	locked := func(do func()) { f.mu.Lock(); defer f.mu.Unlock(); do() }
	return World{
		Spaces: func() (m map[string]disk.Space) {
			locked(func() { m = map[string]disk.Space{"main": {TotalBytes: 100, FreeBytes: f.free}} })
			return m
		},
		Newest: func(context.Context, string) (g []Group, err error) {
			locked(func() { g = []Group{{"vm/100", f.newest}} })
			return g, nil
		},
		Sites: func() (s []Site) {
			locked(func() { s = []Site{{ID: "x", Name: "dc1", Site: "dc", Reached: f.reached, Why: "no route"}} })
			return s
		},
		Quorum:  func() (there bool, why string) { locked(func() { there = f.quorum }); return there, "no leader" },
		Breaker: func() (open bool, why string) { locked(func() { open = f.open }); return open, "too many" },
	}
}

// What lasts is told once, what passes is not told.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	state, err := settings.OpenFile(filepath.Join(dir, "settings"))
	if err != nil {
		t.Fatal(err)
	}
	err = state.Update(t.Context(), func(s *settings.State) error {
		s.Datastores = append(s.Datastores, settings.Datastore{Name: "main", Path: "/x", ExpectedAge: "36h"})
		s.NotifyTargets = append(s.NotifyTargets, settings.NotifyTarget{Name: "hook", Type: settings.TargetWebhook, URL: "http://127.0.0.1:1/"})
		s.NotifyMatchers = append(s.NotifyMatchers, settings.NotifyMatcher{Name: "all", Target: []string{"hook"}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := secrets.Open(filepath.Join(dir, "secrets"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		f := &fake{reached: true, quorum: true, free: 50, newest: time.Now()}
		n, err := New(Config{File: filepath.Join(dir, "queue"), Name: "home", Site: "here", Settings: state, Secrets: kept, World: f.world()})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { n.watch(ctx); close(done) }()
		told := 0
		step := func(what string, change func(), wait time.Duration, want int) {
			t.Helper()
			f.mu.Lock()
			change()
			f.mu.Unlock()
			time.Sleep(wait)
			now := n.Status()[0].Waiting
			if now-told != want {
				t.Errorf("%s: %d events, want %d", what, now-told, want)
			}
			told = now
		}
		step("all is well", func() {}, time.Hour, 0)
		step("a short cut", func() { f.reached, f.quorum = false, false }, time.Minute, 0)
		step("which is over", func() { f.reached, f.quorum = true, true }, time.Hour, 0)
		step("a site is gone", func() { f.reached = false }, 30*time.Minute, 1)
		step("and is back", func() { f.reached = true }, time.Hour, 1)
		step("no quorum", func() { f.quorum = false }, 30*time.Minute, 1)
		step("the breaker", func() { f.quorum, f.open = true, true }, time.Hour, 1)
		step("the disk fills up", func() { f.free = 14 }, time.Hour, 1)
		step("and more", func() { f.free = 9 }, time.Hour, 1)
		step("and stays so, for a day", func() { f.newest = time.Now() }, 20*time.Hour, 0)
		step("no snapshot for two days", func() {}, 18*time.Hour, 2) // the disk once more
		cancel()
		<-done
	})
}

func TestOnePartTellsOnce(t *testing.T) {
	nodes := []string{"a", "b", "c", "d"}
	for i := range 100 {
		key, who := fmt.Sprint("gone/", i), 0
		for _, n := range nodes {
			if first(n, nodes, key) {
				who++
			}
		}
		if who != 1 {
			t.Errorf("%s is told by %d nodes", key, who)
		}
	}
}

func TestRulesFollowTheSettings(t *testing.T) {
	for _, m := range []settings.NotifyMatcher{{Severity: []string{"bad"}}, {Field: []string{"type"}}, {Calendar: []string{"99-100"}}} {
		if _, err := matcher(m); err == nil {
			t.Errorf("%+v is accepted", m)
		}
	}
	m, err := matcher(settings.NotifyMatcher{Mode: "any", Severity: []string{"error"}, Calendar: []string{"mon..fri 8-17"}, Field: []string{"exact:type=gc"}})
	if err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, time.Local) // a Monday
	if !m.Match(notify.Event{Time: noon}) || m.Match(notify.Event{Time: noon.Add(10 * time.Hour)}) {
		t.Error("the calendar is not that of this machine")
	}
	for _, r := range []settings.NotifyTarget{{Type: "x"}, {Type: "smtp"}, {Type: "gotify", Server: "http://x"}, {Type: "service"}, {Type: "webhook", URL: "http://x/", Secret: []string{"name=a"}}, {Type: "ntfy", Server: "http://x", Topic: "t", Interval: "1y"}} {
		if _, err := recipient(r, nil); err == nil {
			t.Errorf("%+v is accepted", r)
		}
	}
}
