package reader

import (
	"context"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// contents finds chunks of an index by their digests. It takes four bytes for
// each chunk beside the index itself: a map of the digests of a disk of 10 TiB
// would take 200 MB.
type contents struct {
	index  chunks.Index
	sorted []uint32 // numbers of chunks, in the order of their digests

	plan chunks.Plan // of a store that plans by itself; else nil
}

func newContents(x chunks.Index) *contents {
	c := &contents{index: x, sorted: make([]uint32, x.Len())}
	for i := range c.sorted {
		c.sorted[i] = uint32(i)
	}
	slices.SortFunc(c.sorted, func(a, b uint32) int {
		if n := x.Digest(int(a)).Compare(x.Digest(int(b))); n != 0 {
			return n
		}
		return int(a) - int(b)
	})
	return c
}

// find returns the number of the first chunk that has the digest d.
func (c *contents) find(d chunks.Digest) (at int, ok bool) {
	i, ok := slices.BinarySearchFunc(c.sorted, d, func(n uint32, d chunks.Digest) int {
		return c.index.Digest(int(n)).Compare(d)
	})
	if !ok {
		return 0, false
	}
	return int(c.sorted[i]), true
}

// get returns the blob of chunk at by the plan, in a buffer that the caller
// frees.
func (c *contents) get(ctx context.Context, at int) (chunks.Blob, *chunks.Buffer, error) {
	start, end := c.index.Range(at)
	buffer := chunks.GetBuffer(int(end - start))
	blob, err := c.plan.Get(ctx, at, buffer.Bytes)
	if err != nil {
		buffer.Free()
		return nil, nil, err
	}
	return blob, buffer, nil
}
