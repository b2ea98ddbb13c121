package consensus_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
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
