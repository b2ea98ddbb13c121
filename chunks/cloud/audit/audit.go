// Package audit compares what a bucket lists with what should be in it.
package audit

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// A Report is what was found, and what was done about it.
type Report struct {
	Objects int            `json:"objects"`
	Bytes   int64          `json:"bytes"`
	Missing []format.ID    `json:"missing,omitempty"` // packs
	Wrong   []format.ID    `json:"wrong,omitempty"`   // packs of another length
	Classes map[string]int `json:"classes"`           // objects by storage class
	Orphans []string       `json:"orphans,omitempty"` // objects that no root names, older than the grace
	Deleted int            `json:"deleted"`

	Restored []string `json:"restored,omitempty"` // small objects that were gone or damaged, and were written anew
	Gone     []string `json:"gone,omitempty"`     // those that could not be
}

// A Pack should be in the bucket.
type Pack struct {
	ID   format.ID
	Size int64
}

// Compare compares objects with packs. It fails if so much would be gone that the
// listing is not to be believed: more than one pack, and more than one in a hundred.
func Compare(found map[string]bucket.Info, packs []Pack) (r Report, err error) {
	r.Classes = map[string]int{}
	for _, o := range found {
		r.Objects, r.Bytes = r.Objects+1, r.Bytes+o.Size
		r.Classes[o.Class]++
	}
	for _, p := range packs {
		o, ok := found[layout.PackKey(p.ID)]
		switch {
		case !ok:
			r.Missing = append(r.Missing, p.ID)
		case o.Size != p.Size:
			r.Wrong = append(r.Wrong, p.ID)
		}
	}
	if gone := len(r.Missing) + len(r.Wrong); gone > 1 && gone*100 > len(packs) {
		err = fmt.Errorf("%w: %d of %d packs would be gone; nothing was changed", bucket.ErrListing, gone, len(packs))
	}
	return r, err
}
