package cluster

import (
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster/home"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
)

// A node whose own branch of the authority chain does not count takes over the one that
// was agreed on, keeps out whom its own had removed until that is signed again, and opens
// again wherever a crash has cut the change short.
func TestBranch(t *testing.T) {
	cfg := made(t, Founding{})
	raised := alarmed{all: map[string]string{}}
	cfg.Alarm = raised.raise
	c := opened(t, cfg)
	operator, err := keyfile.Read(filepath.Join(filepath.Dir(cfg.Dir), "operator.key"))
	must(t, err)
	signed := func(chain *authority.Chain, kind uint8, body any) *authority.Chain {
		next, err := chain.Next(chain.Sign(chain.Draft(kind, body), operator))
		must(t, err)
		return next
	}
	thief := authority.Node{Key: authority.Key{1}, Name: "thief", Site: "there", Role: "full", Votes: true}
	other := authority.Node{Key: authority.Key{2}, Name: "other", Site: "there", Role: "full", Votes: true}
	both := signed(c.Chain(), authority.AddNode, thief)
	must(t, c.keeper.Follow(both))
	alone := signed(both, authority.RemoveNode, authority.Removal{Key: thief.Key})
	must(t, c.Believe(alone.Links(0)[len(both.Links(0))]))
	agreed := signed(both, authority.AddNode, other)
	file, next := filepath.Join(cfg.Dir, home.Authority), filepath.Join(cfg.Dir, nextFile)
	before, err := os.ReadFile(file)
	must(t, err)
	must(t, home.WriteChain(next, agreed)) // and a crash
	must(t, c.Close())
	c = opened(t, cfg)
	if _, err := os.Lstat(next); !errors.Is(err, fs.ErrNotExist) || !c.Chain().Extends(alone) {
		t.Fatalf("a branch is believed that the guard has not followed; %v", err)
	}

	must(t, c.keeper.Agree(agreed))
	says := func(when string) {
		t.Helper()
		if !c.Chain().Extends(agreed) || c.Roster().Member(thief.Key.NodeID()) == nil || c.Roster().Member(other.Key.NodeID()) != nil {
			t.Errorf("%s: %d links; the thief: %v, the other: %v", when, len(c.Chain().Links(0)), c.Roster().Member(thief.Key.NodeID()), c.Roster().Member(other.Key.NodeID()))
		}
		if text := raised.all["stray"]; !strings.Contains(text, thief.Key.NodeID()) {
			t.Errorf("%s: %v", when, raised.all)
		}
	}
	says("agreed")
	must(t, c.Close())
	must(t, os.WriteFile(file, before, 0o600)) // the crash was before it came to its place
	must(t, home.WriteChain(next, agreed))
	c = opened(t, cfg)
	c.strays.Tidy(c.Chain())
	says("after a crash")
	must(t, c.Close())
	c = opened(t, cfg)
	c.strays.Tidy(c.Chain())
	says("after a restart")
	must(t, c.keeper.Agree(signed(agreed, authority.RemoveNode, authority.Removal{Key: thief.Key})))
	if text := raised.all["stray"]; text != "" || c.Roster().Member(thief.Key.NodeID()) == nil {
		t.Errorf("it was removed again: %s", text)
	}
	// `guard show` went on to say that it is to be removed again.
	if blocks := c.Guard().Blocks(); len(blocks) != 1 || blocks[0].Reason != "operators removed it" {
		t.Errorf("it was removed again, and the guard says %+v", blocks)
	}
	if c.Gone() {
		t.Error("this node is removed")
	}
	c.strays.Saw(signed(both, authority.RemoveNode, authority.Removal{Key: c.self}), c.Chain()) // as on the branch of others, while it had one of its own
	must(t, c.Close())
	c = opened(t, cfg)
	c.strays.Tidy(c.Chain())
	if _, err := c.client.Do(t.Context(), "root@pam", "", ledger.KindChange, ledger.Change{}); !c.Gone() || err == nil || !strings.Contains(err.Error(), "was removed") || raised.all["stray"] != "" {
		t.Errorf("it was removed, and takes part: %v, %v", err, raised.all)
	}
	must(t, c.Close())

	must(t, os.WriteFile(file, before, 0o600))
	if c, err := Open(cfg); err == nil { // no file beside: somebody put it there
		t.Errorf("it opens with the branch that does not count: %v", c.Close())
	}
}

// A node is shown by another whom a branch has removed that it never saw: it keeps that one
// out at once, says so, and does so after a restart; until operators let it in again, here,
// for good.
func TestShownBranch(t *testing.T) {
	cfg := made(t, Founding{})
	raised := alarmed{all: map[string]string{}}
	cfg.Alarm = raised.raise
	c := opened(t, cfg)
	defer func() { must(t, c.Close()) }()
	operator, err := keyfile.Read(filepath.Join(filepath.Dir(cfg.Dir), "operator.key"))
	must(t, err)
	signed := func(chain *authority.Chain, kind uint8, body any) *authority.Chain {
		next, err := chain.Next(chain.Sign(chain.Draft(kind, body), operator))
		must(t, err)
		return next
	}
	thief := authority.Node{Key: authority.Key{1}, Name: "thief", Site: "there", Role: "full", Votes: true}
	both := signed(c.Chain(), authority.AddNode, thief)
	links := signed(both, authority.RemoveNode, authority.Removal{Key: thief.Key}).Links(uint64(len(both.Links(0))))
	must(t, c.keeper.Follow(signed(both, authority.AddNode, authority.Node{Key: authority.Key{2}, Name: "other", Site: "there", Role: "full"})))
	told := 0
	c.Watch(func() { told++ })
	must(t, c.TakeStray(links))
	is := func(when string, out bool) {
		t.Helper()
		text := raised.all["stray"]
		if (c.Roster().Member(thief.Key.NodeID()) != nil) != out || c.Removed(thief.Key.NodeID()) != out || strings.Contains(text, thief.Key.NodeID()) != out || (len(c.Strays().Offered(c.Chain())) == 1) != out {
			t.Errorf("%s: %v, %q, %d branches to pass on", when, c.Roster().Member(thief.Key.NodeID()), text, len(c.Strays().Offered(c.Chain())))
		}
	}
	is("shown", true)
	if must(t, c.TakeStray(links)); told != 1 {
		t.Errorf("who watches is told %d times", told)
	}
	again := func() {
		must(t, c.Close())
		clear(raised.all)
		c = opened(t, cfg)
		c.recheck()
	}
	again()
	is("after a restart", true)
	r := guard.Request{ID: [16]byte{1}, Cluster: c.Chain().Cluster(), Node: c.self, Unblock: BlockOf(thief.Key), Reason: "test"}
	r.Sigs = []authority.Signature{{Key: authority.PublicKey(operator), Sig: [64]byte(ed25519.Sign(operator, r.Signed()))}}
	must(t, c.guard.Ask(c.Chain(), c.self, r))
	must(t, c.guard.Settle())
	c.Release()
	is("let in again", false)
	must(t, c.TakeStray(links))
	is("and shown again", false)
	again()
	must(t, c.TakeStray(links))
	is("and after a restart", false)
}
