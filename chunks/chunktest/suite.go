// Package chunktest holds what tests and benchmarks of stores share.
//
// [Run] is the suite that every [chunks.Writer] passes: a new store starts by
// calling it. [Memory] is a store in memory that keeps the same promises and
// no more. [Faulty] puts faults in front of any store. [Blob], [Text],
// [Random] and [Workload] make data that is the same on every machine.
package chunktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Options tell the suite what else it may do with a store.
type Options struct {
	// Reopen ends w as a crash would, or closes it, and opens the same place
	// again. Without it the suite cannot see what Commit made durable.
	Reopen func(t *testing.T, w chunks.Writer) chunks.Writer
}

// Run checks that stores keep the contract of [chunks.Writer], and that of
// [chunks.BatchSource] if they are one. Each part gets an empty store from
// open, which is also responsible for closing it when the test ends.
func Run(t *testing.T, open func(t *testing.T) chunks.Writer, options ...Options) {
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) {
			if err := c.check(t.Context(), open(t)); err != nil {
				t.Error(err)
			}
		})
	}
	for _, o := range options {
		if o.Reopen == nil {
			continue
		}
		t.Run("what was committed survives a reopening", func(t *testing.T) {
			reopen := func(w chunks.Writer) chunks.Writer { return o.Reopen(t, w) }
			if err := survives(t.Context(), open(t), reopen); err != nil {
				t.Error(err)
			}
		})
	}
}

// A promise of every store. Its check gets an empty one and says how it broke
// the promise.
type promise struct {
	name  string
	check func(context.Context, chunks.Writer) error
}

// contract is the suite.
var contract = []promise{
	{"a store names itself", namesItself},
	{"an empty store holds nothing", emptyHoldsNothing},
	{"every kind of blob comes back byte for byte", kindsComeBack},
	{"blobs of every size come back", sizesComeBack},
	{"many small chunks come back", smallOnesComeBack},
	{"a chunk put twice is known and stays as it was", secondPutIsKnown},
	{"a blob with a damaged frame is refused", damageIsRefused},
	{"Missing keeps the order and the duplicates of what was asked", missingKeepsOrder},
	{"a chunk that is not there fails with its name and the place", absenceIsNamed},
	{"Get uses the buffer if it is large enough", getUsesBuffer},
	{"what Get returned is the caller's", resultIsIndependent},
	{"Put keeps nothing of what it was given", putDoesNotRetain},
	{"goroutines put different chunks", concurrentDifferent},
	{"goroutines put the same chunks", concurrentSame},
	{"GetMany hands over each chunk once", batchEachOnce},
	{"GetMany hands over a missing chunk as an error", batchMissing},
	{"GetMany ends with the error of its function", batchStops},
	{"GetMany ends with its context", batchCancelled},
	{"a cancelled call says so and harms nothing", cancelledHarmsNothing},
}

// putAll puts every one of cs and wants it to be new.
func putAll(ctx context.Context, w chunks.Writer, cs ...Chunk) error {
	for _, c := range cs {
		known, err := w.Put(ctx, c.Digest, c.Blob)
		if err != nil {
			return fmt.Errorf("put %s of %d bytes: %w", c.Digest.Short(), len(c.Blob), err)
		}
		if known {
			return fmt.Errorf("put %s for the first time: known already", c.Digest.Short())
		}
	}
	return nil
}

// holds wants every one of cs to be there, byte for byte.
func holds(ctx context.Context, w chunks.Store, cs ...Chunk) error {
	missing, err := w.Missing(ctx, digests(cs))
	if err != nil {
		return fmt.Errorf("ask for what is missing: %w", err)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%d of %d chunks are missing, the first is %s", len(missing), len(cs), missing[0].Short())
	}
	for _, c := range cs {
		got, err := w.Get(ctx, c.Digest, nil)
		if err != nil {
			return fmt.Errorf("get %s of %d bytes: %w", c.Digest.Short(), len(c.Blob), err)
		}
		if !slices.Equal(got, c.Blob) {
			return fmt.Errorf("get %s: other bytes came back: %s", c.Digest.Short(), firstDifference(got, c.Blob))
		}
	}
	return nil
}

// absent wants d to be missing, in both ways of asking.
func absent(ctx context.Context, w chunks.Store, d chunks.Digest) error {
	missing, err := w.Missing(ctx, []chunks.Digest{d})
	if err != nil {
		return fmt.Errorf("ask whether %s is missing: %w", d.Short(), err)
	}
	if !slices.Equal(missing, []chunks.Digest{d}) {
		return fmt.Errorf("chunk %s should be missing, Missing returned %v", d.Short(), missing)
	}
	if b, err := w.Get(ctx, d, nil); !errors.Is(err, chunks.ErrMissing) {
		return fmt.Errorf("get %s that is missing: %d bytes and error %v, want %v", d.Short(), len(b), err, chunks.ErrMissing)
	}
	return nil
}

func firstDifference(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d of %d is %02x, want %02x", i, len(want), got[i], want[i])
		}
	}
	return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
}

// digests returns the names of cs, in order.
func digests(cs []Chunk) []chunks.Digest {
	ds := make([]chunks.Digest, len(cs))
	for i, c := range cs {
		ds[i] = c.Digest
	}
	return ds
}

// few returns n small chunks.
func few(seed uint64, n int) []Chunk {
	return slices.Collect(Workload{Seed: seed, Count: n, MinSize: 16, MaxSize: 3000}.All())
}
