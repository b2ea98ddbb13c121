package consensus_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
)

// crowd is a cluster of which all nodes know each other.
func crowd(t *testing.T, n int) *cluster {
	c := newCluster(t, 1, n)
	c.net.Slow(80*time.Millisecond, 0.2, 0.01)
	nodes := func() (all []string) {
		for _, x := range c.nodes {
			all = append(all, x.name)
		}
		return all
	}
	for _, x := range c.nodes {
		x.change = func(cfg *consensus.Config) { cfg.Nodes = nodes }
	}
	return c
}

// showing waits until nodes show a command and know who leads.
func showing(t *testing.T, limit time.Duration, command string, nodes ...*node) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		missing := slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool {
			return slices.Contains(n.machine.items(), command) && n.group.Status().Leader != ""
		})
		if len(missing) == 0 {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			t.Fatalf("%q is not at %d of %d nodes after %v: %q is %+v", command, len(missing), len(nodes), limit, missing[0].name, missing[0].group.Status())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// followers are the nodes for which the group has no room.
func (c *cluster) followers() []*node {
	s := c.leader().group.Status()
	return slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool {
		return slices.Contains(s.Voters, n.name) || slices.Contains(s.Standbys, n.name)
	})
}

// Nine nodes are in the group; fifty show what it agrees on within seconds, can
// change it, and do so again after the halves of a split network have met. An
// idle follower costs next to nothing.
func TestFiftyNodesFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := crowd(t, 50)
		c.start()
		defer c.end()
		leader := c.leader()
		if err := leader.submit("first"); err != nil {
			t.Fatal(err)
		}
		t.Logf("all show the first command after %v", showing(t, 30*time.Second, "first", c.nodes...))
		time.Sleep(2 * time.Minute) // places are taken
		rest := c.followers()
		if len(rest) != 41 {
			t.Fatalf("%d of 50 nodes follow", len(rest))
		}
		if err := rest[0].submit("from a follower"); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(rest[0].machine.items(), "from a follower") {
			t.Error("a follower does not show what it submitted")
		}
		took := showing(t, 10*time.Second, "from a follower", c.nodes...)
		before := c.net.Traffic(rest[1].name)
		time.Sleep(10 * time.Minute)
		idle := (c.net.Traffic(rest[1].name) - before) / 600
		t.Logf("all show a command after %v; an idle follower sends and receives %d B/s", took, idle)
		if idle > 400 {
			t.Errorf("an idle follower costs %d B/s", idle)
		}

		var left, right []string
		for i, n := range c.nodes {
			if i%2 == 0 {
				left = append(left, n.name)
			} else {
				right = append(right, n.name)
			}
		}
		c.net.Split(left, right)
		time.Sleep(time.Minute)
		c.net.Heal()
		time.Sleep(time.Second)
		if err := c.leader().submit("after the split"); err != nil {
			t.Fatal(err)
		}
		t.Logf("all show a command %v after the halves have met", showing(t, 30*time.Second, "after the split", c.nodes...))
		c.agree()
	})
}

// A follower that reboots alone has its state, all that was acknowledged: it once forgot
// what had come since its state was stored, up to a minute, such as a datastore of its own,
// and refused its backups. One that was away for long is
// given a snapshot; one that gets a place in the group goes on with what it has.
func TestFollowerRebootsAndRises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := crowd(t, 10)
		c.start()
		defer c.end()
		leader := c.leader()
		time.Sleep(3 * time.Minute)
		rest := c.followers()
		if len(rest) != 1 {
			t.Fatalf("%d nodes follow", len(rest))
		}
		f := rest[0]
		if err := f.submit("kept"); err != nil {
			t.Fatal(err)
		}
		f.crash()
		for i := range 1000 { // far more than a follower is given one by one
			if err := leader.submit(fmt.Sprint("command ", i)); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range c.nodes {
			if n != f {
				c.net.Cut(f.name, n.name)
				c.net.Cut(n.name, f.name)
			}
		}
		f.start()
		time.Sleep(time.Minute)
		if !slices.Contains(f.machine.items(), "kept") {
			t.Errorf("it rebooted alone and has %q", f.machine.items())
		}
		c.net.Heal()
		showing(t, time.Minute, "command 999", f)
		c.agree()

		s := leader.group.Status() // a standby leaves for good
		i := slices.IndexFunc(c.nodes, func(n *node) bool { return slices.Contains(s.Standbys, n.name) })
		c.nodes[i].end()
		c.nodes = slices.Delete(c.nodes, i, i+1)
		time.Sleep(3 * time.Minute)
		if left := c.followers(); len(left) != 0 {
			t.Fatalf("%q has no place yet", left[0].name)
		}
		if err := f.submit("from a standby"); err != nil {
			t.Fatal(err)
		}
		showing(t, 10*time.Second, "from a standby", c.nodes...)
		c.agree()
		if got := len(f.machine.items()); got != 1002 {
			t.Errorf("it has %d commands, want each once: 1002", got)
		}
		f.crash()
		f.start()
		showing(t, time.Minute, "from a standby", f)
		c.agree()
	})
}

// A follower that has outlived the whole group can go on alone.
func TestFollowerOutlivesTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := crowd(t, 10)
		c.start()
		defer c.end()
		if err := c.leader().submit("kept"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		f := c.followers()[0]
		showing(t, time.Minute, "kept", f)
		for _, n := range c.nodes {
			if n != f {
				n.crash()
			}
		}
		time.Sleep(time.Minute)
		f.roster.add("incarnation 2 " + f.name)
		if err := f.group.Recover(t.Context(), []byte("incarnation 2")); err != nil {
			t.Fatal(err)
		}
		for range 600 {
			if f.group.Status().Role == "leader" {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if err := f.submit("alone"); err != nil || !slices.Contains(f.machine.items(), "kept") {
			t.Errorf("%v, it has %q", err, f.machine.items())
		}
	})
}
