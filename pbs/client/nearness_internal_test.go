package client

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A near server gets a third of the budget, a far one all of it, and the
// largest chunk has room in any.
func TestNearServersGetLessOfTheBudget(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name       string
		trip       time.Duration
		processors int
		most       int64 // MiB on their way
	}{
		{"the same machine", 0, 2, 32},
		{"the same machine, with many processors", 0, 8, 64},
		{"the same town", 20 * time.Millisecond, 2, 52},
		{"another continent", 150 * time.Millisecond, 2, 96},
		{"a server that is hardly alive", time.Hour, 2, 96},
	} {
		d := nearnessOf(DefaultInFlight, tt.trip, tt.processors)
		if most := DefaultInFlight / d.cost(mib); most != tt.most {
			t.Errorf("%s: %d MiB are on their way, want %d", tt.name, most, tt.most)
		}
		if two := 2 * d.cost(chunks.MaxBlob); two > DefaultInFlight {
			t.Errorf("%s: two chunks take %d bytes of %d", tt.name, two, int64(DefaultInFlight))
		}
	}
}
