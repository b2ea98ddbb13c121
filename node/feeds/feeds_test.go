package feeds

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/mesh/feed"
	"github.com/holdfast-mesh/holdfast/mesh/gossip"
	"github.com/holdfast-mesh/holdfast/mesh/meshtest"
)

// A site is what a node holds, in memory.
type site struct {
	mu    sync.Mutex
	all   map[string][]catalog.Info // newest first
	state map[string]string
	ended []jobs.Info
	trash map[string][]catalog.Trashed
}

func (s *site) Removed(store string) ([]catalog.Trashed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trash[store], nil
}

func newSite() *site {
	return &site{all: map[string][]catalog.Info{"main": nil}, state: map[string]string{}}
}

func (s *site) Stores() (all []facts.Kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.all)) {
		all = append(all, facts.Kept{Store: name, Size: 1000, Free: 500, State: s.state[name]})
	}
	return all
}

func (s *site) List(_ context.Context, store string, only *Group) (all []catalog.Info, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state[store] != "" {
		return nil, errors.New("offline")
	}
	for _, i := range s.all[store] {
		if only == nil || *only == (Group{i.Namespace, i.Snapshot().Group}) {
			all = append(all, i)
		}
	}
	return all, nil
}

func (s *site) Sum(_ string, i catalog.Info) ([32]byte, error) {
	return sha256.Sum256(fmt.Append(nil, i.Snapshot(), *i.Size)), nil
}

func (s *site) Ended() []jobs.Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ended)
}

func (s *site) add(store, id string, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[store] = append([]catalog.Info{info(id, at, 7, "")}, s.all[store]...)
}

func info(id string, at int64, size uint64, verified string) catalog.Info {
	i := catalog.Info{Type: "vm", ID: id, Time: at, Size: &size}
	if verified != "" {
		u, _ := jobs.NewUPID("a", "verify", "main", "root@pam", time.Unix(at, 0))
		i.Verification = &manifest.VerifyState{State: manifest.VerifyState{State: verified}.State, UPID: u.String()}
	}
	return i
}

func group(id string) facts.Group { return facts.Group{Type: "vm", ID: id} }

