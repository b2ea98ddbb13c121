package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/brittle"
	"github.com/holdfast-mesh/holdfast/node/keyfile"
)

// An alarmed cluster notes its alarms, by key.
type alarmed struct {
	mu  sync.Mutex
	all map[string]string
}

func (a *alarmed) raise(key, text, _ string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if delete(a.all, key); text != "" {
		a.all[key] = text
	}
}

func (a *alarmed) text(key string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all[key]
}

// Ledgers that differ were noticed by one node only, which blamed the leader: it was
// the one that was wrong, and nobody else said a word.
func TestWhoComparesLedgers(t *testing.T) {
	s := consensus.Status{Role: "follower", Leader: "a", Voters: []string{"a", "b"}, Standbys: []string{"c"}}
	if got := compared(s, "b"); !slices.Equal(got, []string{"a"}) {
		t.Errorf("a follower compares with %v", got)
	}
	s.Role = "leader"
	if got := compared(s, "a"); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("the leader compares with %v", got)
	}
	if got := compared(consensus.Status{Role: "candidate", Voters: s.Voters}, "a"); len(got) != 0 {
		t.Errorf("without a leader it compares with %v", got)
	}

	cfg := made(t, Founding{})
	raised := alarmed{all: map[string]string{}}
	cfg.Alarm = raised.raise
	c := opened(t, cfg)
	defer c.Close()
	same := c.sums.Encode()
	other := slices.Clone(same)
	other[len(other)-1] ^= 1
	elsewhere := slices.Clone(other)
	binary.BigEndian.PutUint64(elsewhere[8:], 1<<40)
	must(t, c.judge(same, "b"))
	must(t, c.judge(elsewhere, "c")) // at an index that is not known here
	if len(raised.all) != 0 || c.Diverged() != 0 {
		t.Fatalf("%v, at %d", raised.all, c.Diverged())
	}
	must(t, c.judge(other, "b"))
	must(t, c.judge(other, "c"))
	index := binary.BigEndian.Uint64(same[len(same)-40:])
	if text := raised.all["diverged"]; !strings.Contains(text, "not the same as that of b (at index ") || !strings.Contains(text, "c (at") || c.Diverged() != index {
		t.Errorf("%v, at %d, not %d", raised.all, c.Diverged(), index)
	}
	must(t, c.judge(same, "b"))
	c.forgetOthers(nil)
	if text := raised.all["diverged"]; strings.Contains(text, "b (at") || !strings.Contains(text, "c (at") {
		t.Errorf("%v", raised.all)
	}
	c.forgetOthers([]string{"b"})
	if len(maps.Clone(raised.all)) != 0 || c.Diverged() != 0 {
		t.Errorf("it is in the group no more: %v", raised.all)
	}
}

// For two minutes behind `member recover-quorum`, the node that it was run on and those
// that had its chain, and their ledger of before, each said that the other's ledger was
// wrong: what a ledger comes to was told under the incarnation of the chain.
func TestLedgersOfTwoIncarnationsAreNotCompared(t *testing.T) {
	cfg := made(t, Founding{})
	raised := alarmed{all: map[string]string{}}
	cfg.Alarm = raised.raise
	c := opened(t, cfg)
	before := c.sums.Encode()
	other := slices.Clone(before)
	other[len(other)-1] ^= 1
	of := func(incarnation uint64, sums []byte) []byte {
		return append(binary.BigEndian.AppendUint64(nil, incarnation), sums[8:]...)
	}

	operator, err := keyfile.Read(filepath.Join(filepath.Dir(cfg.Dir), "operator.key"))
	must(t, err)
	chain := c.Chain()
	link := chain.Sign(chain.Draft(authority.Recover, authority.Recovery{Incarnation: 2, Base: c.self, Reason: "test"}), operator)
	must(t, c.Believe(link)) // and its ledger is not here yet
	if sums := c.sums.Encode(); !slices.Equal(sums, before) {
		t.Errorf("the ledger of before is told as that of incarnation %d", binary.BigEndian.Uint64(sums))
	}
	must(t, c.judge(of(2, other), "b"))
	if raised.text("diverged") != "" {
		t.Errorf("the later ledger is compared with the one of before: %q", raised.text("diverged"))
	}
	must(t, c.judge(other, "b"))
	if raised.text("diverged") == "" || c.Diverged() == 0 {
		t.Errorf("two of before that differ: %q, at %d", raised.text("diverged"), c.Diverged())
	}

	stop := running(t, c)
	defer stop()
	must(t, c.group.Linear(t.Context()))
	must(t, c.offerOnce(t.Context())) // the recovery is in the ledger now
	if raised.text("diverged") != "" || c.Diverged() != 0 {
		t.Errorf("it is told of the ledger of before: %q, at %d", raised.text("diverged"), c.Diverged())
	}
	now := c.sums.Encode()
	must(t, c.judge(of(1, other), "b"))
	must(t, c.judge(now, "b"))
	if raised.text("diverged") != "" || binary.BigEndian.Uint64(now) != 2 {
		t.Errorf("incarnation %d: %q", binary.BigEndian.Uint64(now), raised.text("diverged"))
	}
	now[len(now)-1] ^= 1
	must(t, c.judge(now, "b"))
	if raised.text("diverged") == "" {
		t.Error("two later ones that differ, and nobody says it")
	}
}

