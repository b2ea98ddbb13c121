package chunks

import "math/bits"

// A Buffer is memory for one chunk or one blob, lent by a shelf, so that a
// pipeline in steady state allocates nothing. Bytes may be grown and replaced
// freely: what it holds when Free is called is what goes back.
type Buffer struct {
	Bytes []byte

	whole []byte // the memory, if Bytes begins within it
}

const (
	// bufferSlack is what a buffer has beyond its size: room for a blob header
	// (44), for what zstd adds to content that does not compress (18, and 3 per
	// 128 KiB: 3 KiB of 128 MiB), and for a GCM tag (16). It may be asked for with
	// the header counted already, and has room for another one then.
	bufferSlack = 4096

	// Buffers come in sizes of 128 KiB, 256 KiB, …, 16 MiB. Smaller ones are
	// not worth a place of their own; larger ones are too rare, and too much
	// memory, to be kept.
	minBufferBits = 17
	maxBufferBits = 24
	bufferClasses = maxBufferBits - minBufferBits + 1
	largestKept   = 1<<maxBufferBits + bufferSlack
	smallestKept  = 1<<minBufferBits + bufferSlack
)

// buffers has those of the whole process; class k has at least
// 1<<(minBufferBits+k) bytes and the slack.
var buffers shelf

// GetBuffer returns an empty buffer whose Bytes have room for n bytes of
// content, and for the blob that [Encode] makes of them.
func GetBuffer(n int) *Buffer {
	if n > 1<<maxBufferBits+EncryptedHeaderSize {
		return &Buffer{Bytes: make([]byte, 0, n+bufferSlack)}
	}
	class := max(bits.Len(uint(max(n-EncryptedHeaderSize, 1)-1))-minBufferBits, 0) // a blob of 4 MiB of content is no reason for 8
	if b := buffers.take(class); b != nil {
		b.Bytes = b.Bytes[:0]
		return b
	}
	return &Buffer{Bytes: make([]byte, 0, 1<<(minBufferBits+class)+bufferSlack)}
}

// Skip takes the first n bytes away. Afterwards Bytes must be neither grown nor
// replaced.
func (b *Buffer) Skip(n int) {
	if b.whole == nil {
		b.whole = b.Bytes[:0]
	}
	b.Bytes = b.Bytes[n:]
}

// Free returns the memory. Neither b nor a slice of its Bytes may be used
// afterwards.
func (b *Buffer) Free() {
	if b.whole != nil {
		b.Bytes, b.whole = b.whole, nil
	}
	size := cap(b.Bytes)
	if size < smallestKept || size >= 2*largestKept {
		return
	}
	class := min(bits.Len(uint(size-bufferSlack))-1-minBufferBits, bufferClasses-1)
	buffers.put(class, b)
}

// sized returns dst's memory, emptied, or new memory if that has no room for n
// bytes.
func sized(dst []byte, n int) []byte {
	if cap(dst) < n {
		return make([]byte, 0, n)
	}
	return dst[:0]
}
