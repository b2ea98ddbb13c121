package chunks

import (
	"encoding/binary"
	"fmt"
	"iter"
	"sort"
	"time"
)

var dynamicMagic = [magicSize]byte{0x1c, 0x91, 0x4e, 0xa5, 0x19, 0xba, 0xb3, 0xcd}

// A dynamic index has an entry per chunk: where it ends (exclusive, from the
// start of the content, 8 bytes) and its digest.
const dynamicEntrySize = 8 + DigestSize

// Dynamic is the index of an archive (.didx), whose chunks differ in size. It
// is made by [ParseDynamic], [OpenIndex] or a [DynamicBuilder].
type Dynamic struct{ indexFile }

// ParseDynamic checks a dynamic index file and gives access to it. The result
// refers to file's memory, which may be a mapping and must not change. It
// fails with [ErrBadIndex].
func ParseDynamic(file []byte) (*Dynamic, error) {
	magic, err := indexMagic(file)
	if err != nil {
		return nil, err
	}
	if magic != dynamicMagic {
		return nil, fmt.Errorf("%w: %x is not the magic of a dynamic index", ErrBadIndex, magic)
	}
	x := &Dynamic{newIndexFile(file)}
	if body := len(x.body()); body%dynamicEntrySize != 0 {
		return nil, fmt.Errorf("%w: its body has %d bytes, which is no multiple of %d", ErrBadIndex, body, dynamicEntrySize)
	}
	last := int64(0)
	for i := range x.Len() {
		end := x.end(i)
		if end <= last {
			return nil, fmt.Errorf("%w: chunk %d ends at %d, the one before at %d", ErrBadIndex, i, uint64(end), last)
		}
		last = end
	}
	return x, nil
}

// end returns where chunk i ends; it is negative if no file is that long.
func (x *Dynamic) end(i int) int64 {
	return int64(binary.LittleEndian.Uint64(x.body()[i*dynamicEntrySize:]))
}

// Len returns the number of chunks.
func (x *Dynamic) Len() int { return len(x.body()) / dynamicEntrySize }

// Size returns the length of the content in bytes.
func (x *Dynamic) Size() int64 {
	if n := x.Len(); n > 0 {
		return x.end(n - 1)
	}
	return 0
}

// Digest returns the digest of chunk i.
func (x *Dynamic) Digest(i int) Digest { return Digest(x.body()[i*dynamicEntrySize+8:]) }

// All yields every chunk's number and digest, in order.
func (x *Dynamic) All() iter.Seq2[int, Digest] { return digests(x.Len(), x.Digest) }

// Range returns which bytes of the content chunk i is: [start, end).
func (x *Dynamic) Range(i int) (start, end int64) {
	if i > 0 {
		start = x.end(i - 1)
	}
	return start, x.end(i)
}

// Find returns the chunk that the byte at offset lies in, and false if the
// content has no such byte.
func (x *Dynamic) Find(offset int64) (i int, ok bool) {
	if offset < 0 || offset >= x.Size() {
		return 0, false
	}
	return sort.Search(x.Len(), func(i int) bool { return x.end(i) > offset }), true
}

// Check compares the header's sum and looks for zero digests, see [Index].
func (x *Dynamic) Check() error { return checkIndex(x) }

// A DynamicBuilder puts a [Dynamic] together. The zero value is ready for use,
// and so is one whose Finish was called. It is not safe for concurrent use.
type DynamicBuilder struct {
	file []byte // room for the header, then entries
	end  int64
}

// End returns where the last chunk ends and the next begins.
func (b *DynamicBuilder) End() int64 { return b.end }

// Append says that the content continues with the chunk d up to end.
func (b *DynamicBuilder) Append(end int64, d Digest) error {
	switch {
	case end <= b.end:
		return fmt.Errorf("append chunk %s to a dynamic index: it ends at %d, the one before at %d", d.Short(), end, b.end)
	case d == (Digest{}):
		return fmt.Errorf("append chunk that ends at %d to a dynamic index: the digest is zero", end)
	case len(b.file) > MaxIndex-dynamicEntrySize:
		return fmt.Errorf("append chunk %s to a dynamic index: it has %d bytes, at most %d are allowed", d.Short(), len(b.file), MaxIndex)
	}
	if b.file == nil {
		b.file = make([]byte, indexHeaderSize)
	}
	b.file = binary.LittleEndian.AppendUint64(b.file, uint64(end))
	b.file = append(b.file, d[:]...)
	b.end = end
	return nil
}

// Finish returns the index and begins a new one.
func (b *DynamicBuilder) Finish(uuid UUID, ctime time.Time) (*Dynamic, error) {
	file := b.file
	if file == nil {
		file = make([]byte, indexHeaderSize)
	}
	*b = DynamicBuilder{}
	finishHeader(file, dynamicMagic, uuid, ctime)
	return ParseDynamic(file)
}
