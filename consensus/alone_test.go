package consensus_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/brittle"
	"github.com/holdfast-mesh/holdfast/consensus/tail"
)

// twoSites is a voter and a standby, what the voter was told of the standby, and the
// voter's disk as it was after the command "old".
func twoSites(t *testing.T) (c *cluster, told *[]*tail.Error, put func()) {
	c = newCluster(t, 1, 2)
	told = new([]*tail.Error)
	for _, n := range c.nodes {
		n.change = func(cfg *consensus.Config) {
			cfg.Nodes = func() []string { return []string{"a", "b"} }
			cfg.Behind = func(e *tail.Error) { *told = append(*told, e) }
			cfg.Takes = func(e *brittle.TakenBackError, _ string) error {
				t.Errorf("%s: %v", n.name, e)
				return nil
			}
		}
	}
	c.start()
	c.form(1)
	voter := c.nodes[0]
	submit(t, voter, "old")
	c.agree()
	voter.end()
	image, err := voter.disk.Copy()
	if err != nil {
		t.Fatal(err)
	}
	voter.start()
	submit(t, voter, "acknowledged")
	c.agree()
	return c, told, func() { voter.end(); voter.disk = image; *told = nil }
}

func submit(t *testing.T, n *node, command string) {
	t.Helper()
	if err := n.submit(command); err != nil {
		t.Fatalf("%s: %v", n.name, err)
	}
}

// A copy of the only voter's disk was put back. It elected itself, and used the
// indexes and terms again in which the standby had other entries: from then on there
// were two ledgers, and nobody said so.
func TestSoleVoterPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, told, put := twoSites(t)
		defer c.end()
		voter, standby := c.nodes[0], c.nodes[1]
		put()
		voter.start()
		time.Sleep(5 * time.Second)
		s := voter.group.Status()
		if e := new(tail.Error); s.Role == "leader" || !errors.As(s.Stopped, &e) || e.Node != "b" || e.Other || len(*told) == 0 {
			t.Fatalf("%+v, told %v", s, *told)
		}
		if err := voter.submit("alone"); err == nil {
			t.Error("it takes commands")
		}
		for _, n := range c.nodes {
			n.roster.add("incarnation 2 b")
		}
		for err := errors.New("not yet"); err != nil; time.Sleep(time.Second) {
			if err = standby.group.Recover(t.Context(), []byte("incarnation 2")); err != nil && !strings.Contains(err.Error(), "leads it") {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Minute)
		submit(t, voter, "after")
		c.agree()
		if got := fmt.Sprint(voter.machine.items()); got != "[old acknowledged after]" {
			t.Errorf("the ledger is %s", got)
		}
		if (*told)[len(*told)-1] != nil {
			t.Error("that it knew less is not over")
		}
	})
}

// The same when nobody could be asked: the site goes on alone, and when the standby
// is back, what it knows is not overwritten, and it is said.
func TestSoleVoterPutBackAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, told, put := twoSites(t)
		defer c.end()
		voter, standby := c.nodes[0], c.nodes[1]
		put()
		standby.end()
		voter.start()
		time.Sleep(30 * time.Second)
		for i := range 9 {
			submit(t, voter, fmt.Sprint("alone", i))
		}
		for range 2 { // it is the same after a restart
			*told = nil
			standby.start()
			time.Sleep(time.Minute)
			if i := slices.IndexFunc(*told, func(e *tail.Error) bool { return e != nil && e.Node == "b" }); i < 0 {
				t.Fatalf("told %v", *told)
			}
			if got := fmt.Sprint(standby.machine.items()); got != "[old acknowledged]" {
				t.Errorf("the standby's ledger is %s", got)
			}
			voter.end()
			standby.end()
			voter.start()
		}
	})
}

// Who is alone in its cluster leads at once, whose disk is as it was leads when the
// others have answered, and soon when nobody can be reached.
func TestSoleVoterLeadsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, told, _ := twoSites(t)
		defer c.end()
		voter, standby := c.nodes[0], c.nodes[1]
		leads := func() time.Duration {
			began := time.Now()
			voter.start()
			for voter.group.Status().Role != "leader" {
				time.Sleep(10 * time.Millisecond)
			}
			return time.Since(began)
		}
		voter.end()
		if d := leads(); d > 2*time.Second {
			t.Errorf("the standby has answered, and it leads after %v", d)
		}
		submit(t, voter, "one")
		c.agree()
		voter.end()
		standby.end()
		if d := leads(); d < 15*time.Second || d > 25*time.Second {
			t.Errorf("nobody can be reached, and it leads after %v", d)
		}
		submit(t, voter, "two")
		standby.start()
		time.Sleep(time.Minute)
		c.agree()
		voter.end()
		voter.change = nil
		if d := leads(); d > 2*time.Second {
			t.Errorf("it has no company, and leads after %v", d)
		}
		for _, e := range *told {
			if e != nil {
				t.Error(e)
			}
		}
	})
}
