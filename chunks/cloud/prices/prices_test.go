package prices

import (
	"testing"
)

func TestPrices(t *testing.T) {
	gb := int64(1e9)
	wasabi := List{Storage: 7.99, Minimum: 90 * day}
	aws := List{Storage: 23, Put: 0.000005, Get: 0.0000004, Egress: 90}
	tests := []struct {
		name string
		p    List
		f    Pack
		want bool
	}{
		{"nothing dead", List{}, Pack{Age: 400 * day, Live: gb}, false},
		{"a tenth dead", List{}, Pack{Age: 400 * day, Live: 9 * gb, Dead: gb}, false},
		{"a third dead", List{}, Pack{Age: day, Live: 2 * gb, Dead: gb}, true},
		{"half dead, in its minimum", wasabi, Pack{Age: 60 * day, Live: gb, Dead: gb}, false},
		{"half dead, after its minimum", wasabi, Pack{Age: 91 * day, Live: gb, Dead: gb}, true},
		{"reading costs more than it saves", aws, Pack{Age: 400 * day, Live: 2 * gb, Dead: gb}, false},
		{"nearly all dead, reading costs little", aws, Pack{Age: 400 * day, Live: gb / 10, Dead: gb}, true},
	}
	for _, tt := range tests {
		if got := tt.p.Compact(tt.f); got != tt.want {
			t.Errorf("%s: compact is %t", tt.name, got)
		}
	}
}
