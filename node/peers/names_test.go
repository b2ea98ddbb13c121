package peers

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/mesh/join"
)

// Names by which people could mean another member are refused: a joiner that had the
// ID of a member as its name was blocked in the place of that, and N1 stood beside n1.
func TestNamesOfOthers(t *testing.T) {
	for name, taken := range map[string]bool{
		"dc": false, "12d3": false, authority.Key{7}.NodeID(): true, authority.Key{7}.NodeID()[:9]: true, "12d3koow": true,
	} {
		if LooksLikeID(name) != taken {
			t.Errorf("%q looks like an ID: %t", name, !taken)
		}
	}
	others := map[string]ledger.Member{
		authority.Key{1}.NodeID(): {Name: "n1", State: ledger.Active},
		authority.Key{2}.NodeID(): {Name: "gone", State: ledger.Removed},
	}
	for name, good := range map[string]bool{"n2": true, "n1": false, "N1": false, "GONE": true, "12D3KooWx": false} {
		err := nameable(others, authority.Key{3}.NodeID(), name)
		if (err == nil) != good || !good && !errors.Is(err, join.ErrTaken) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := nameable(others, authority.Key{1}.NodeID(), "n1"); err != nil {
		t.Errorf("the same machine again: %v", err)
	}
}

// What may be in the ledger is not called undone: "outcome unknown" was told as "the token
// is not used up", and it was.
func TestNoDecision(t *testing.T) {
	for err, want := range map[error]error{
		consensus.ErrNoLeader: join.ErrNoQuorum, consensus.ErrStopped: join.ErrNoQuorum, consensus.ErrUnknown: join.ErrUndecided, errors.ErrUnsupported: nil,
	} {
		if got := noDecision(fmt.Errorf("x: %w", err)); !errors.Is(got, want) {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// `node join --replaces n9` with a token that was made for the place of n3 made a node
// n9 with none of the datastores of n3, and said nothing.
func TestReplacesOnlyWhoWasRemoved(t *testing.T) {
	operator := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	found := authority.Found(authority.GenesisBody{Cluster: [16]byte{1}, Operators: []authority.Key{authority.PublicKey(operator)}, Threshold: 1}, operator)
	chain, err := authority.Read([][]byte{found})
	if err != nil {
		t.Fatal(err)
	}
	add := func(kind uint8, body any) {
		t.Helper()
		if chain, err = chain.Next(chain.Sign(chain.Draft(kind, body), operator)); err != nil {
			t.Fatal(err)
		}
	}
	add(authority.AddNode, authority.Node{Key: authority.Key{1}, Name: "n1", Site: "s1", Role: "full", Votes: true})
	add(authority.AddNode, authority.Node{Key: authority.Key{3}, Name: "n3", Site: "s3", Role: "full"})
	if err := replaceable(chain.Links(0), "full", "n3"); err == nil {
		t.Error("n3, which is there, is replaced")
	}
	add(authority.RemoveNode, authority.Removal{Key: authority.Key{3}})
	for name, good := range map[string]bool{"n3": true, "": true, "n9": false, "n1": false} {
		if err := replaceable(chain.Links(0), "full", name); (err == nil) != good || !good && !strings.Contains(err.Error(), "n3") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := replaceable(chain.Links(0), "replica", "n9"); err != nil {
		t.Errorf("a replica need not be in the chain: %v", err)
	}
}
