package consensus_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
)

// apart cuts two nodes off from each other, and from nobody else.
func (c *cluster) apart(a, b *node) {
	c.net.Cut(a.name, b.name)
	c.net.Cut(b.name, a.name)
}

// Two nodes behind NATs whose relay went away reach all others. One of them could change
// nothing for fifteen seconds, though the other led and had a quorum.
func TestWritesGoByAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := crowd(t, 12)
		c.start()
		defer c.end()
		leader := c.leader()
		if err := leader.submit("first"); err != nil {
			t.Fatal(err)
		}
		showing(t, 30*time.Second, "first", c.nodes...)
		time.Sleep(2 * time.Minute)
		outside := c.followers()[0]
		inside := c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n != leader && n.name != outside.name })]

		c.apart(outside, leader)
		if err := outside.submit("from outside"); err != nil {
			t.Error(err)
		}
		showing(t, 20*time.Second, "from outside", outside) // if it followed the leader, it has to notice first
		if err := outside.group.Linear(context.Background()); err != nil {
			t.Error(err)
		}

		c.apart(inside, leader)
		if err := inside.submit("from inside"); err != nil {
			t.Error(err)
		}
		if err := leader.submit("from inside"); err != nil { // it has it already
			t.Error(err)
		}
		if c.leader() != leader {
			t.Error("another node leads")
		}
		c.net.Heal()
		showing(t, 30*time.Second, "from inside", c.nodes...)
		c.agree()
	})
}

// Whom nobody answers knows that nothing was done. Whom a node answered that passed the
// command to a leader who is lost now does not know it.
func TestWhatADetourLeavesOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 5)
		c.start()
		defer c.end()
		leader := c.form(3)
		others := slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return slices.Contains(leader.group.Status().Voters, n.name) })
		writer, between := others[0], others[1]
		for _, n := range c.nodes {
			if n != writer && n != between {
				c.apart(n, writer)
			}
		}
		done := make(chan error, 1)
		go func() { done <- writer.submit("passed on") }()
		time.Sleep(2500 * time.Millisecond) // soon others are asked
		c.net.Split([]string{leader.name, writer.name, between.name}, without(c, leader, writer, between))
		if err := <-done; !errors.Is(err, consensus.ErrUnknown) {
			t.Errorf("a command that reached a leader without a quorum: %v", err)
		}
		c.apart(writer, between)
		if err := writer.submit("not passed on"); !errors.Is(err, consensus.ErrNoLeader) {
			t.Errorf("a command that reached nobody: %v", err)
		}
		c.net.Heal()
		c.agree()
		if slices.Contains(c.leader().machine.items(), "not passed on") {
			t.Error("it was passed on")
		}
	})
}

// A command that the machine refuses is refused on a detour, too, at once and for what it is.
func TestRefusedOnADetour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 3)
		c.start()
		defer c.end()
		leader := c.form(3)
		writer := c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n != leader })]
		c.apart(writer, leader)
		began := time.Now()
		if err := writer.submit("refused"); !errors.Is(err, consensus.ErrRefused) {
			t.Error(err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("after %v", took)
		}
	})
}
