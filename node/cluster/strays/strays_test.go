package strays

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
)

var cluster = [16]byte{7}

func private(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32))
}

func public(n byte) authority.Key { return authority.PublicKey(private(n)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func signed(t testing.TB, c *authority.Chain, kind uint8, body any) *authority.Chain {
	t.Helper()
	c, err := c.Next(c.Sign(c.Draft(kind, body), private(1)))
	must(t, err)
	return c
}

func node(n byte) authority.Node {
	return authority.Node{Key: public(n), Name: fmt.Sprint("n", n), Site: "home", Role: "full", Votes: true}
}

// members is a chain of one operator, 1, and nodes.
func members(t testing.TB, nodes ...byte) *authority.Chain {
	c, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: cluster, Operators: []authority.Key{public(1)}, Threshold: 1}, private(1))})
	must(t, err)
	for _, n := range nodes {
		c = signed(t, c, authority.AddNode, node(n))
	}
	return c
}

func ejects(t testing.TB, c *authority.Chain, nodes ...byte) *authority.Chain {
	for _, n := range nodes {
		c = signed(t, c, authority.RemoveNode, authority.Removal{Key: public(n)})
	}
	return c
}

// A site is a node, 10, with its guard and what it knows.
type site struct {
	*Store
	t      testing.TB
	dir    string
	guard  *guard.Guard
	alarm  string
	logged bytes.Buffer
}

func newSite(t testing.TB) *site {
	s := &site{t: t, dir: t.TempDir()}
	must(t, os.Mkdir(filepath.Join(s.dir, "cluster"), 0o700))
	s.open()
	t.Cleanup(func() { s.guard.Close() })
	return s
}

func (s *site) open() {
	s.t.Helper()
	var err error
	s.guard, err = guard.Open(guard.Config{Dir: filepath.Join(s.dir, "cluster")})
	must(s.t, err)
	s.Store = Open(Config{
		File: filepath.Join(s.dir, "strays"), Self: public(10), Guard: s.guard, Log: slog.New(slog.NewTextHandler(&s.logged, nil)),
		Name: func(id string) string { return "the " + id }, Signed: func(string) bool { return true }, Block: func(k authority.Key) string { return "node " + k.NodeID() },
		Alarm: func(_, text, _ string) { s.alarm = text },
	})
}

func (s *site) restart() {
	s.t.Helper()
	must(s.t, s.guard.Close())
	s.open()
}

// wants says who has to be kept out, and what is to be passed on.
func (s *site) wants(when string, chain *authority.Chain, offered int, nodes ...byte) {
	s.t.Helper()
	s.Tidy(chain)
	for n := byte(10); n < 20; n++ {
		if out := s.guard.Blocked("node " + public(n).NodeID()); out != slices.Contains(nodes, n) {
			s.t.Errorf("%s: %d is kept out: %v", when, n, out)
		}
		_, is := chain.Node(public(n))
		if told := strings.Contains(s.alarm, "the "+public(n).NodeID()); told != (is && slices.Contains(nodes, n) && n != 10) {
			s.t.Errorf("%s: people are shown %q of %d", when, s.alarm, n)
		}
	}
	if ids := s.Offered(chain); len(ids) != offered {
		s.t.Errorf("%s: %d branches are passed on", when, len(ids))
	}
}

// take shows it a branch, from the number of a link on.
func (s *site) take(chain, branch *authority.Chain, from uint64, changes bool) {
	s.t.Helper()
	if changed, err := s.Take(branch.Links(from), chain); err != nil || changed != changes {
		s.t.Errorf("changed: %v, %v", changed, err)
	}
}

// release has operators let a node in again.
func (s *site) release(chain *authority.Chain, n byte) {
	s.t.Helper()
	r := guard.Request{ID: [16]byte{n}, Cluster: cluster, Node: public(10), Unblock: "node " + public(n).NodeID(), Reason: "looked at"}
	r.Sigs = []authority.Signature{{Key: public(1), Sig: [64]byte(ed25519.Sign(private(1), r.Signed()))}}
	must(s.t, s.guard.Ask(chain, public(10), r))
	must(s.t, s.guard.Settle())
}

// A node that is shown the links by which another side has ejected somebody keeps it out,
// says so, passes them on, and does so after a restart. When it is ejected again by all
// that is over, and does not come back by who has not heard of it.
func TestShown(t *testing.T) {
	s := newSite(t)
	c := members(t, 10, 11, 12, 13)
	chain, loses := signed(t, c, authority.AddNode, node(14)), ejects(t, c, 12)
	s.wants("before", chain, 0)
	s.take(chain, loses, 5, true)
	s.wants("shown", chain, 1, 12)
	s.take(chain, loses, 5, false)
	s.restart()
	s.wants("after a restart", chain, 1, 12)
	id := s.Offered(chain)[0]
	if !s.Knows(id) || !slices.EqualFunc(s.Links(id), loses.Links(5), bytes.Equal) || s.Links([32]byte{1}) != nil {
		t.Errorf("%v, %d links", s.Knows(id), len(s.Links(id)))
	}
	other := newSite(t)
	if changed, err := other.Take(s.Links(id), chain); err != nil || !changed {
		t.Errorf("what it passes on: %v, %v", changed, err)
	}
	other.wants("at the next", chain, 1, 12)

	again := ejects(t, chain, 12)
	s.wants("ejected again", again, 0, 12)
	s.take(again, loses, 5, false)
	s.restart()
	s.wants("and after a restart", again, 0, 12)
	if s.Knows(id) {
		t.Error("what is over is kept for ever")
	}
}

