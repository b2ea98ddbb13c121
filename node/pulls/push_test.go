package pulls_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/node/pulls"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication/rate"
)

// Each run of two pushes that get in each other's way warns of the other; of those
// that do not, none does (features row 62).
func TestTwoPushesOfOneUser(t *testing.T) {
	t.Parallel()
	home := newMesh().node(t, "home", func(_ *node, c *pulls.Config) {
		c.Push = func(context.Context, *jobs.Task, settings.SyncJob, func(time.Time) rate.Limit) error { return nil }
	})
	err := home.Settings.Update(t.Context(), func(s *settings.State) error {
		s.Remotes = []settings.Remote{
			{Name: "office", Host: "pbs.example.org", AuthID: "push@pbs"},
			{Name: "same", Host: "PBS.example.org", Port: 8007, AuthID: "push@pbs"},
			{Name: "other", Host: "pbs.example.org", AuthID: "other@pbs"},
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	push := func(id, remote, store, ns string) settings.SyncJob {
		j := settings.SyncJob{ID: id, Store: "main", Remote: remote, RemoteStore: store, SyncDirection: "push"}
		if err := j.RemoteNS.UnmarshalText([]byte(ns)); err != nil {
			t.Fatal(err)
		}
		return j
	}
	home.set(push("one", "office", "main", "a"))
	for _, tt := range []struct {
		name  string
		job   settings.SyncJob
		warns bool
	}{
		{"the same place", push("two", "office", "main", "a"), true},
		{"the same user, by another remote", push("two", "same", "main", "a"), true},
		{"a namespace below", push("two", "office", "main", "a/b"), true},
		{"the root, which has it in it", push("two", "office", "main", ""), true},
		{"a namespace beside", push("two", "office", "main", "ab"), false},
		{"another datastore", push("two", "office", "more", "a"), false},
		{"another user", push("two", "other", "main", "a"), false},
	} {
		home.set(tt.job)
		log, state := home.do("one")
		if warns := strings.Contains(log, "job 'two' pushes to the same datastore as the same user"); warns != tt.warns || strings.HasPrefix(state, "WARNINGS") != tt.warns {
			t.Errorf("%s: it warns: %v, and ended as %s", tt.name, warns, state)
		}
	}
}

// What a pull did is kept with its runs.
func TestFiguresOfAPull(t *testing.T) {
	t.Parallel()
	m := newMesh()
	home, dc := m.node(t, "home"), m.node(t, "dc")
	home.back(1000, "vm/100/1", "vm/101/1")
	dc.set(settings.SyncJob{ID: "copy", Store: "main", Remote: "home", RemoteStore: "main"})
	for range 2 {
		if log, state := dc.do("copy"); state != "OK" {
			t.Fatalf("%s\n%s", state, log)
		}
	}
	until(t, "both runs are noted", func() bool { return len(dc.Scheduler.History("syncjob:copy")) == 2 })
	all := dc.Scheduler.History("syncjob:copy")
	first, second := all[0], all[1]
	if s := first.Stats; s["snapshots"] != 2 || s["chunks"] != 2 || s["bytes"] < 2000 || s["failed"] != 0 || first.State != "OK" {
		t.Errorf("the first: %+v", first)
	}
	if s := second.Stats; s["snapshots"] != 0 || s["chunks"] != 0 || s["bytes"] != 0 || len(s) != 3 {
		t.Errorf("the second, with nothing new: %+v", second)
	}
}
