package consensus_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/brittle"
	"github.com/holdfast-mesh/holdfast/consensus/consensustest"
	"github.com/holdfast-mesh/holdfast/mesh/meshtest"
)

// The same on real files, in virtual time: reboots, a snapshot, a recovery.
func TestGroupOnDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2)
		for _, n := range c.nodes {
			n.change = func(cfg *consensus.Config) {
				cfg.Stores, cfg.Dir = nil, filepath.Join(dir, n.name)
				if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.start()
		defer c.end()
		c.form(1)
		for i := range 30 {
			if err := c.nodes[i%2].submit(fmt.Sprint("command ", i)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		for range 3 {
			c.end()
			c.nodes[1].start() // alone, and no voter
			time.Sleep(time.Second)
			if got := len(c.nodes[1].machine.items()); got != 30 {
				t.Fatalf("after a reboot alone there are %d commands", got)
			}
			c.nodes[0].start()
			time.Sleep(time.Minute)
		}
		c.nodes[0].end()
		time.Sleep(time.Minute)
		if err := c.nodes[1].group.Recover(t.Context(), []byte("incarnation 2")); err != nil {
			t.Fatal(err)
		}
		c.nodes[1].roster.add("incarnation 2 b")
		if err := c.nodes[1].submit("after"); err != nil {
			t.Fatal(err)
		}
		c.nodes[0].roster.add("incarnation 2 b") // as its guard has learned
		c.nodes[0].start()
		time.Sleep(2 * time.Minute)
		c.agree()
		if _, err := os.Stat(filepath.Join(dir, "a", "raft.orphan-1", "log.db")); err != nil {
			t.Errorf("the old state was not put away: %v", err)
		}
	})
}

// A leader that lacks what was agreed on has it taken back. The node that had it
// kept what it had done, and its ledger differed from then on, without a word: seen
// when a voter that had lost its log voted for one that had been cut off.
func TestLeaderTakesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 3)
		var taken []string
		for _, n := range c.nodes {
			n.change = func(cfg *consensus.Config) {
				cfg.Takes = func(e *brittle.TakenBackError, label string) error {
					if taken = append(taken, n.name); n.machine.Applied() < e.From || e.To < e.From || label != fmt.Sprintf("1-entry-%d", e.From) {
						t.Errorf("%s: %v, with %d applied, is put away as %s", n.name, e, n.machine.Applied(), label)
					}
					return nil
				}
			}
		}
		c.start()
		defer c.end()
		first := c.form(3)
		i := slices.Index(c.nodes, first)
		loses, lacks := c.nodes[(i+1)%3], c.nodes[(i+2)%3]
		if err := first.submit("before"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		c.net.Split([]string{lacks.name}, []string{first.name, loses.name})
		if err := first.submit("acknowledged"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		first.crash()
		loses.crash()
		loses.disk = consensustest.NewDisk()
		c.net.Heal()
		loses.start()
		if l := c.leader(); l != lacks {
			t.Fatalf("%s leads, not %s", l.name, lacks.name)
		}
		if err := lacks.submit("instead"); err != nil {
			t.Fatal(err)
		}
		first.start()
		time.Sleep(2 * time.Minute)
		if !slices.Equal(taken, []string{first.name}) {
			t.Errorf("%v had something taken back, not only %s", taken, first.name)
		}
		c.agree()
		if err := first.submit("after"); err != nil {
			t.Error(err)
		}
		c.agree()
		if got := fmt.Sprint(lacks.machine.items()); got != "[before instead after]" {
			t.Errorf("the ledger is %s", got)
		}
	})
}

// The founder was put back to when it was alone, and led itself in a term in which
// it had led before: Raft takes an entry that it makes then for that of the others
// at the same place, so that it has to put all away first. Seen with real daemons.
func TestFounderPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 3)
		founder, others := c.nodes[0], c.nodes[1:]
		alone := func() *consensustest.Disk { // what it is after its first start
			n := &node{name: founder.name, site: founder.site, c: &cluster{t: t, net: meshtest.New(9)}, disk: consensustest.NewDisk(), roster: newRoster("+a")}
			n.start()
			for n.submit("old") != nil {
				time.Sleep(time.Second)
			}
			n.end()
			return n.disk
		}
		image := alone()
		founder.disk = alone() // the same
		founder.start()
		for _, n := range others {
			n.start()
		}
		defer c.end()
		c.form(3)
		if err := founder.submit("together"); err != nil {
			t.Fatal(err)
		}
		founder.end()
		founder.disk = image
		takes := 0
		founder.change = func(cfg *consensus.Config) {
			cfg.Takes = func(e *brittle.TakenBackError, _ string) error {
				if takes++; e.From != 0 || e.To == 0 {
					t.Errorf("%v", e)
				}
				return nil
			}
		}
		c.net.Split([]string{"a"}, []string{"b", "c"})
		founder.start()
		if err := founder.submit("alone"); err != nil {
			t.Fatal(err)
		}
		if err := founder.group.BeginAnew(t.Context()); err != nil || takes != 1 {
			t.Fatal(err, takes)
		}
		if err := founder.group.BeginAnew(t.Context()); err != nil || takes != 1 {
			t.Errorf("the second time: %v, %d", err, takes)
		}
		c.net.Heal()
		time.Sleep(2 * time.Minute)
		c.agree()
		if err := founder.submit("after"); err != nil {
			t.Error(err)
		}
		c.agree()
		if got := fmt.Sprint(founder.machine.items()); got != "[old together after]" {
			t.Errorf("the ledger is %s", got)
		}
	})
}

// The directory of a node is removed while it runs: it takes part in nothing any more, says
// why, and makes no new directory, which would be that of a node without a key.
func TestDirectoryRemoved(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 3)
		for _, n := range c.nodes {
			n.change = func(cfg *consensus.Config) {
				cfg.Stores, cfg.Dir = nil, filepath.Join(dir, n.name)
				if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
					t.Fatal(err)
				}
				cfg.Lost = func() error { // as the cluster of the node does, by its own files
					_, err := os.Stat(filepath.Join(cfg.Dir, "key"))
					return err
				}
				if err := os.WriteFile(filepath.Join(cfg.Dir, "key"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.start()
		defer c.end()
		leader := c.form(3)
		other := c.nodes[0]
		if other == leader {
			other = c.nodes[1]
		}
		if err := os.RemoveAll(filepath.Join(dir, other.name)); err != nil {
			t.Fatal(err)
		}
		if err := leader.submit("after"); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(time.Minute)
			if s := other.group.Status(); s.Stopped == nil || s.Role != "stopped" {
				t.Errorf("%+v", s)
			}
			if _, err := os.Stat(filepath.Join(dir, other.name, "raft", "log.db")); err == nil {
				t.Error("it has made a new log")
			}
		}
	})
}