// Operators have let a node in again, at this node: it is not kept out again by the links
// of before, by who has them still, nor by more links of the same branch. What was signed
// elsewhere is something else.
func TestReleased(t *testing.T) {
	s := newSite(t)
	c := members(t, 10, 11, 12, 13)
	chain, loses := signed(t, c, authority.AddNode, node(14)), ejects(t, c, 12)
	s.take(chain, loses, 5, true)
	s.release(chain, 12)
	s.wants("released", chain, 0)
	s.take(chain, loses, 5, false)
	s.restart()
	s.take(chain, loses, 5, false)
	s.wants("released, and shown again after a restart", chain, 0)
	s.Saw(loses, chain)
	s.wants("released, and seen again", chain, 0)
	more := ejects(t, loses, 13)
	s.take(chain, more, 5, true)
	s.take(chain, loses, 5, false)
	s.wants("another of the same branch", chain, 1, 13)
	s.restart()
	s.wants("and after a restart", chain, 1, 13)
	third := ejects(t, signed(t, c, authority.AddNode, node(15)), 12)
	s.take(chain, third, 5, true)
	s.wants("a third side", chain, 2, 12, 13)
}

// A node that had a branch itself knows who was removed on it, also itself; and passes on
// the rest. Nobody tells it of itself: who would keeps it out.
func TestSaw(t *testing.T) {
	s := newSite(t)
	c := members(t, 10, 11, 12, 13)
	chain, loses := ejects(t, c, 13), ejects(t, c, 12, 13)
	s.Saw(loses, chain)
	s.wants("seen", chain, 1, 12)
	s.take(chain, ejects(t, signed(t, c, authority.AddNode, node(15)), 10), 5, false)
	s.wants("told of itself", chain, 1, 12)
	s.Saw(ejects(t, c, 10, 11), chain)
	s.wants("removed itself", chain, 2, 10, 11, 12)
}

// The branch from which another has parted gives way itself: what is passed on can be
// checked by a node that has seen neither.
func TestSawTwice(t *testing.T) {
	s := newSite(t)
	c := members(t, 10, 11, 12, 13)
	first := signed(t, c, authority.AddNode, node(14))
	loses, then := ejects(t, first, 12), signed(t, first, authority.AddNode, node(15))
	s.Saw(loses, then)
	s.wants("seen", then, 1, 12)
	chain := signed(t, c, authority.Recover, authority.Recovery{Incarnation: 2, Base: public(10), Reason: "test"})
	if n := len(s.Offered(chain)); n != 0 {
		t.Errorf("%d branches are passed on that nobody can check", n)
	}
	s.Saw(then, chain)
	s.restart()
	s.wants("its branch gave way", chain, 1, 12)
	other := newSite(t)
	if changed, err := other.Take(s.Links(s.Offered(chain)[0]), signed(t, chain, authority.AddNode, node(15))); err != nil || !changed {
		t.Errorf("changed: %v, %v", changed, err)
	}
	other.wants("shown", chain, 1, 12)
}

// Whatever is shown without a proof is refused, and nobody is kept out.
func TestRefused(t *testing.T) {
	s := newSite(t)
	c := members(t, 10, 11, 12, 13)
	chain := signed(t, c, authority.AddNode, node(14))
	forged, err := authority.ParseLink(ejects(t, c, 12).Links(5)[0])
	must(t, err)
	forged.Sigs = []authority.Signature{{Key: public(11)}}
	for _, links := range [][][]byte{nil, {forged.Bytes()}, {{0}}, ejects(t, c, 12).Links(4)} {
		if changed, err := s.Take(links, chain); changed || !errors.Is(err, authority.ErrRefused) {
			t.Errorf("changed: %v, %v", changed, err)
		}
	}
	s.wants("refused", chain, 0)
}

// What the guard cannot write is not noted as done: it is taken again.
func TestGuardFails(t *testing.T) {
	s := newSite(t)
	c := members(t, 10, 11, 12, 13)
	chain, loses := signed(t, c, authority.AddNode, node(14)), ejects(t, c, 12)
	must(t, s.guard.Close())
	if changed, err := s.Take(loses.Links(5), chain); err == nil || changed || len(s.Offered(chain)) != 0 {
		t.Errorf("changed: %v, %v", changed, err)
	}
	s.Saw(loses, chain)
	if !strings.Contains(s.logged.String(), "is not kept out") {
		t.Error(s.logged.String())
	}
	s.open()
	s.take(chain, loses, 5, true)
	s.wants("taken again", chain, 1, 12)
}

// A file that is damaged keeps nobody from running, and lets nobody in.
func TestDamagedFile(t *testing.T) {
	s := newSite(t)
	c := members(t, 10, 11, 12, 13)
	chain, loses := signed(t, c, authority.AddNode, node(14)), ejects(t, c, 12)
	s.take(chain, loses, 5, true)
	must(t, os.WriteFile(filepath.Join(s.dir, "strays"), []byte("x"), 0o600))
	s.restart()
	s.wants("damaged", chain, 0, 12)
	if !strings.Contains(s.logged.String(), "level=ERROR") {
		t.Error(s.logged.String())
	}
	s.take(chain, loses, 5, false)
	s.wants("shown again", chain, 1, 12)
}

// There are no more branches than can be kept; who is removed on one too many is kept out
// all the same.
func TestTooMany(t *testing.T) {
	s := newSite(t)
	c := members(t, 10, 11, 12, 13)
	chain := signed(t, c, authority.AddNode, node(14))
	for n := range byte(MaxBranches) {
		s.take(chain, ejects(t, signed(t, c, authority.AddNode, node(100+n)), 12), 5, n == 0)
	}
	changed, err := s.Take(ejects(t, c, 13).Links(5), chain)
	if err == nil || !changed {
		t.Errorf("changed: %v, %v", changed, err)
	}
	s.wants("one too many", chain, MaxBranches, 12, 13)
}