// What has to be said is what is and was not said.
func TestDiff(t *testing.T) {
	n := func(at int64) facts.Snapshot { return facts.Snapshot{Store: "main", Group: group("1"), Time: at} }
	held := func(c ...facts.Copy) []facts.Held { return []facts.Held{{Store: "main", Group: group("1"), Copies: c}} }
	unfinished := catalog.Info{Type: "vm", ID: "1", Time: 5}
	for _, tt := range []struct {
		name   string
		said   []facts.Held
		listed []catalog.Info
		want   []facts.Fact
	}{
		{"nothing is, nothing was said", nil, nil, nil},
		{"a backup", nil, []catalog.Info{info("1", 10, 7, "")}, []facts.Fact{facts.Added{Snapshot: n(10), Size: 7}}},
		{"one that is not finished", nil, []catalog.Info{unfinished}, nil},
		{"it was said", held(facts.Copy{Time: 10, Size: 7}), []catalog.Info{info("1", 10, 7, "")}, nil},
		{"verified since", held(facts.Copy{Time: 10, Size: 7}), []catalog.Info{info("1", 10, 7, "ok")}, []facts.Fact{facts.Verified{Snapshot: n(10), OK: true}}},
		{"that was said", held(facts.Copy{Time: 10, Size: 7, Verified: 20}), []catalog.Info{info("1", 10, 7, "ok")}, nil},
		{"verified again", held(facts.Copy{Time: 10, Size: 7, Verified: 5}), []catalog.Info{info("1", 10, 7, "ok")}, []facts.Fact{facts.Verified{Snapshot: n(10), OK: true}}},
		{"damaged by now", held(facts.Copy{Time: 10, Size: 7, Verified: 20}), []catalog.Info{info("1", 10, 7, "failed")}, []facts.Fact{facts.Verified{Snapshot: n(10)}}},
		{"mended", held(facts.Copy{Time: 10, Size: 7, Verified: 20, Damaged: true}), []catalog.Info{info("1", 10, 7, "ok")}, []facts.Fact{facts.Verified{Snapshot: n(10), OK: true}}},
		{"made anew, and never verified", held(facts.Copy{Time: 10, Size: 7, Verified: 20}), []catalog.Info{info("1", 10, 7, "")}, []facts.Fact{facts.Added{Snapshot: n(10), Size: 7}}},
		{"made anew, and another size", held(facts.Copy{Time: 10, Size: 7}), []catalog.Info{info("1", 10, 8, "")}, []facts.Fact{facts.Added{Snapshot: n(10), Size: 8}}},
		{"removed on purpose", held(facts.Copy{Time: 11, Size: 7, Added: 99}), nil, []facts.Fact{facts.Pruned{Snapshot: n(11), Why: removedOnPurpose}}},
		{"removed once, had again, and lost", held(facts.Copy{Time: 12, Size: 7, Added: 101}), nil, []facts.Fact{facts.Pruned{Snapshot: n(12)}}},
		{"gone, and a new one", held(facts.Copy{Time: 10, Size: 7}), []catalog.Info{info("1", 20, 7, "ok")},
			[]facts.Fact{facts.Added{Snapshot: n(20), Size: 7}, facts.Verified{Snapshot: n(20), OK: true}, facts.Pruned{Snapshot: n(10)}}},
	} {
		got, err := diff("main", tt.said, tt.listed, func(n facts.Snapshot, i catalog.Info) (facts.Added, error) {
			return facts.Added{Snapshot: n, Size: *i.Size}, nil
		}, func() (map[snapshot]time.Time, error) {
			return map[snapshot]time.Time{{"main", group("1"), 11}: time.Unix(100, 0), {"main", group("1"), 12}: time.Unix(100, 0), {"main", group("1"), 20}: time.Unix(100, 0)}, nil
		})
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}

func TestDiffStores(t *testing.T) {
	was := []facts.StoreView{{Kept: facts.Kept{Store: "main", Size: 1000, Free: 500}}}
	for _, tt := range []struct {
		name string
		is   []facts.Kept
		want []facts.Fact
	}{
		{"as it was", []facts.Kept{was[0].Kept}, nil},
		{"a little less room", []facts.Kept{{Store: "main", Size: 1000, Free: 491}}, nil},
		{"less room", []facts.Kept{{Store: "main", Size: 1000, Free: 489}}, []facts.Fact{facts.Kept{Store: "main", Size: 1000, Free: 489}}},
		{"damage", []facts.Kept{{Store: "main", Size: 1000, Free: 500, Damaged: 1}}, []facts.Fact{facts.Kept{Store: "main", Size: 1000, Free: 500, Damaged: 1}}},
		{"another", []facts.Kept{{Store: "cold"}}, []facts.Fact{facts.Kept{Store: "cold"}, facts.Dropped{Store: "main"}}},
	} {
		if got := diffStores(was, tt.is); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// After a crash, the last run of each kind that was not said is said.
func TestNewestRuns(t *testing.T) {
	task := func(typ, id string, n int, state jobs.State) jobs.Info {
		return jobs.Info{UPID: jobs.UPID{Node: "a", TaskID: uint64(n), Type: typ, ID: id, AuthID: "root@pam"}, State: state}
	}
	tasks := []jobs.Info{task("prune", "main", 5, jobs.Running), task("verify", "main", 4, jobs.Failed), task("backup", "vm/1", 3, jobs.OK), task("backup", "vm/1", 2, jobs.OK), task("reader", "vm/1", 1, jobs.OK)}
	got := newestRuns(map[[2]string]facts.Run{}, tasks)
	if len(got) != 2 || got[0].(facts.RunEnded).Of != "backup" || got[0].(facts.RunEnded).Run != tasks[2].UPID.String() || got[1].(facts.RunEnded).OK {
		t.Errorf("%+v", got)
	}
	said := map[[2]string]facts.Run{{"backup", "vm/1"}: {ID: tasks[2].UPID.String()}, {"verify", "main"}: {ID: tasks[1].UPID.String()}}
	if got := newestRuns(said, tasks); len(got) != 0 {
		t.Errorf("said again: %+v", got)
	}
}

// Work that goes well every minute is not news every minute; that it fails is.
func TestRuns(t *testing.T) {
	said := map[[2]string]facts.Run{{"syncjob", "x"}: {OK: true, Ended: time.Unix(1000, 0)}}
	for _, tt := range []struct {
		after time.Duration
		id    string
		state jobs.State
		said  bool
	}{{time.Minute, "x", jobs.OK, false}, {time.Minute, "x", jobs.Failed, true}, {time.Minute, "y", jobs.OK, true}, {restEvery, "x", jobs.OK, true}} {
		i := jobs.Info{UPID: jobs.UPID{Node: "a", Type: "syncjob", ID: tt.id, AuthID: "root@pam"}, State: tt.state, End: time.Unix(1000, 0).Add(tt.after)}
		if got := len(runs(said, []jobs.Info{i})) == 1; got != tt.said {
			t.Errorf("%+v: said is %v", tt, got)
		}
	}
}

// A crowd is nodes that talk, in virtual time.
type crowd struct {
	t      *testing.T
	net    *meshtest.Network
	nodes  []*node
	ledger *ledger
}

type node struct {
	*Feeds
	name string
	key  ed25519.PrivateKey
	site *site
	file string
	talk *gossip.Gossip
	end  func()
	stop func()
	news []string
	back bool // it was told that its disk went back

	lost atomic.Bool // it does not know what it has
}

// alarms are what a node says that people have to look at. Seen only at the node
// itself, it was overlooked.
func (x *node) alarms() []facts.Alarm {
	if !x.back {
		return nil
	}
	return []facts.Alarm{{Key: "restored", Text: "its disk went back", Since: 1}}
}

// A ledger is one for all.
type ledger struct {
	mu  sync.Mutex
	all map[feed.Origin]feed.Head
}

func (l *ledger) Checkpoints() map[feed.Origin]feed.Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.all)
}

func (l *ledger) Checkpoint(_ context.Context, key ed25519.PrivateKey, h feed.Head) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := feed.OriginOf(key)
	if h.Before(l.all[o]) {
		return errors.New("a later one is there")
	}
	l.all[o] = h
	return nil
}

