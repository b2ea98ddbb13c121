package stats

import "testing"

// A bill that left out what is condemned was too low, most where 90 days are paid for.
func TestBilled(t *testing.T) {
	if bytes, objects := (Stats{Packs: 1, Bytes: 12, Dead: 3, Buried: 4, Condemned: 130}).Billed(); bytes != 142 || objects != 5 {
		t.Errorf("%d bytes in %d objects", bytes, objects)
	}
}
