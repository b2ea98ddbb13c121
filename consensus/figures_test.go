package consensus_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The figures that the WAN profile is chosen for, in virtual time.

func TestNextWriteAfterALostLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 3)
		c.net.Slow(150*time.Millisecond, 0.2, 0.01)
		c.start()
		defer c.end()
		c.form(3)
		time.Sleep(10 * time.Second) // what the leader has decided is everywhere
		var took []time.Duration
		var sum time.Duration
		for i := range 50 {
			lost := c.leader()
			other := c.nodes[(slices.Index(c.nodes, lost)+1)%3]
			lost.crash()
			began := time.Now()
			for other.submit(fmt.Sprint("write ", i)) != nil {
				if time.Since(began) > 10*time.Minute {
					t.Fatalf("loss %d: no leader for ten minutes; %s is %+v", i, other.name, other.group.Status())
				}
			}
			took = append(took, time.Since(began))
			sum += time.Since(began)
			lost.start()
			time.Sleep(30 * time.Second)
		}
		slices.Sort(took)
		t.Logf("of %d: mean %s, median %s, longest %s", len(took), (sum / 50).Round(time.Millisecond), took[25].Round(time.Millisecond), took[49].Round(time.Millisecond))
		if took[25] > 12*time.Second || took[49] > 25*time.Second {
			t.Errorf("median %s, want at most 12 s; longest %s, want at most 25 s", took[25], took[49])
		}
		// The first of the others waits 7.5 s on average, the last 10 s. They once had to wait
		// for the last, as raft has it, and one run in thirty had a loss of more than 25 s.
		if mean := sum / 50; mean > 9*time.Second {
			t.Errorf("mean %s, want that of the first of those that wait", mean)
		}
	})
}

// One loss in forty was followed by a split vote, and ten seconds more without a leader.
func TestOneTermForOneLostLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const losses = 600
		c := newCluster(t, 1, 3)
		c.net.Slow(150*time.Millisecond, 0.2, 0)
		c.start()
		defer c.end()
		c.form(3)
		time.Sleep(10 * time.Second)
		before := c.leader().group.Status().Term
		for range losses {
			lost := c.leader()
			lost.crash()
			time.Sleep(30 * time.Second)
			lost.start()
			time.Sleep(10 * time.Second)
		}
		more := c.leader().group.Status().Term - before - losses
		t.Logf("%d terms more than losses", more)
		if more > losses/100 {
			t.Errorf("%d split votes after %d losses", more, losses)
		}
	})
}

func TestNoElectionsOnABloatedUplink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 3)
		c.start()
		defer c.end()
		c.form(3)
		term, failed := c.leader().group.Status().Term, 0
		c.net.Slow(40*time.Millisecond, 29, 0.03) // 40 ms to 1.2 s
		for i := range 720 {
			if c.nodes[i%3].submit(fmt.Sprint("write ", i)) != nil {
				failed++
			}
			time.Sleep(5 * time.Second)
		}
		if now := c.leader().group.Status().Term; now != term || failed > 0 {
			t.Errorf("%d terms and %d failed writes in an hour", now-term, failed)
		}
	})
}

func TestIdleTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 5)
		c.start()
		defer c.end()
		leader := c.form(3)
		before := map[string]int64{}
		for _, n := range c.nodes {
			before[n.name] = c.net.Traffic(n.name)
		}
		time.Sleep(time.Hour)
		for _, n := range c.nodes {
			rate, most := (c.net.Traffic(n.name)-before[n.name])/3600, int64(4<<10)
			if n == leader {
				most = 12 << 10
			}
			t.Logf("%s: %d bytes a second", n.name, rate)
			if rate > most {
				t.Errorf("%s: %d bytes a second when nothing happens, want at most %d", n.name, rate, most)
			}
		}
	})
}