// memoryDir is a directory in memory where there is one: fifty nodes on one disk
// wait for it most of the time.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "holdfast")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newCrowd(t *testing.T, n int) *crowd {
	c := &crowd{t: t, net: meshtest.New(1), ledger: &ledger{all: map[feed.Origin]feed.Head{}}}
	c.net.Slow(80*time.Millisecond, 0.2, 0.01)
	dir := memoryDir(t)
	for i := range n {
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, 32))
		x := &node{key: key, name: NodeID(feed.OriginOf(key)), site: newSite(), file: filepath.Join(dir, fmt.Sprint(i))}
		c.nodes = append(c.nodes, x)
	}
	return c
}

func (c *crowd) members() (all []gossip.Member) {
	for _, x := range c.nodes {
		all = append(all, gossip.Member{Node: x.name, Key: x.key.Public().(ed25519.PublicKey)})
	}
	return all
}

func (c *crowd) start(nodes ...*node) {
	c.t.Helper()
	for _, x := range nodes {
		var err error
		net := c.net.Node(x.name)
		if x.talk, err = gossip.New(gossip.Config{Self: x.name, Key: x.key, Network: net, Members: c.members()}); err != nil {
			c.t.Fatal(err)
		}
		x.Feeds, err = New(Config{
			File: x.file, Key: x.key, Network: net, Gossip: x.talk, Ledger: c.ledger, Heard: func(back bool) { x.back = x.back || back }, Alarms: x.alarms, Unknown: x.lost.Load, Company: func() bool { return len(c.nodes) > 1 },
			Member: func(id string) bool {
				return slices.ContainsFunc(c.nodes, func(y *node) bool { return y.name == id })
			},
		})
		if err != nil {
			c.t.Fatal(err)
		}
		x.Attach(x.site)
		x.OnNews(func(node, store string) { x.news = append(x.news, node) })
		ctx, cancel := context.WithCancel(context.Background())
		var g errgroup.Group
		feeds, talk := x.Feeds, x.talk
		g.Go(func() error { return talk.Run(ctx) })
		g.Go(func() error { return feeds.Exchange(ctx) })
		g.Go(func() error { return feeds.Run(ctx) })
		x.end = cancel
		x.stop = sync.OnceFunc(func() {
			cancel()
			if err := errors.Join(g.Wait(), feeds.Close()); err != nil {
				c.t.Error(err)
			}
			time.Sleep(time.Minute) // memberlist's timers
		})
		c.t.Cleanup(x.stop)
	}
	c.t.Cleanup(func() { // all at once: a minute of virtual time with fifty nodes is a second
		for _, x := range nodes {
			x.end()
		}
	})
}

// within waits until ok, in virtual time, and returns how long that took.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for ; !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > limit {
			t.Fatalf("%s: not after %v", what, limit)
		}
	}
	return time.Since(began)
}

