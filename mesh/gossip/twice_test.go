package gossip

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/holdfast-mesh/holdfast/mesh/network"
)

// A node that is started again is another life, once; one that comes back after another
// is a machine with a copy of its directory.
func TestLives(t *testing.T) {
	now := time.Now()
	var p Peer
	for _, started := range []int64{5, 5, 0, 7, 7, 3, 9} { // a clock was set back
		if p.live(started, now); !p.Twice.IsZero() {
			t.Fatalf("a restart at %d is another machine", started)
		}
	}
	for range 2 * maxLives {
		p.live(p.lives[len(p.lives)-1]+1, now)
	}
	if len(p.lives) != maxLives || !p.Twice.IsZero() {
		t.Errorf("%d lives, twice %s", len(p.lives), p.Twice)
	}
	before := p.lives[maxLives-2]
	if p.live(before, now); !p.Twice.Equal(now) || p.lives[maxLives-1] != before || len(p.lives) != maxLives {
		t.Errorf("twice %s, %v", p.Twice, p.lives)
	}
}

// Two lives of one node that both speak are noticed by a third, and by the older one.
func TestTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3)
		a, b := c.nodes[0], c.nodes[1]
		a.Publish(Meta{Started: 100, Version: "1"})
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		time.Sleep(time.Minute)
		twice := func() (at time.Time) {
			for _, p := range b.Peers() {
				if p.Node == a.name {
					at = p.Twice
				}
			}
			return at
		}
		if !twice().IsZero() || !a.Twice().IsZero() {
			t.Fatal("one that runs once runs twice")
		}
		for _, started := range []int64{200, 100, 200} {
			says := &memberlist.Node{Name: a.name, Addr: address(a.name), Port: network.ServiceGossip, Meta: Meta{Started: started, Version: "1"}.sign(a.name, a.key)}
			for _, x := range []*node{a, b} {
				if err := (*delegate)(x.Gossip).NotifyAlive(says); err != nil {
					t.Fatal(err)
				}
				(*delegate)(x.Gossip).NotifyUpdate(says)
			}
		}
		if twice().IsZero() {
			t.Error("a third does not notice")
		}
		if a.Twice().IsZero() {
			t.Error("the older life does not notice")
		}
	})
}
