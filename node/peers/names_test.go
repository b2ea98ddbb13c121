package peers

import (
	"errors"
	"testing"

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