// know tells whether all of some nodes know as many snapshots of all of others.
func know(nodes, of []*node, n int) bool {
	for _, x := range nodes {
		all := x.Nodes()
		for _, y := range of {
			if all[y.name].Snapshots != n {
				return false
			}
		}
	}
	return true
}

// What one node takes, all know within seconds, and its disk tells it after a
// crash what it had not said.
func TestAllKnowWhatOneHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3)
		a, b := c.nodes[0], c.nodes[1]
		a.site.add("main", "1", 10)
		c.start(c.nodes...)
		within(t, 30*time.Second, "all know what was there before", func() bool { return know(c.nodes, c.nodes[:1], 1) })
		a.site.add("main", "1", 20)
		a.Changed("main", "", catalog.Group{Type: "vm", ID: "1"})
		took := within(t, 5*time.Second, "all know what has come", func() bool { return know(c.nodes, c.nodes[:1], 2) })
		t.Logf("all know a new snapshot after %v", took)
		if !slices.Contains(b.news, a.name) {
			t.Errorf("nobody was told: %q", b.news)
		}
		if h := b.Snapshots(a.name, "main"); len(h) != 1 || len(h[0].Copies) != 2 || h[0].Copies[1].Manifest == [32]byte{} {
			t.Errorf("%+v", h)
		}

		a.stop() // and something comes and goes that it does not say
		a.site.mu.Lock()
		a.site.all["main"] = a.site.all["main"][:1]
		a.site.mu.Unlock()
		a.site.add("main", "1", 30)
		a.site.add("main", "1", 40)
		c.start(a)
		within(t, 30*time.Second, "all know what was not said", func() bool { return know(c.nodes, c.nodes[:1], 3) })
		if w := b.Warnings(); len(w) != 0 {
			t.Errorf("%+v", w)
		}

		// What cannot be read is not gone.
		a.site.mu.Lock()
		a.site.state["main"] = "offline"
		a.site.mu.Unlock()
		within(t, time.Minute, "all know that the datastore is offline", func() bool {
			s := b.Stores(a.name)
			return len(s) == 1 && s[0].State == "offline" && s[0].Snapshots == 3
		})
		a.site.mu.Lock()
		delete(a.site.all, "main")
		a.site.mu.Unlock()
		within(t, time.Minute, "all know that it was removed", func() bool { return know(c.nodes, c.nodes[:1], 0) && len(b.Stores(a.name)) == 0 })
	})
}

// A machine that is started from an old image learns from the others that it
// was further, before it says anything: it begins a new epoch, all believe it,
// and it says so.
func TestOldImage(t *testing.T) {
	for _, only := range []string{"members", "the ledger"} {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, 3)
			a, b := c.nodes[0], c.nodes[1]
			a.site.add("main", "1", 10)
			c.start(c.nodes...)
			within(t, 30*time.Second, "all know the first", func() bool { return know(c.nodes, c.nodes[:1], 1) })
			a.stop()
			image, err := os.ReadFile(a.file)
			if err != nil {
				t.Fatal(err)
			}
			c.start(a)
			a.site.add("main", "1", 20)
			a.site.add("main", "2", 20)
			a.Changed("main", "", catalog.Group{Type: "vm", ID: "1"})
			a.Changed("main", "", catalog.Group{Type: "vm", ID: "2"})
			within(t, 30*time.Second, "all know three", func() bool { return know(c.nodes, c.nodes[:1], 3) })
			time.Sleep(2 * time.Hour) // there is a checkpoint
			a.stop()
			if only == "the ledger" { // others have lost their feeds
				for _, x := range c.nodes[1:] {
					x.stop()
					os.Remove(x.file)
				}
			}
			if err := os.WriteFile(a.file, image, 0o600); err != nil {
				t.Fatal(err)
			}
			a.site.mu.Lock() // the datastore went back, too
			a.site.all["main"] = a.site.all["main"][2:]
			a.site.mu.Unlock()
			a.site.add("main", "1", 50)
			if only == "the ledger" {
				c.start(c.nodes...)
			} else {
				c.start(a)
			}
			within(t, 3*time.Minute, "it knows that it went back", func() bool { return a.back })
			within(t, time.Minute, only+": another node shows it", func() bool {
				said := b.Nodes()[a.nodeID(a.self)].Alarms
				return len(said) == 1 && said[0].Text == "its disk went back"
			})
			within(t, time.Minute, only+": all know what it holds", func() bool {
				return know(c.nodes, c.nodes[:1], 2) && b.exchange.Heads()[a.self].Epoch == 2
			})
			if !a.back || b.back && only == "members" { // else all went back
				t.Errorf("%s: that it went back is told at it: %t, at another: %t", only, a.back, b.back)
			}
			for _, x := range c.nodes {
				if n := len(x.exchange.Forks()); n != 0 {
					t.Errorf("%s was taken for a liar", only)
				}
			}
		})
	}
}

