package consensus_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
)

// After the loss of most voters one goes on, and the others cannot take the
// cluster back when they return.
func TestRecoverKeepsTheOldMajorityOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 3)
		c.start()
		defer c.end()
		leader := c.form(3)
		if err := leader.submit("before"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := c.nodes[2].group.Recover(context.Background(), []byte("incarnation 2")); err == nil || !strings.Contains(err.Error(), "leads it") {
			t.Errorf("with a quorum: %v", err)
		}
		base, others := c.nodes[2], c.nodes[:2]
		for _, n := range others {
			n.crash()
		}
		time.Sleep(time.Minute)
		if err := base.group.Recover(context.Background(), []byte("no record")); err == nil || !strings.Contains(err.Error(), "was refused") {
			t.Errorf("without a record: %v", err)
		}
		time.Sleep(time.Minute)
		if err := base.group.Recover(context.Background(), []byte("incarnation 3")); err != nil {
			t.Fatal(err)
		}
		base.roster.add("incarnation 3 c")
		if err := base.submit("after"); err != nil {
			t.Fatal(err)
		}
		for _, n := range others { // with their own history, which may have gone on
			n.start()
		}
		time.Sleep(5 * time.Minute)
		for _, n := range others {
			s := n.group.Status()
			if s.Rejoins == 0 || s.Incarnation != 3 || s.Leader != "c" {
				t.Errorf("%s: %+v", n.name, s)
			}
		}
		if err := others[0].submit("again together"); err != nil {
			t.Error(err)
		}
		c.agree()
		got := strings.Join(base.machine.items(), ", ")
		if got != "before, after, again together" {
			t.Errorf("the ledger is %q", got)
		}
		base.crash() // what was recovered survives a reboot
		base.start()
		time.Sleep(time.Minute)
		c.agree()
	})
}

// The base dies when the record of the recovery is out and nothing of it is on its disk.
// All others stop when they hear of the record; it once finished the recovery only when
// somebody asked it to again, and no node had the ledger of now until then.
func TestARecoveryThatWasCutShortIsFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 3)
		base := c.nodes[2]
		base.change = func(cfg *consensus.Config) {
			cfg.Resume = func() [][]byte { return [][]byte{[]byte("incarnation 2")} }
		}
		c.start()
		defer c.end()
		if err := c.form(3).submit("before"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		base.crash()
		for _, n := range c.nodes {
			n.roster.add("incarnation 2 c")
		}
		time.Sleep(time.Minute)
		if err := c.nodes[0].submit("of an incarnation that has ended"); err == nil {
			t.Error("the others go on")
		}
		base.start()
		time.Sleep(time.Minute)
		for _, n := range c.nodes {
			if s := n.group.Status(); s.Incarnation != 2 || s.Leader != "c" || s.Stopped != nil {
				t.Errorf("%s: %+v", n.name, s)
			}
		}
		if err := c.nodes[0].submit("of now"); err != nil {
			t.Error(err)
		}
		c.agree()
		if got := strings.Join(base.machine.items(), ", "); got != "before, of now" {
			t.Errorf("the ledger is %q", got)
		}
		base.crash() // and once only
		base.start()
		time.Sleep(time.Minute)
		c.agree()
	})
}

// The old majority went on without the base: it may not change what is new, and each
// of its nodes is told before it forgets what only they had. Once nobody was.
func TestOldMajorityGoesOnAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 5, 3)
		ended := map[string]string{}
		var lock sync.Mutex
		for _, n := range c.nodes {
			n.change = func(cfg *consensus.Config) {
				cfg.Ends = func(label string) {
					lock.Lock()
					defer lock.Unlock()
					ended[n.name] = label + ": " + strings.Join(n.machine.items(), ", ")
				}
			}
		}
		c.start()
		defer c.end()
		leader := c.form(3)
		if err := leader.submit("before"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		base, others := c.nodes[2], c.nodes[:2]
		c.net.Split([]string{"c"}, []string{"a", "b"})
		time.Sleep(time.Minute)
		if err := others[0].submit("of the old majority"); err != nil {
			t.Fatal(err)
		}
		if err := base.group.Recover(context.Background(), []byte("signed before"), []byte("incarnation 2")); err != nil {
			t.Fatal(err)
		}
		base.roster.add("incarnation 2 c")
		if err := base.submit("of the new incarnation"); err != nil {
			t.Fatal(err)
		}
		c.net.Heal()
		time.Sleep(5 * time.Minute)
		c.agree()
		if got := strings.Join(base.machine.items(), ", "); got != "before, signed before, of the new incarnation" {
			t.Errorf("the ledger is %q", got)
		}
		lock.Lock()
		defer lock.Unlock()
		const had = "1: before, of the old majority"
		if want := map[string]string{"a": had, "b": had}; !maps.Equal(ended, want) {
			t.Errorf("the ends are %v, want %v", ended, want)
		}
	})
}

