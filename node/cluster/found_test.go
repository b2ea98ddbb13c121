package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/node/cluster/home"
)

// A token of another cluster changes nothing in a directory that belongs to one, also if
// who belongs to that is gone from it: the guard knows whose it is. (The chain of the
// other cluster was written there before the guard refused it, and the token was used.)
func TestAnotherClusterIsNotEntered(t *testing.T) {
	cfg := made(t, Founding{})
	chain, err := home.ReadChain(filepath.Join(cfg.Dir, home.Authority))
	must(t, err)
	own, other := chain.GenesisHash(), [32]byte{1}
	for _, lost := range []bool{false, true} {
		if lost {
			must(t, os.Remove(filepath.Join(cfg.Dir, home.Authority)))
		}
		var hint interface{ Hint() string }
		if err := home.Join(cfg.Dir, other); !errors.As(err, &hint) || hint.Hint() == "" {
			t.Errorf("lost: %t: another cluster is joined: %v", lost, err)
		}
		if err := home.Join(cfg.Dir, own); err != nil {
			t.Errorf("lost: %t: its own: %v", lost, err)
		}
		if err := home.Found(cfg.Dir); !errors.As(err, &hint) {
			t.Errorf("lost: %t: another is founded: %v", lost, err)
		}
	}
	must(t, Enter(cfg, chain)) // with the answer of its own cluster it is whole again
	must(t, Enter(cfg, chain))
	c := opened(t, cfg)
	if !c.Signed(c.Self()) {
		t.Error("it is not in its cluster")
	}
}