// A node that does not know what it has, since its ledger is that of a later version,
// does not say that it has nothing. (It told all that its datastores were gone.)
func TestSilentWhereNothingIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 2)
		a := c.nodes[0]
		a.site.add("main", "1", 10)
		c.start(c.nodes...)
		within(t, time.Minute, "the other knows", func() bool { return know(c.nodes, c.nodes[:1], 1) })
		a.lost.Store(true)
		a.site.mu.Lock()
		a.site.all = nil
		a.site.mu.Unlock()
		a.everything()
		time.Sleep(2 * time.Hour)
		if !know(c.nodes, c.nodes[:1], 1) {
			t.Error("it says that it has nothing")
		}
	})
}

// A node that has company and meets nobody says nothing, and nothing is lost.
func TestSilentUntilItHasHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 2)
		a, b := c.nodes[0], c.nodes[1]
		a.site.add("main", "1", 10)
		c.start(a)
		time.Sleep(time.Hour)
		if h := a.exchange.Heads()[a.self]; h.Seq != 0 {
			t.Fatalf("it speaks before it has heard anybody: %+v", h)
		}
		// Its own status did not show what was backed up since it was rebooted alone.
		a.site.add("main", "1", 20)
		a.everything()
		within(t, time.Minute, "it knows what it holds", func() bool { return a.Nodes()[a.nodeID(a.self)].Snapshots == 2 })
		if h := a.exchange.Heads()[a.self]; h.Seq != 0 {
			t.Fatalf("it speaks then: %+v", h)
		}
		c.start(b)
		within(t, time.Minute, "the other knows", func() bool { return know(c.nodes, c.nodes[:1], 2) })
	})
}

// A node that shows two histories is a critical warning at all others.
func TestTwoHistoriesAreAWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3)
		a := c.nodes[0]
		a.site.add("main", "1", 10)
		c.start(c.nodes...)
		within(t, 30*time.Second, "all know", func() bool { return know(c.nodes, c.nodes[:1], 1) })
		a.stop()
		os.Remove(a.file) // and somebody with its key writes another feed
		s, err := feed.Open(a.file)
		if err != nil {
			t.Fatal(err)
		}
		for range 9 {
			st, _ := facts.Encode(facts.Kept{Store: "evil"})
			if _, err := s.Append(a.key, time.Now(), st); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		c.start(a)
		for _, x := range c.nodes[1:] {
			within(t, 3*time.Minute, "it is a warning", func() bool {
				w := x.Warnings()
				return len(w) == 1 && w[0].Critical && w[0].Node == a.name && w[0].Hint != ""
			})
		}
	})
}

// Fifty nodes know all of each other within 30 s after they start, and within
// 30 s after the two halves of a split network meet again.
func TestFiftyNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 50)
		for i, x := range c.nodes {
			x.site.add("main", fmt.Sprint(i), 10)
		}
		c.start(c.nodes...)
		t.Logf("all know all %v after the start", within(t, 30*time.Second, "after the start", func() bool { return know(c.nodes, c.nodes, 1) }))
		left, right := []string{}, []string{}
		for i, x := range c.nodes {
			if i%2 == 0 {
				left = append(left, x.name)
			} else {
				right = append(right, x.name)
			}
		}
		c.net.Split(left, right)
		time.Sleep(40 * time.Second)
		for i, x := range c.nodes {
			x.site.add("main", fmt.Sprint(i), 20)
			x.Changed("main", "", catalog.Group{Type: "vm", ID: fmt.Sprint(i)})
		}
		time.Sleep(20 * time.Second)
		if know(c.nodes, c.nodes, 2) {
			t.Fatal("the network was not split")
		}
		c.net.Heal()
		t.Logf("all know all %v after the halves meet", within(t, 30*time.Second, "after the halves meet", func() bool { return know(c.nodes, c.nodes, 2) }))
	})
}