// An old majority hears of a recovery from somebody who has nothing of it, while the node
// that it began with is away: it keeps what it knows, since nobody could give it the
// ledger of now. It once put its own away, and knew no accounts and no datastores.
func TestOldMajorityKeepsWhatItHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 5, 3)
		c.start()
		defer c.end()
		if err := c.form(3).submit("before"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		base, others := c.nodes[2], c.nodes[:2]
		c.net.Split([]string{"c"}, []string{"a", "b"})
		time.Sleep(time.Minute)
		if err := base.group.Recover(context.Background(), []byte("incarnation 2")); err != nil {
			t.Fatal(err)
		}
		base.roster.add("incarnation 2 c")
		if err := base.submit("of now"); err != nil {
			t.Fatal(err)
		}
		base.crash()
		c.net.Heal()
		for _, n := range others {
			n.roster.add("incarnation 2 c")
		}
		for range 2 {
			time.Sleep(5 * time.Minute)
			for _, n := range others {
				if got := strings.Join(n.machine.items(), ", "); got != "before" {
					t.Errorf("%s knows %q", n.name, got)
				}
				var why *consensus.Error
				if s := n.group.Status(); s.Leader != "" || !errors.As(s.Stopped, &why) || !strings.Contains(why.Hint(), "bring a node back") {
					t.Errorf("%s: %+v", n.name, s)
				}
				n.crash() // and again after a reboot
				n.start()
			}
		}
		base.start()
		time.Sleep(5 * time.Minute)
		c.agree()
		for _, n := range others {
			if got := strings.Join(n.machine.items(), ", "); got != "before, of now" {
				t.Errorf("%s knows %q in the end", n.name, got)
			}
		}
	})
}

// All who have the ledger of the later incarnation are lost for good: the old majority
// goes on with what it kept. It once waited for ever, since only a node that runs Raft
// could be recovered.
func TestOldMajorityGoesOnWhenTheLaterOnesAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 5, 3)
		for _, n := range c.nodes {
			n.change = func(cfg *consensus.Config) { cfg.Nodes = func() []string { return []string{"a", "b", "c"} } }
		}
		c.start()
		defer c.end()
		if err := c.form(3).submit("before"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		lost, others := c.nodes[2], c.nodes[:2]
		c.net.Split([]string{"c"}, []string{"a", "b"})
		time.Sleep(time.Minute)
		if err := lost.group.Recover(context.Background(), []byte("incarnation 2")); err != nil {
			t.Fatal(err)
		}
		lost.roster.add("incarnation 2 c")
		if err := lost.submit("of now"); err != nil {
			t.Fatal(err)
		}
		lost.crash()
		c.net.Heal()
		more := others[0]
		if more.group.Status().Leader != more.name {
			more = others[1]
		}
		less := others[0]
		if less == more {
			less = others[1]
		}
		c.net.Split([]string{less.name}, []string{more.name, "c"})
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, _ = more.group.Submit(ctx, []byte("at one only"))
		cancel()
		for _, n := range others {
			n.roster.add("incarnation 2 c")
		}
		time.Sleep(10 * time.Second)
		c.net.Heal()
		time.Sleep(time.Minute)
		all, err := less.group.Survey(context.Background())
		if err != nil || len(all) != 3 {
			t.Fatalf("%+v, %v", all, err)
		}
		for _, s := range all {
			if (s.Err != nil) != (s.Node == "c") || s.Err == nil && s.Last == 0 {
				t.Errorf("the survey says %+v", s)
			}
		}
		var why *consensus.Error
		if err := less.group.Recover(context.Background(), []byte("incarnation 3")); !errors.As(err, &why) || why.Hint() != "run it on "+more.name+" instead" {
			t.Fatalf("where less is known: %v", err)
		}
		if err := more.group.Recover(context.Background(), []byte("incarnation 2"), []byte("incarnation 3")); err != nil {
			t.Fatal(err)
		}
		more.roster.add("incarnation 3 " + more.name)
		if err := more.submit("goes on"); err != nil {
			t.Fatal(err)
		}
		less.roster.add("incarnation 3 " + more.name)
		lost.start() // it was not lost, after all
		lost.roster.add("incarnation 3 " + more.name)
		time.Sleep(5 * time.Minute)
		c.agree()
		if got := strings.Join(lost.machine.items(), ", "); got != "before, at one only, goes on" {
			t.Errorf("the ledger is %q", got)
		}
	})
}

