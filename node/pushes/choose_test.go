package pushes

import (
	"fmt"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/listing"
)

func infos(times ...int64) (all []listing.Info) {
	for _, t := range times {
		all = append(all, listing.Info{Time: t})
	}
	return all
}

// What is pushed is newer than the newest there, of the newest last, the oldest
// first.
func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		name        string
		here, there []listing.Info
		last        int
		want        string
	}{
		{"all to an empty group", infos(3, 1, 2), nil, 0, "[1 2 3]"},
		{"what is newer", infos(1, 2, 3, 4), infos(2, 1), 0, "[3 4]"},
		{"a gap is not filled", infos(1, 2, 3), infos(1, 3), 0, "[]"},
		{"not what is there", infos(2), infos(2), 0, "[]"},
		{"the newest two", infos(1, 2, 3, 4), infos(1), 2, "[3 4]"},
		{"the newest five of three", infos(1, 2, 3), nil, 5, "[1 2 3]"},
		{"the newest, of which one is there", infos(1, 2, 3), infos(2), 2, "[3]"},
		{"nothing here", nil, infos(2), 0, "[]"},
	} {
		g := group{all: tt.here, there: tt.there}
		g.choose(tt.last)
		times := []int64{}
		for _, i := range g.fresh {
			times = append(times, i.Time)
		}
		if got := fmt.Sprint(times); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