// A node whose leader took back what it had agreed to does not vote until it has
// caught up, also after a reboot, and says where the old log is.
func TestTakenBack(t *testing.T) {
	cfg := made(t, Founding{})
	raised := alarmed{all: map[string]string{}}
	cfg.Alarm = raised.raise
	c := opened(t, cfg)
	must(t, c.takenBack(&brittle.TakenBackError{From: 7, To: 9}, "1-entry-7"))
	for range 2 {
		if c.votes.May(1<<40) == nil || !c.votes.Suspended() {
			t.Error("it votes")
		}
		must(t, c.Close())
		c = opened(t, cfg)
	}
	must(t, c.Close())
	if text := raised.all["taken-back"]; !strings.Contains(text, "entries 7 to 9") {
		t.Errorf("%v", raised.all)
	}
}

// What others bring is taken only if operators have signed it, and who brings it is
// one of those others: else a stranger could have a node put its ledger away.
func TestRemember(t *testing.T) {
	cfg := made(t, Founding{})
	raised := alarmed{all: map[string]string{}}
	cfg.Alarm = raised.raise
	c := opened(t, cfg)
	defer c.Close()
	operator, err := keyfile.Read(filepath.Join(filepath.Dir(cfg.Dir), "operator.key"))
	must(t, err)
	other := authority.Node{Key: authority.Key{1}, Name: "other", Site: "there", Role: "full", Votes: true}
	chain := c.Chain()
	good := chain.Sign(chain.Draft(authority.AddNode, other), operator)
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	forged := chain.Sign(chain.Draft(authority.AddNode, other), stranger)
	stop := running(t, c)
	defer stop()
	must(t, c.group.Linear(t.Context()))
	before := c.View().Index()
	for name, err := range map[string]error{
		"forged":      c.Remember(t.Context(), other.Key.NodeID(), [][]byte{forged}),
		"by somebody": c.Remember(t.Context(), authority.Key{2}.NodeID(), [][]byte{good}),
		"by no node":  c.Remember(t.Context(), "x", [][]byte{good}),
		"nothing new": c.Remember(t.Context(), other.Key.NodeID(), nil),
	} {
		if err == nil || c.View().Index() != before || len(raised.all) != 0 {
			t.Errorf("%s: %v, entry %d of %d, %v", name, err, c.View().Index(), before, raised.all)
		}
	}
	must(t, c.Remember(t.Context(), other.Key.NodeID(), [][]byte{good}))
	if c.Roster().Member(other.Key.NodeID()) != nil || !c.votes.Suspended() || raised.all["taken-back"] == "" {
		t.Errorf("suspended: %t, %v", c.votes.Suspended(), raised.all)
	}
	if old, err := filepath.Glob(filepath.Join(cfg.Dir, "raft.orphan-*")); len(old) != 1 || err != nil {
		t.Errorf("the old log is in %v, %v", old, err)
	}
}
