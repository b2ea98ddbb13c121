package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
)

// A cluster asks before each vote, and a file that cannot be read is no permission.
func TestClusterWhoseDiskWentBack(t *testing.T) {
	cfg := made(t, Founding{})
	cfg.Feeds = true
	c := opened(t, cfg)
	if c.votes.May(5) == nil {
		t.Error("it votes before it has heard")
	}
	c.WentBack(false)
	if err := c.votes.May(5); err != nil {
		t.Error(err)
	}
	c.WentBack(true)
	if c.votes.May(5) == nil {
		t.Error("it votes")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.catchUp(ctx) // nobody leads
	if !c.votes.Suspended() {
		t.Error("it votes again, and no leader was heard of")
	}
	c.Close()
	if err := os.WriteFile(filepath.Join(cfg.Dir, "restored"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = opened(t, cfg)
	defer c.Close()
	if !c.votes.Suspended() {
		t.Error("a damaged file is taken for a permission to vote")
	}
}

// A node that lost its log knows no more what it agreed to, so it does not vote, and
// does not begin again with the voters of an old snapshot; if it is alone, it goes on.
// (A voter whose raft directory was moved away, as the documentation said, voted at
// once for a node that lacked an acknowledged entry, and that was gone.)
func TestVoterThatLostItsLog(t *testing.T) {
	two := func(t *testing.T) Config {
		cfg := made(t, Founding{})
		c := opened(t, cfg)
		running(t, c)() // a snapshot is stored when it ends
		operator, err := keyfile.Read(filepath.Join(filepath.Dir(cfg.Dir), "operator.key"))
		must(t, err)
		chain, err := readChain(filepath.Join(cfg.Dir, authorityFile))
		must(t, err)
		other := authority.Node{Key: authority.Key{1}, Name: "other", Site: "there", Role: "full", Votes: true}
		if chain, err = chain.Next(chain.Sign(chain.Draft(authority.AddNode, other), operator)); err == nil {
			err = writeChain(filepath.Join(cfg.Dir, authorityFile), chain)
		}
		must(t, err)
		return cfg
	}
	raft := func(cfg Config) string { return filepath.Join(cfg.Dir, "raft") }

	cfg := two(t)
	must(t, os.RemoveAll(raft(cfg)))
	for range 2 { // it is remembered
		c := opened(t, cfg)
		if c.votes.May(1<<40) == nil || !c.votes.Suspended() {
			t.Error("without raft/ it votes")
		}
		must(t, c.Close())
	}

	for name, lose := range map[string]func(string) error{
		"removed": os.Remove, "empty": func(path string) error { return os.Truncate(path, 0) }, "cut": func(path string) error { return os.Truncate(path, 9000) },
	} {
		cfg := two(t)
		must(t, lose(filepath.Join(raft(cfg), "log.db")))
		c := opened(t, cfg)
		if c.ledger.View().Index() == 0 {
			t.Errorf("%s: the snapshot is not used", name)
		}
		stop := running(t, c)
		for i := 0; c.group.Status().Stopped == nil || errors.Is(c.group.Status().Stopped, consensus.ErrStopped); i++ {
			if time.Sleep(50 * time.Millisecond); i > 200 {
				t.Fatalf("%s: it runs: %+v", name, c.group.Status())
			}
		}
		stop()
	}

	cfg = made(t, Founding{})
	c := opened(t, cfg)
	running(t, c)()
	must(t, os.Remove(filepath.Join(raft(cfg), "log.db")))
	c = opened(t, cfg)
	defer running(t, c)()
	must(t, c.group.Linear(t.Context()))
	if c.votes.Suspended() {
		t.Error("a node that is alone does not vote")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
