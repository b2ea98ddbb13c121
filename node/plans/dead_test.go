package plans

import (
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// What was moved to the bucket was called garbage of no snapshot.
func TestWhyChunksGo(t *testing.T) {
	p := gc.PackPlan{Live: 3, Dead: 5}
	for given, want := range map[uint32]string{
		0: "no snapshot names 5 of its 8 chunks",
		2: "no snapshot names 3 of its 8 chunks; 2 of its 8 chunks were moved to the bucket, or given up by a collection",
		9: "5 of its 8 chunks were moved to the bucket, or given up by a collection",
	} {
		if got := dead(p, given); got != want {
			t.Errorf("%d given up: %q, want %q", given, got, want)
		}
	}
}
