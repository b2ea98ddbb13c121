// Package stats says of a store in a bucket what people and metrics want to know.
package stats

import (
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cache"
)

// Stats describes a store for people and metrics.
type Stats struct {
	Packs   int   `json:"packs"` // in the bucket
	Chunks  int64 `json:"chunks"`
	Bytes   int64 `json:"bytes"`
	Dead    int64 `json:"dead-bytes"`   // of these, of chunks that nothing needs
	Waiting int   `json:"waiting"`      // packs that are ready and not confirmed
	Lost    int   `json:"lost-packs"`   // packs that the bucket should have and has not, and that are needed
	Buried  int   `json:"buried-packs"` // that nothing needs, and that are not deleted yet

	Condemned int64 `json:"condemned-bytes"` // of these packs, which lie in the bucket until their time is over, and are billed

	Held     time.Time    `json:"held-until,omitzero"` // the last of these is locked until then
	Owner    string       `json:"owner"`
	Epoch    uint64       `json:"epoch"`
	Root     string       `json:"root"`
	Behind   string       `json:"damaged-root,omitempty"` // a newer root, which cannot be read
	Doubt    string       `json:"doubt,omitempty"`        // what cannot be seen; nothing is deleted meanwhile
	Requests bucket.Stats `json:"requests"`
	Cache    cache.Stats  `json:"cache"`
}

// Billed is how many bytes and objects of packs lie in the bucket: those that nothing
// needs are paid for too, until they are deleted.
func (s Stats) Billed() (bytes, objects int64) {
	return s.Bytes + s.Condemned, int64(s.Packs + s.Buried)
}
