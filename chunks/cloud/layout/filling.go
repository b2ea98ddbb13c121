package layout

import "github.com/holdfast-mesh/holdfast/chunks/pack/format"

// maxRows bounds the chunks of a pack.
const maxRows = 65536

// A Filling tells how many packs some blobs make, and how long they become, without
// writing them. The zero value but for Sealed and Limit is an empty one.
type Filling struct {
	Sealed bool
	Limit  int64 // bytes of a pack

	Packs, Chunks int64

	before    int64 // bytes of the packs that are full
	end, rows int64 // of the last one
}

// Add adds a blob of n bytes, to the last pack if it has room.
func (f *Filling) Add(n int) {
	start := frameStart(f.Sealed, f.end, n)
	end := start + FrameSize(f.Sealed, uint32(n))
	if f.rows == 0 || f.rows == maxRows || packSize(f.Sealed, end, f.rows+1) > f.Limit {
		f.before, f.rows, f.end = f.Bytes(), 0, sealedHead
		if !f.Sealed {
			f.end = format.HeaderSize
		}
		f.Packs++
		end = frameStart(f.Sealed, f.end, n) + FrameSize(f.Sealed, uint32(n))
	}
	f.end, f.rows, f.Chunks = end, f.rows+1, f.Chunks+1
}

// End is where the blob that was added last ends in its pack.
func (f *Filling) End() int64 { return f.end }

// Bytes are those of all packs.
func (f *Filling) Bytes() int64 {
	if f.rows == 0 {
		return f.before
	}
	return f.before + packSize(f.Sealed, f.end, f.rows)
}
