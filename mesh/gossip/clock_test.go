package gossip

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// Nodes hear each other's clocks with the answers to their probes; the median is what
// counts, so that one that is wrong does not make the others so, and what was heard long
// ago does not.
func TestClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 4)
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		time.Sleep(time.Minute)
		x := c.nodes[0]
		if ahead, of := x.Ahead(); of != 3 || ahead.Abs() > time.Second {
			t.Errorf("%s of %d", ahead, of)
		}
		says := func(node string, ahead time.Duration) {
			at := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(ahead).UnixMilli()))
			(*delegate)(x.Gossip).NotifyPingComplete(&memberlist.Node{Name: node}, 100*time.Millisecond, at)
		}
		says(c.nodes[1].name, 24*time.Hour)
		says("a stranger", -time.Hour)
		(*delegate)(x.Gossip).NotifyPingComplete(&memberlist.Node{Name: c.nodes[2].name}, 0, []byte("who knows"))
		if ahead, of := x.Ahead(); of != 3 || ahead.Abs() > time.Second {
			t.Errorf("with one that is wrong: %s of %d", ahead, of)
		}
		if clocks := x.Clocks(); len(clocks) != 3 || clocks[c.nodes[1].name].Round(time.Hour) != 24*time.Hour || clocks[c.nodes[3].name].Abs() > time.Second {
			t.Errorf("clocks: %v", clocks)
		}
		says(c.nodes[2].name, 24*time.Hour)
		if ahead, of := x.Ahead(); of != 3 || ahead.Abs() > time.Second {
			t.Errorf("with two and two: %s of %d", ahead, of)
		}
		says(c.nodes[3].name, 24*time.Hour)
		if ahead, of := x.Ahead(); of != 3 || (ahead-24*time.Hour).Abs() > time.Second {
			t.Errorf("with all others that agree: %s of %d", ahead, of)
		}
		for _, other := range c.nodes[1:] {
			c.die(other)
		}
		time.Sleep(2 * clockFor)
		if ahead, of := x.Ahead(); of != 0 {
			t.Errorf("of nobody: %s of %d", ahead, of)
		}
	})
}
