package consensustest

import (
	"sync"
	"testing"
)

func TestSeeds(t *testing.T) {
	for _, tt := range []struct {
		soak, says string
		first, end uint64
	}{
		{"", "", 0, 20},
		{"1", "", 0, 200},
		{"1", "all", 0, 0},
		{"", "500", 0, 500},
		{"", "=17", 17, 18},
	} {
		t.Setenv("HOLDFAST_SOAK", tt.soak)
		t.Setenv("HOLDFAST_SEEDS", tt.says)
		if first, end, err := seeds(20); first != tt.first || end != tt.end || err != nil {
			t.Errorf("with %q and %q: from %d to %d, %v", tt.soak, tt.says, first, end, err)
		}
	}
	t.Setenv("HOLDFAST_SEEDS", "many")
	if _, _, err := seeds(20); err == nil {
		t.Error("that is no number of seeds")
	}
}

// Each seed is run once, also those behind the first that are run together.
func TestEachSeedOnce(t *testing.T) {
	t.Setenv("HOLDFAST_SEEDS", "450")
	var mu sync.Mutex
	ran := map[uint64]int{}
	Seeds(t, 1, func(_ *testing.T, seed uint64) {
		mu.Lock()
		defer mu.Unlock()
		ran[seed]++
	})
	for seed := range uint64(450) {
		if ran[seed] != 1 {
			t.Errorf("seed %d ran %d times", seed, ran[seed])
		}
	}
	if len(ran) != 450 {
		t.Errorf("%d seeds ran", len(ran))
	}
}
