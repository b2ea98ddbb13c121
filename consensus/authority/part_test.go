package authority

import (
	"errors"
	"slices"
	"testing"
)

// three is a chain of one operator and three nodes.
func three(t testing.TB) *Chain {
	c := founded(t, 1, 1)
	for n := range byte(3) {
		c = c.must(t, AddNode, home(10+n), private(1))
	}
	return c
}

// against are those whom a stray has removed and a chain has not.
func against(s Stray, counts *Chain) (keys []Key) {
	for _, r := range s.Against(counts) {
		keys = append(keys, r.Node)
	}
	return keys
}

func headOf(c *Chain) [32]byte { _, h := c.Head(); return h }

// A removal that one node believed without a quorum, and something else that the others
// agreed on meanwhile: the ledger's branch counts, and whom the other has removed is kept
// out until it is removed again. It once left two chains for ever: nothing could be
// signed any more, and a node that was ejected stayed.
func TestPart(t *testing.T) {
	c := three(t)
	alone := c.must(t, RemoveNode, Removal{public(11)}, private(1))
	agreed := c.must(t, RemoveNode, Removal{public(12)}, private(1)).must(t, AddNode, home(13), private(1))
	var parted []uint64
	var stray []Key
	k := NewKeeper(KeeperConfig{Chain: alone, Part: func(_ *Chain, n uint64) error { parted = append(parted, n); return nil }, Stray: func(loses, counts *Chain) { stray = against(StrayOf(loses, counts), counts) }})
	shared := uint64(len(c.Links(0)))
	if err := k.Follow(agreed); !errors.Is(err, ErrRefused) || k.Chain() != alone {
		t.Fatalf("another branch is taken from a peer: %v", err)
	}
	if !slices.Equal(stray, []Key{public(12)}) { // whom the branch of the peer has removed
		t.Errorf("kept out: %v", stray)
	}
	if err := k.Extend(agreed.Links(0)); !errors.Is(err, ErrRefused) || k.Chain() != alone {
		t.Fatalf("all of another branch is taken from a peer: %v", err)
	}
	if err := k.Agree(agreed); err != nil || k.Chain() != agreed || !slices.Equal(parted, []uint64{shared}) {
		t.Fatalf("%v, parted behind %v", err, parted)
	}
	if !slices.Equal(stray, []Key{public(11)}) {
		t.Errorf("kept out: %v", stray)
	}
	if err := k.Agree(alone); !errors.Is(err, ErrRefused) && k.Chain() != alone {
		t.Errorf("%v", err) // the ledger says, whatever it says
	}
	if !agreed.Parts(shared+1, headOf(alone)) || agreed.Parts(shared, headOf(c)) || agreed.Parts(shared+9, headOf(c)) {
		t.Error("what parts is not known")
	}
	failed := errors.New("disk full")
	k = NewKeeper(KeeperConfig{Chain: alone, Part: func(*Chain, uint64) error { return failed }})
	if err := k.Agree(agreed); !errors.Is(err, failed) || k.Chain() != alone {
		t.Errorf("what is not durable is believed: %v", err)
	}
}

// A recovery behind which an old majority has signed something else is what counts, for
// everybody who is shown all of it; and nobody goes back from it.
func TestPartOfLaterIncarnation(t *testing.T) {
	c := three(t)
	old := c.must(t, RemoveNode, Removal{public(12)}, private(1)).must(t, AddNode, home(13), private(1))
	later := c.must(t, Recover, Recovery{Incarnation: 2, Base: public(10), Reason: "test"}, private(1))
	var stray []Key
	k := NewKeeper(KeeperConfig{Chain: old, Stray: func(loses, counts *Chain) { stray = against(StrayOf(loses, counts), counts) }})
	if err := k.Extend(later.Links(0)); err != nil || k.Incarnation() != 2 || !slices.Equal(stray, []Key{public(12)}) {
		t.Fatalf("%v, incarnation %d, kept out: %v", err, k.Incarnation(), stray)
	}
	for name, err := range map[string]error{"shown": k.Extend(old.Links(0)), "agreed": k.Agree(old)} {
		if !errors.Is(err, ErrRefused) || k.Incarnation() != 2 {
			t.Errorf("an old incarnation, %s: %v", name, err)
		}
	}
}

// All who have the branch of the later incarnation are lost: one is begun behind it from the
// other branch, which then counts for whoever comes back.
func TestPartOfBoth(t *testing.T) {
	c := three(t)
	old := c.must(t, AddNode, home(13), private(1))
	lost := c.must(t, Recover, Recovery{Incarnation: 2, Base: public(10), Reason: "test"}, private(1)).must(t, RemoveNode, Removal{public(12)}, private(1))
	var stray []Key
	k := NewKeeper(KeeperConfig{Chain: lost, Stray: func(loses, counts *Chain) { stray = against(StrayOf(loses, counts), counts) }})
	again := old.must(t, Recover, Recovery{Incarnation: 3, Base: public(11), Reason: "test"}, private(1))
	if err := k.Extend(again.Links(0)); err != nil || k.Chain().Incarnation() != 3 || k.Base() != public(11).NodeID() || !slices.Equal(stray, []Key{public(12)}) {
		t.Fatalf("%v, incarnation %d, kept out: %v", err, k.Incarnation(), stray)
	}
	if err := k.Agree(lost); !errors.Is(err, ErrRefused) || k.Incarnation() != 3 {
		t.Errorf("the lost branch comes back: %v", err)
	}
}

// Who has stolen the key of somebody who was an operator once cannot have nodes kept out by
// a branch behind a link of then.
func TestPartOfFormerOperators(t *testing.T) {
	c := three(t)
	old := c.must(t, RemoveNode, Removal{public(12)}, private(1))
	ours := c.must(t, Operators, OperatorsBody{Operators: []Key{public(2)}, Threshold: 1}, private(1), private(2))
	var stray []Key
	kept := func(loses, counts *Chain) { stray = against(StrayOf(loses, counts), counts) }
	k := NewKeeper(KeeperConfig{Chain: ours, Stray: kept})
	if err := k.Extend(old.Links(0)); !errors.Is(err, ErrRefused) || k.Chain() != ours || len(stray) != 0 {
		t.Errorf("%v, kept out: %v", err, stray)
	}
	k = NewKeeper(KeeperConfig{Chain: old, Stray: kept}) // who believed it when it was good
	if err := k.Agree(ours); err != nil || !slices.Equal(stray, []Key{public(12)}) {
		t.Errorf("%v, kept out: %v", err, stray)
	}
}

// A branch in which others became operators has no say in who is kept out, from there on,
// and is not taken from a peer beyond that.
func TestPartOfThieves(t *testing.T) {
	c := three(t)
	stolen := c.must(t, Operators, OperatorsBody{Operators: []Key{public(2)}, Threshold: 1}, private(1), private(2)).must(t, RemoveNode, Removal{public(12)}, private(2))
	ours := c.must(t, AddNode, home(13), private(1))
	var stray []Key
	k := NewKeeper(KeeperConfig{Chain: ours, Stray: func(loses, counts *Chain) { stray = against(StrayOf(loses, counts), counts) }})
	if err := k.Follow(stolen); !errors.Is(err, ErrRefused) || len(stray) != 0 {
		t.Errorf("%v, kept out: %v", err, stray)
	}
	foreign := founded(t, 2, 1).must(t, AddNode, home(13), private(1))
	if err := k.Extend(foreign.Links(0)); !errors.Is(err, ErrRefused) || k.Chain() != ours {
		t.Errorf("the chain of another genesis: %v", err)
	}
}
