package audit

import (
	"errors"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		packs, missing, wrong int
		fails                 bool
	}{{0, 0, 0, false}, {1, 1, 0, false}, {50, 1, 0, false}, {50, 1, 1, true}, {50, 2, 0, true}, {300, 2, 1, false}, {299, 2, 1, true}} {
		found := map[string]bucket.Info{"format": {Size: 7, Class: "STANDARD"}}
		var packs []Pack
		for i := range tt.packs {
			p := Pack{ID: format.NewID(), Size: int64(1000 + i)}
			packs = append(packs, p)
			if o := (bucket.Info{Size: p.Size, Class: "COLD"}); i >= tt.missing {
				if i < tt.missing+tt.wrong {
					o.Size--
				}
				found[layout.PackKey(p.ID)] = o
			}
		}
		r, err := Compare(found, packs)
		if tt.fails != errors.Is(err, bucket.ErrListing) || !tt.fails && err != nil {
			t.Errorf("%+v: %v", tt, err)
		}
		if len(r.Missing) != tt.missing || len(r.Wrong) != tt.wrong || r.Objects != len(found) || r.Classes["COLD"] != len(found)-1 || r.Classes["STANDARD"] != 1 {
			t.Errorf("%+v: %+v", tt, r)
		}
	}
}

// Packs in an archive class are counted: an audit said OK of a bucket of which nothing
// could be read.
func TestArchivedPacksAreSeen(t *testing.T) {
	found, packs := map[string]bucket.Info{}, []Pack(nil)
	for _, class := range []string{"STANDARD", "GLACIER", "DEEP_ARCHIVE", "GLACIER_IR", ""} {
		p := Pack{ID: format.NewID(), Size: 9}
		packs = append(packs, p)
		found[layout.PackKey(p.ID)] = bucket.Info{Size: 9, Class: class}
	}
	found["x"] = bucket.Info{Class: "GLACIER"} // none of ours
	if r, err := Compare(found, packs); err != nil || r.Archived != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}
