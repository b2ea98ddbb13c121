package disk

import "unsafe"

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
