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
		{"what is kept for root is no use to us, and is not used", disk.Space{TotalBytes: 100, FreeBytes: 40, ReservedBytes: 50}, ""},
		{"nor does it make the disk larger", disk.Space{TotalBytes: 100, FreeBytes: 5, ReservedBytes: 50}, "error capacity/main/bytes/90"},
		{"no limit of inodes", disk.Space{TotalBytes: 100, FreeBytes: 99, TotalInodes: 0, FreeInodes: 0}, ""},
	}
	for _, tt := range tests {
		var got []string
		for _, e := range ofSpace("main", "", tt.s) {
			got = append(got, string(e.Severity), e.Key)
		}
		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, text, tt.want)
		}
	}
}

// A quota is told of apart from the disk, and its bytes apart from its inodes.
func TestQuota(t *testing.T) {
	var got []string
	for _, e := range ofSpace("main", "user", disk.Space{TotalBytes: 100, FreeBytes: 5, TotalInodes: 100, FreeInodes: 14}) {
		got = append(got, string(e.Severity), e.Key)
		if !strings.Contains(e.Title, "of the quota of its user are used") || !strings.Contains(e.Text, "raise the quota") {
			t.Errorf("%q: %q", e.Title, e.Text)
		}
	}
	if text := strings.Join(got, " "); text != "error capacity/main/quota/user/bytes/90 warning capacity/main/quota/user/inodes/85" {
		t.Errorf("%q", text)
	}
}

// A world that a test changes.
type fake struct {
	mu      sync.Mutex
	reached bool
	quorum  bool
	open    bool
	free    int64
	inodes  int64
	quota   int64 // that is left
	newest  time.Time
}

