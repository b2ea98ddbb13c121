package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/node/cluster/home"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
)

// Who does not know yet whether its disk went back gives no vote, for two minutes.
func TestNoVoteBeforeItHasHeard(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v := openVotes(dir, true)
		if v.may(1) == nil {
			t.Error("it votes at once")
		}
		time.Sleep(hearTime)
		if err := v.may(1); err != nil {
			t.Errorf("it never votes: %v", err)
		}
		v = openVotes(dir, true)
		if err := v.note(false); err != nil || v.may(1) != nil {
			t.Errorf("its disk is as it was, and: %v, %v", err, v.may(1))
		}
		if err := openVotes(dir, false).may(1); err != nil {
			t.Errorf("nobody tells it, and it does not vote: %v", err)
		}
	})
}

// A machine whose disk went back gives no vote, also after a reboot, before a
// leader has given it all; and never one in a term of before.
func TestNoVoteOfAnOldImage(t *testing.T) {
	dir := t.TempDir()
	reboot := func() *votes { return openVotes(dir, false) }
	v := reboot()
	if err := v.note(true); err != nil {
		t.Fatal(err)
	}
	if err := v.note(false); err != nil { // which is said of the new epoch
		t.Fatal(err)
	}
	for range 2 {
		if v.may(1<<40) == nil || !v.suspended() {
			t.Error("it votes")
		}
		v = reboot()
	}
	if err := v.caughtUp(7); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if v.may(7) == nil || v.may(8) != nil {
			t.Errorf("in term 7: %v, in term 8: %v", v.may(7), v.may(8))
		}
		v = reboot()
	}
	if err := v.note(true); err != nil || v.may(9) == nil {
		t.Errorf("the second time it votes: %v", err)
	}
	if err := v.caughtUp(3); err != nil || v.may(7) == nil {
		t.Errorf("a term of before is forgotten: %v", err)
	}
}

// A cluster asks before each vote, and a file that cannot be read is no permission.
func TestClusterWhoseDiskWentBack(t *testing.T) {
	cfg := made(t, Founding{})
	cfg.Feeds = true
	c := opened(t, cfg)
	if c.votes.may(5) == nil {
		t.Error("it votes before it has heard")
	}
	c.WentBack(false)
	if err := c.votes.may(5); err != nil {
		t.Error(err)
	}
	c.WentBack(true)
	if c.votes.may(5) == nil {
		t.Error("it votes")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.catchUp(ctx) // nobody leads
	if !c.votes.suspended() {
		t.Error("it votes again, and no leader was heard of")
	}
	c.Close()
	if err := os.WriteFile(filepath.Join(cfg.Dir, restoredFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = opened(t, cfg)
	defer c.Close()
	if !c.votes.suspended() {
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
		chain, err := home.ReadChain(filepath.Join(cfg.Dir, home.Authority))
		must(t, err)
		other := authority.Node{Key: authority.Key{1}, Name: "other", Site: "there", Role: "full", Votes: true}
		if chain, err = chain.Next(chain.Sign(chain.Draft(authority.AddNode, other), operator)); err == nil {
			err = home.WriteChain(filepath.Join(cfg.Dir, home.Authority), chain)
		}
		must(t, err)
		return cfg
	}
	raft := func(cfg Config) string { return filepath.Join(cfg.Dir, "raft") }

	cfg := two(t)
	must(t, os.RemoveAll(raft(cfg)))
	for range 2 { // it is remembered
		c := opened(t, cfg)
		if c.votes.may(1<<40) == nil || !c.votes.suspended() {
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
	if c.votes.suspended() {
		t.Error("a node that is alone does not vote")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
