package bitmap

import (
	"slices"
	"testing"
)

func TestSets(t *testing.T) {
	var set []uint64
	for _, n := range []uint32{3, 64, 200} {
		Add(&set, n)
	}
	if Has(set, 2) || !Has(set, 3) || !Has(set, 64) || !Has(set, 200) || Has(set, 100_000) {
		t.Errorf("the set is %x", set)
	}
	if fresh := Or(&set, []uint64{1<<3 | 1<<4}); fresh != 1 || !Has(set, 4) {
		t.Errorf("one was new, Or says %d", fresh)
	}
	if got := Others(set, 6); !slices.Equal(got, []uint64{1 | 1<<1 | 1<<2 | 1<<5}) {
		t.Errorf("others are %x", got)
	}
	if got := Others([]uint64{^uint64(0)}, 64); got != nil {
		t.Errorf("of a full set the others are %x", got)
	}
}
