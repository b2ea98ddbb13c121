package index

import (
	"context"
	"iter"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Placed is a chunk and its place.
type Placed struct {
	Digest chunks.Digest
	Loc    Loc
}

// Stream yields what comes over the channel, until that is closed or ctx ends.
func Stream(ctx context.Context, batches <-chan []Placed) iter.Seq2[chunks.Digest, Loc] {
	return func(yield func(chunks.Digest, Loc) bool) {
		for {
			select {
			case recs, ok := <-batches:
				if !ok {
					return
				}
				for _, r := range recs {
					if !yield(r.Digest, r.Loc) {
						return
					}
				}
			case <-ctx.Done():
				return
			}
		}
	}
}
