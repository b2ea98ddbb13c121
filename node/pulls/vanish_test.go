package pulls_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/mesh/feed"
	"github.com/holdfast-mesh/holdfast/node/feeds"
	"github.com/holdfast-mesh/holdfast/node/pulls"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/rate"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// A speaker is the feed of a node, which says what is in its datastores.
type speaker struct {
	*feeds.Feeds
	id string
}

func speak(t *testing.T, n *node) speaker {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := feeds.New(feeds.Config{File: filepath.Join(t.TempDir(), "feeds.db"), Key: key, Member: func(string) bool { return true }, Company: func() bool { return false }})
	if err != nil {
		t.Fatal(err)
	}
	f.Attach(feeds.Here{Set: n.Set, Tasks: n.Tasks})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		f.Close()
	})
	return speaker{f, feeds.NodeID(feed.OriginOf(key))}
}

// removed is what others learn of it.
func (s speaker) removed(node, store string, snap wire.Snapshot) (time.Time, string, bool) {
	if node != "id-home" {
		return time.Time{}, "", false
	}
	return s.Removed(s.id, store, facts.Group{Namespace: string(snap.Namespace), Type: string(snap.Group.Type), ID: snap.Group.ID}, snap.Time)
}

// says waits until the feed says that home holds so many snapshots.
func (s speaker) says(t *testing.T, n int) {
	t.Helper()
	until(t, fmt.Sprintf("the feed says that %d snapshots are held", n), func() bool {
		held := 0
		for _, h := range s.Snapshots(s.id, "main") {
			held += len(h.Copies)
		}
		return held == n
	})
}

func (n *node) lose(t *testing.T, text string, onPurpose bool) {
	t.Helper()
	d, err := n.Get("main")
	if err != nil {
		t.Fatal(err)
	}
	ns, group, at := parse(t, text)
	var s catalog.Snapshot
	if s.Group, err = naming.ParseGroup(group); err != nil {
		t.Fatal(err)
	}
	s.Time = at
	if err := d.Forget(t.Context(), ns, s); err != nil {
		t.Fatal(err)
	}
	if onPurpose {
		return
	}
	if err := d.FS.Rename(filepath.Join(d.Dir, "trash"), filepath.Join(filepath.Dir(d.Dir), "lost")); err != nil {
		t.Fatal(err)
	}
}

// What a node has removed goes at the other, too, days later, and nothing else
// does: not what the node has lost, nor what the site that has the copy wants to
// keep. The plan says so before it happens.
func TestRemoveVanished(t *testing.T) {
	t.Parallel()
	m := newMesh()
	home := m.node(t, "home")
	feed := speak(t, home)
	home.back(1000, "vm/1/1", "vm/1/2", "vm/1/3", "ct/1/1", "ct/1/2", "host/h/1", "kept:vm/2/1", "kept:vm/2/2")
	feed.Changed("main", "", catalog.Group{}) // a word that changes nothing: it is compared as a whole
	var days atomic.Int64
	dc := m.node(t, "dc", func(_ *node, c *pulls.Config) {
		c.Removed = feed.removed
		c.Now = func() time.Time { return time.Unix(1_750_000_000, 0).Add(time.Duration(days.Load()) * 24 * time.Hour) }
	})
	feed.says(t, 8)
	dc.set(settings.SyncJob{ID: "job", Store: "main", Remote: "home", RemoteStore: "main", RemoveVanished: yes()})
	dc.do("job")
	if err := dc.Settings.Update(t.Context(), func(s *settings.State) error {
		s.PruneJobs = []settings.PruneJob{{ID: "p", Store: "main", NS: "kept", Schedule: "daily", Keep: retention.Keep{Last: 2}}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	home.lose(t, "ct/1/1", false)
	for _, s := range []string{"vm/1/1", "kept:vm/2/1", "host/h/1"} {
		home.lose(t, s, true)
	}
	for _, g := range []string{"vm/1", "ct/1", "host/h"} {
		group, _ := naming.ParseGroup(g)
		feed.Changed("main", "", group)
	}
	group, _ := naming.ParseGroup("vm/2")
	feed.Changed("main", "kept", group)
	feed.says(t, 4)
	const all = "ct/1/1 ct/1/2 host/h/1 kept:vm/2/1 kept:vm/2/2 vm/1/1 vm/1/2 vm/1/3"
	for day := range 3 {
		plan, err := dc.Plan(t.Context(), "job")
		if err != nil {
			t.Fatal(err)
		}
		var why []string
		for _, f := range plan.Fates {
			why = append(why, f.Snapshot+" "+f.Keep)
		}
		text := strings.Join(why, "\n")
		for _, want := range []string{"its source has not signed that it pruned it", "the retention of this site keeps it: keep-last"} {
			if !strings.Contains(text, want) {
				t.Errorf("day %d: the plan does not say %q:\n%s", day, want, text)
			}
		}
		if waits := strings.Count(text, fmt.Sprintf("it was absent in %d complete passes", day+1)); len(plan.Fates) != 4 || waits != map[bool]int{true: 2}[day < 2] {
			t.Errorf("day %d: %d wait:\n%s", day, waits, text)
		}
		log, state := dc.do("job")
		want := all
		if day == 2 {
			want = "ct/1/1 ct/1/2 kept:vm/2/1 kept:vm/2/2 vm/1/2 vm/1/3"
		}
		if got := dc.holds(); state != "OK" || got != want {
			t.Errorf("day %d: %s, it holds %s, want %s\n%s", day, state, got, want, log)
		}
		days.Add(1)
	}
	d, _ := dc.Get("main")
	if trash, err := d.Trash(); err != nil || len(trash) != 2 {
		t.Errorf("the trash has %v, %v", trash, err)
	}
	if groups, err := d.Groups(t.Context(), ""); err != nil || len(groups) != 2 {
		t.Errorf("there are groups %v, %v", groups, err)
	}
}

// A server outside the cluster signs nothing: what it has no more goes after a
// week, never at once.
func TestRemoveVanishedOfARemote(t *testing.T) {
	t.Parallel()
	m := newMesh()
	home := m.node(t, "home")
	home.back(1000, "vm/1/1", "vm/1/2")
	var days atomic.Int64
	dc := m.node(t, "dc", func(_ *node, c *pulls.Config) {
		c.Foreign = func(remote, store string, in *rate.Bucket) (replication.Source, bool, error) {
			if remote != "pbs" {
				return nil, false, nil
			}
			_, s, err := home.First(settings.SyncJob{RemoteStore: store}, in)
			return outside{s}, true, err
		}
		c.Now = func() time.Time { return time.Unix(1_750_000_000, 0).Add(time.Duration(days.Load()) * 24 * time.Hour) }
	})
	dc.set(settings.SyncJob{ID: "job", Store: "main", Remote: "pbs", RemoteStore: "main", RemoveVanished: yes()})
	dc.do("job")
	home.lose(t, "vm/1/1", true)
	for day := range 8 {
		if got := dc.holds(); got != "vm/1/1 vm/1/2" {
			t.Errorf("day %d: it holds %s", day, got)
		}
		days.Add(1)
		if log, state := dc.do("job"); state != "OK" {
			t.Errorf("%s\n%s", state, log)
		}
	}
	if got := dc.holds(); got != "vm/1/2" {
		t.Errorf("after a week it holds %s", got)
	}
}

// outside is a source that is no node of the cluster.
type outside struct{ replication.Source }

func (o outside) Close() { o.Source.(interface{ Close() }).Close() }
