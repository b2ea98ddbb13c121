package chunks

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"math/bits"
)

// SlotSize is the size in bytes of the chunks of disk images, the only one
// that PBS servers accept.
const SlotSize = 4 << 20

var fixedMagic = [magicSize]byte{0x2f, 0x7f, 0x41, 0xed, 0x91, 0xfd, 0x0f, 0xcd}

// Fixed is the index of a disk image (.fidx), whose chunks all have the same
// size except for a shorter last one. It is made by [ParseFixed], [OpenIndex]
// or a [FixedBuilder].
type Fixed struct {
	indexFile
	size  int64
	shift int // a chunk has 1<<shift bytes
}

// ParseFixed checks a fixed index file and gives access to it. The result
// refers to file's memory, which may be a mapping and must not change; only
// the header is read. It fails with [ErrBadIndex].
func ParseFixed(file []byte) (*Fixed, error) {
	magic, err := indexMagic(file)
	if err != nil {
		return nil, err
	}
	if magic != fixedMagic {
		return nil, fmt.Errorf("%w: %x is not the magic of a fixed index", ErrBadIndex, magic)
	}
	size := binary.LittleEndian.Uint64(file[imageSizeStart:])
	slot := binary.LittleEndian.Uint64(file[chunkSizeStart:])
	switch {
	case size == 0 || size > math.MaxInt64:
		return nil, fmt.Errorf("%w: an image of %d bytes", ErrBadIndex, size)
	case slot > MaxPlain || bits.OnesCount64(slot) != 1:
		return nil, fmt.Errorf("%w: chunks of %d bytes, want a power of two up to %d", ErrBadIndex, slot, MaxPlain)
	}
	x := &Fixed{newIndexFile(file), int64(size), bits.TrailingZeros64(slot)}
	body := int64(len(x.body()))
	if n := slots(x.size, x.ChunkSize()); body%DigestSize != 0 || body/DigestSize != n {
		return nil, fmt.Errorf("%w: its body has %d bytes, want %d digests for an image of %d bytes in chunks of %d", ErrBadIndex, body, n, size, slot)
	}
	return x, nil
}

// slots returns how many chunks an image of size bytes has.
func slots(size, chunkSize int64) int64 {
	if size == 0 {
		return 0
	}
	return (size-1)/chunkSize + 1
}

// Len returns the number of chunks.
func (x *Fixed) Len() int { return len(x.body()) / DigestSize }

// Size returns the size of the image in bytes.
func (x *Fixed) Size() int64 { return x.size }

// ChunkSize returns the size in bytes of every chunk but the last.
func (x *Fixed) ChunkSize() int64 { return 1 << x.shift }

// Digest returns the digest of chunk i.
func (x *Fixed) Digest(i int) Digest { return Digest(x.body()[i*DigestSize:]) }

// All yields every chunk's number and digest, in order.
func (x *Fixed) All() iter.Seq2[int, Digest] { return digests(x.Len(), x.Digest) }

// Range returns which bytes of the image chunk i is: [start, end).
func (x *Fixed) Range(i int) (start, end int64) {
	if uint(i) >= uint(x.Len()) {
		panic(fmt.Sprintf("chunk %d of an index of %d", i, x.Len()))
	}
	start = int64(i) << x.shift
	return start, start + min(x.ChunkSize(), x.size-start)
}

// Find returns the chunk that the byte at offset lies in, and false if the
// image has no such byte.
func (x *Fixed) Find(offset int64) (i int, ok bool) {
	if offset < 0 || offset >= x.size {
		return 0, false
	}
	return int(offset >> x.shift), true
}

// Check compares the header's sum and looks for zero digests, see [Index].
func (x *Fixed) Check() error { return checkIndex(x) }