func (f *fake) world() World {
	locked := func(do func()) { f.mu.Lock(); defer f.mu.Unlock(); do() }
	return World{
		Spaces: func() (m map[string]disk.Space) {
			locked(func() {
				m = map[string]disk.Space{"main": {TotalBytes: 100, FreeBytes: f.free, TotalInodes: 100, FreeInodes: f.inodes}}
			})
			return m
		},
		Quotas: func() (m map[string][]disk.Quota) {
			locked(func() {
				m = map[string][]disk.Quota{"main": {{Of: "user", Space: disk.Space{TotalBytes: 100, FreeBytes: f.quota}}}}
			})
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

// A listener hears what a target is sent.
type listener struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *listener) Send(_ context.Context, m notify.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(&l.text, m.Subject, m.Text)
	return nil
}

// heard returns what came since it was asked last.
func (l *listener) heard() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// inAWorld runs a test beside the notices of a node that has one target, which hears
// everything.
func inAWorld(t *testing.T, test func(t *testing.T, n *Notices, f *fake, l *listener)) {
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
		f := &fake{reached: true, quorum: true, free: 50, inodes: 50, quota: 50, newest: time.Now()}
		n, err := New(Config{File: filepath.Join(dir, "queue"), Name: "home", Site: "here", Settings: state, Secrets: kept, World: f.world()})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		l := &listener{}
		n.rules()
		n.now.Recipients[0].Target = l // in place of the one that is not there
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- n.Run(ctx) }()
		test(t, n, f, l)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// What lasts is told once, what passes is not told.
func TestWatch(t *testing.T) {
	inAWorld(t, func(t *testing.T, _ *Notices, f *fake, l *listener) {
		step := func(what string, change func(), wait time.Duration, want ...string) {
			t.Helper()
			f.mu.Lock()
			change()
			f.mu.Unlock()
			time.Sleep(wait)
			got := l.heard()
			for _, w := range want {
				if strings.Count(got, w) == 0 {
					t.Errorf("%s: nobody was told that %q, but %q", what, w, got)
				}
			}
			if len(want) == 0 && got != "" {
				t.Errorf("%s: told %q", what, got)
			}
		}
		step("all is well", func() {}, time.Hour)
		step("a short cut", func() { f.reached, f.quorum = false, false }, time.Minute)
		step("which is over", func() { f.reached, f.quorum = true, true }, time.Hour)
		step("a site is gone", func() { f.reached = false }, 30*time.Minute, "dc1 at dc is not reached")
		step("and is back", func() { f.reached = true }, time.Hour, "dc1 at dc is reached again")
		step("no quorum", func() { f.quorum = false }, 30*time.Minute, "the mesh has no quorum")
		step("the breaker", func() { f.quorum, f.open = true, true }, time.Hour, "the guard of home has stopped all deletion")
		step("the disk fills up", func() { f.free = 14 }, time.Hour, "86 % of the bytes of its disk")
		step("and more", func() { f.free = 9 }, time.Hour, "91 % of the bytes of its disk")
		step("and stays so, for a day", func() { f.newest = time.Now() }, 20*time.Hour)
		step("and the inodes", func() { f.inodes = 12 }, time.Hour, "88 % of the inodes of its disk")
		step("and a quota", func() { f.quota = 3 }, time.Hour, "97 % of the bytes of the quota of its user")
		step("no snapshot for two days", func() {}, 16*time.Hour, "91 % of the bytes", "vm/100 in datastore main has no new snapshot")
	})
}

// Each kind of event that there is reaches a target: from what causes it to what is
// sent, with its severity.
func TestEveryEventIsSent(t *testing.T) {
	task := func(typ, id string, s jobs.State) jobs.Info {
		return jobs.Info{UPID: jobs.UPID{Node: "home", Type: typ, ID: id, AuthID: "root@pam", Start: 1767225600}, State: s, Message: "no such remote", Warnings: 2, End: time.Unix(1767225660, 0)}
	}
	missed := time.Date(2026, 11, 29, 2, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		cause func(n *Notices, f *fake)
		after time.Duration
		want  string // title
	}{
		{"a run that is done", func(n *Notices, _ *fake) { n.TaskEnded(task("syncjob", "dc:main:main::copy", jobs.OK)) }, 0, "sync job copy is done"},
		{"a run with warnings", func(n *Notices, _ *fake) { n.TaskEnded(task("verificationjob", "main:daily", jobs.Warning)) }, 0, "verify job daily is done, with 2 warnings"},
		{"a run that failed", func(n *Notices, _ *fake) { n.TaskEnded(task("exportjob", "main:usb", jobs.Failed)) }, 0, "export job usb failed: no such remote"},
		{"a run that the daemon did not outlive", func(n *Notices, _ *fake) { n.TaskEnded(task("prunejob", "main", jobs.Unknown)) }, 0, "prune of main did not end"},
		{"a missed slot", func(n *Notices, _ *fake) {
			n.Missed(jobs.Schedule{Name: "syncjob:copy", ID: "main"}, missed, missed)
		}, 0, "syncjob:copy did not run at 2026-11-29 02:00 UTC"},
		{"bytes, 85 %", func(_ *Notices, f *fake) { f.free = 15 }, 10 * time.Minute, "85 % of the bytes of its disk"},
		{"bytes, 90 %", func(_ *Notices, f *fake) { f.free = 10 }, 10 * time.Minute, "90 % of the bytes of its disk"},
		{"inodes", func(_ *Notices, f *fake) { f.inodes = 10 }, 10 * time.Minute, "90 % of the inodes of its disk"},
		{"a quota", func(_ *Notices, f *fake) { f.quota = 15 }, 10 * time.Minute, "85 % of the bytes of the quota of its user"},
		{"a corrupt chunk", func(n *Notices, _ *fake) { n.Corrupt("main", 1, 2) }, 0, "datastore main: damaged chunks: 1, missing: 2"},
		{"a site that is gone", func(_ *Notices, f *fake) { f.reached = false }, 10 * time.Minute, "dc1 at dc is not reached"},
		{"no new snapshot", func(_ *Notices, f *fake) { f.newest = f.newest.Add(-37 * time.Hour) }, 40 * time.Minute, "vm/100 in datastore main has no new snapshot"},
		{"no quorum", func(_ *Notices, f *fake) { f.quorum = false }, 5 * time.Minute, "the mesh has no quorum"},
		{"the breaker", func(_ *Notices, f *fake) { f.open = true }, 5 * time.Minute, "the guard of home has stopped all deletion"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inAWorld(t, func(t *testing.T, n *Notices, f *fake, l *listener) {
				time.Sleep(time.Minute)
				f.mu.Lock()
				tt.cause(n, f)
				f.mu.Unlock()
				time.Sleep(tt.after + time.Minute)
				if got := l.heard(); !strings.Contains(got, tt.want) {
					t.Errorf("sent %q, want %q", got, tt.want)
				}
			})
		})
	}
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
