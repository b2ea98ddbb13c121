package disk

import (
	"sync"
	"unsafe"
)

// AlignedBuffer returns n zero bytes for files opened with [Direct]: address
// and capacity are multiples of [DirectAlign].
func AlignedBuffer(n int) []byte {
	size := (n + DirectAlign - 1) &^ (DirectAlign - 1)
	b := make([]byte, size+DirectAlign)
	// The heap does not move, so what is aligned now stays aligned.
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (DirectAlign - 1)
	return b[skip : skip+n : skip+size]
}

// IsAligned reports whether memory, offset and length suit a file opened with
// [Direct].
func IsAligned(p []byte, off int64) bool {
	address := uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	return (uint64(address)|uint64(len(p))|uint64(off))%DirectAlign == 0
}

// LargeBytes is the size of the buffers that [GetLarge] lends: large enough
// that reading and writing past the page cache runs at the speed of the disk,
// small enough that a few of them for each stream do not matter.
const LargeBytes = 4 << 20

// large holds *[LargeBytes]byte, aligned.
var large sync.Pool

// GetLarge returns an empty aligned buffer with room for LargeBytes, lent by a
// pool. Its content is not zero.
func GetLarge() []byte {
	if b, ok := large.Get().(*[LargeBytes]byte); ok {
		return b[:0]
	}
	return AlignedBuffer(LargeBytes)[:0]
}

// PutLarge gives a buffer of GetLarge back. Others are left to the garbage
// collector.
func PutLarge(b []byte) {
	if cap(b) == LargeBytes && IsAligned(b[:0], 0) {
		large.Put((*[LargeBytes]byte)(b[:LargeBytes]))
	}
}