// The node that has the ledger of the later incarnation answers, and dies: who hears it
// puts its own away only when it has that ledger. It once had neither.
func TestLaterLedgerComesBeforeTheOldGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 5, 3)
		ended := make(chan bool)
		var first sync.Once
		for _, n := range c.nodes {
			n.change = func(cfg *consensus.Config) {
				cfg.Nodes = func() []string { return []string{"a", "b", "c"} }
				cfg.Ends = func(string) {
					first.Do(func() {
						c.net.Split([]string{"c"}, []string{"a", "b"})
						close(ended)
					})
				}
			}
		}
		c.start()
		defer c.end()
		if err := c.form(3).submit("before"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		base, others := c.nodes[2], c.nodes[:2]
		c.net.Split([]string{"c"}, []string{"a", "b"})
		time.Sleep(time.Minute)
		if err := base.group.Recover(context.Background(), []byte("incarnation 2")); err != nil {
			t.Fatal(err)
		}
		base.roster.add("incarnation 2 c")
		if err := base.submit("of now"); err != nil {
			t.Fatal(err)
		}
		c.net.Heal()
		for _, n := range others {
			n.roster.add("incarnation 2 c")
		}
		<-ended
		base.crash()
		for range 2 {
			time.Sleep(time.Minute)
			for _, n := range others {
				if got := strings.Join(n.machine.items(), ", "); got != "before, of now" && got != "before" {
					t.Errorf("%s knows %q", n.name, got)
				}
				n.crash() // and after a reboot
				n.start()
			}
		}
		base.start()
		c.net.Heal()
		time.Sleep(5 * time.Minute)
		c.agree()
		if err := others[0].submit("together"); err != nil {
			t.Error(err)
		}
	})
}

func TestRecoverNamesTheBetterBase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 5)
		for _, n := range c.nodes {
			n.change = func(cfg *consensus.Config) { cfg.Members = c.members }
		}
		c.start()
		defer c.end()
		leader := c.form(3)
		var follower *node
		voters := leader.group.Status().Voters
		for _, n := range c.nodes {
			if n != leader && strings.Contains(strings.Join(voters, " "), n.name) {
				follower = n
			}
		}
		c.net.Split([]string{follower.name}, without(c, follower))
		if err := leader.submit("not at the follower"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, n := range c.nodes {
			if strings.Contains(strings.Join(voters, " "), n.name) && n != follower {
				n.crash()
			}
		}
		c.net.Heal()
		time.Sleep(time.Minute) // the standbys know more than the voter that is left
		err := follower.group.Recover(context.Background(), []byte("incarnation 2"))
		var hinted interface{ Hint() string }
		if err == nil || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "run it on") {
			t.Errorf("%v", err)
		}
	})
}

// A crash between a snapshot and the removal of the log that it replaces
// leaves a log that ends before the snapshot.
func TestLogThatEndsBeforeItsSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1)
		c.start()
		for _, command := range []string{"one", "two", "three"} {
			if err := c.nodes[0].submit(command); err != nil {
				t.Fatal(err)
			}
		}
		c.end() // with a snapshot
		disk := c.nodes[0].disk
		last, _ := disk.LastIndex()
		if err := disk.DeleteRange(last, last); err != nil {
			t.Fatal(err)
		}
		c.start()
		defer c.end()
		if err := c.nodes[0].submit("four"); err != nil {
			t.Fatal(err)
		}
		if got := len(c.nodes[0].machine.items()); got != 4 {
			t.Errorf("%d commands", got)
		}
	})
}

// The roster of the base may know of the recovery before its ledger does, if a
// crash comes between. The base keeps its history all the same.
func TestRecoverCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 3)
		c.start()
		defer c.end()
		if err := c.form(3).submit("before"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, n := range c.nodes {
			n.crash()
		}
		base := c.nodes[2]
		base.roster.add("incarnation 2 c")
		base.start()
		time.Sleep(time.Minute)
		if err := base.group.Recover(context.Background(), []byte("incarnation 2")); err != nil {
			t.Fatal(err)
		}
		if err := base.submit("after"); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(base.machine.items(), ", "); got != "before, after" {
			t.Errorf("the ledger is %q", got)
		}
	})
}
