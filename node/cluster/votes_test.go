package cluster

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
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
