package authority

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"testing"
)

func keys(numbers ...byte) (all []ed25519.PrivateKey) {
	for _, n := range numbers {
		all = append(all, private(n))
	}
	return all
}

func operators(threshold int, numbers ...byte) (o OperatorsBody) {
	for _, n := range numbers {
		o.Operators = append(o.Operators, public(n))
	}
	o.Threshold = threshold
	return o
}

// theirs tells whether a chain has these operators.
func theirs(c *Chain, o OperatorsBody) bool {
	now, k := c.Operators()
	return slices.Equal(now, o.Operators) && k == o.Threshold
}

// Who had as many keys as must sign made others the operators at once, and nobody
// whose key was not among them heard of it first.
func TestNewOperatorsWait(t *testing.T) {
	c := founded(t, 3, 2)
	old, thief := operators(2, 1, 2, 3), operators(1, 9)
	if at := c.must(t, NewOperators, thief, keys(1, 2, 3, 9)...); !theirs(at, thief) {
		t.Error("it waits, though all have signed")
	}
	if at := c.must(t, NewOperators, thief, keys(1, 2, 99, 9)...); !theirs(at, thief) {
		t.Error("it waits, though the recovery key has signed for the third")
	}
	waits := c.must(t, NewOperators, thief, keys(1, 2, 9)...)
	p, is := waits.Pending()
	if !theirs(waits, old) || !is || p.Seq != 1 || p.Body.Threshold != 1 || !slices.Equal(p.Signers, []Key{public(1), public(2)}) {
		t.Errorf("%+v, %v", p, is)
	}
	if again, err := Read(waits.Links(0)); err != nil {
		t.Error(err)
	} else if q, _ := again.Pending(); q.Seq != p.Seq || !slices.Equal(q.Signers, p.Signers) {
		t.Errorf("read again it is %+v", q)
	}
	waits = waits.must(t, AddNode, home(10), keys(1, 3)...) // the operators of before still sign
	if enacted := waits.must(t, Enact, Waiting{1}); !theirs(enacted, thief) {
		t.Error("it does not count when it is enacted")
	} else if _, still := enacted.Pending(); still {
		t.Error("it waits, and counts")
	}
	for by, key := range map[string]byte{"who did not sign": 3, "who did": 1, "the recovery key": 99} {
		gone := waits.must(t, Veto, Waiting{1}, private(key))
		if _, still := gone.Pending(); still || !theirs(gone, old) {
			t.Errorf("vetoed by %s it waits still", by)
		}
		if _, err := gone.Next(gone.Sign(gone.Draft(Enact, Waiting{1}))); !errors.Is(err, ErrRefused) {
			t.Errorf("vetoed by %s it can be enacted: %v", by, err)
		}
	}
	after := waits.must(t, NewOperators, operators(1, 1), keys(1, 2, 3)...)
	if _, still := after.Pending(); still || !theirs(after, operators(1, 1)) {
		t.Error("a change by all leaves one waiting that was for the operators of before")
	}
}

func TestRefusedAboutOperators(t *testing.T) {
	c := founded(t, 3, 2)
	waits := c.must(t, NewOperators, operators(1, 9), keys(1, 2, 9)...)
	tests := []struct {
		name string
		c    *Chain
		kind uint8
		body any
		keys []ed25519.PrivateKey
		want string
	}{
		{"too few of the old ones", c, NewOperators, operators(1, 9), keys(1, 9), "1 of the operators have signed, want 2"},
		{"too few, and the recovery key", c, NewOperators, operators(1, 9), keys(1, 99, 9), "1 of the operators have signed, want 2"},
		{"one that has not shown its key", c, NewOperators, operators(1, 9), keys(1, 2), "not every new operator"},
		{"one of those who wait has not", c, NewOperators, operators(2, 1, 3, 9), keys(1, 2, 9), "not every new operator"},
		{"operators that nobody can be", c, NewOperators, operators(2, 9), keys(1, 2, 9), "2 of 1 operators"},
		{"a second one that waits", waits, NewOperators, operators(1, 8), keys(2, 3, 8), "waits already"},
		{"enacting when nothing waits", c, Enact, Waiting{1}, nil, "no change of the operators"},
		{"enacting another one", waits, Enact, Waiting{2}, nil, "no change of the operators of link 2 waits"},
		{"enacting with a signature", waits, Enact, Waiting{1}, keys(1), "no signatures"},
		{"a veto by nobody", waits, Veto, Waiting{1}, nil, "none of the operators"},
		{"a veto by who is to be one", waits, Veto, Waiting{1}, keys(9), "none of the operators"},
		{"a veto of another one", waits, Veto, Waiting{2}, keys(3), "no change of the operators of link 2 waits"},
		{"a veto when nothing waits", c, Veto, Waiting{1}, keys(3), "no change of the operators"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.c.Next(tt.c.Sign(tt.c.Draft(tt.kind, tt.body), tt.keys...))
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want an error with %q", err, tt.want)
			}
		})
	}
	link := c.Sign(c.Draft(NewOperators, operators(1, 9)), keys(1, 2, 9)...)
	for i := range link { // and no byte of it can be changed
		bad := bytes.Clone(link)
		bad[i] ^= 1
		if _, err := c.Next(bad); !errors.Is(err, ErrRefused) {
			t.Fatalf("with byte %d changed it is taken: %v", i, err)
		}
	}
}

// A chain has no clock, so what a peer shows is not believed from the link on that
// makes others operators without the word of all: a thief who is a member would show
// it to each node, and wait for nothing.
func TestPeersEnactNothing(t *testing.T) {
	c := founded(t, 3, 2)
	thief := operators(1, 9)
	waits := c.must(t, NewOperators, thief, keys(1, 2, 9)...)
	enacted := waits.must(t, Enact, Waiting{1}).must(t, AddNode, home(10), private(9))
	hasty := c.must(t, Operators, thief, keys(1, 2, 9)...)

	known := uint64(0)
	k := NewKeeper(KeeperConfig{Chain: c, Ripe: func(seq uint64) bool { return seq == known }})
	if err := k.Extend(enacted.Links(1)); err != nil {
		t.Error(err)
	}
	if n, _ := k.Head(); n != 2 || theirs(k.Chain(), thief) {
		t.Errorf("it took %d links, the operators are %v", n, k.Chain().operators)
	}
	if err := k.Extend(enacted.Links(2)); err != nil || k.Member(public(10).NodeID()) == nil {
		t.Errorf("a node is let in by who is no operator yet: %v", err)
	}
	old := NewKeeper(KeeperConfig{Chain: c, Ripe: func(uint64) bool { return true }})
	if err := old.Extend(hasty.Links(1)); err != nil || theirs(old.Chain(), thief) {
		t.Errorf("a link of the form without a delay was taken from a peer: %v", err)
	}
	all := NewKeeper(KeeperConfig{Chain: c})
	if err := all.Extend(c.must(t, NewOperators, thief, keys(1, 2, 3, 9)...).Links(1)); err != nil || !theirs(all.Chain(), thief) {
		t.Errorf("what all have signed is not taken from a peer: %v", err)
	}
	known = 1 // the node has known of the change for long, and nobody brings it the ledger
	if err := k.Extend(enacted.Links(2)); err != nil || !theirs(k.Chain(), thief) || k.Member(public(10).NodeID()) != nil {
		t.Errorf("it is not taken when it is ripe: %v", err)
	}
	byLedger := NewKeeper(KeeperConfig{Chain: waits})
	if err := byLedger.Follow(enacted); err != nil || !theirs(byLedger.Chain(), thief) {
		t.Errorf("the ledger is not believed: %v", err)
	}
}
