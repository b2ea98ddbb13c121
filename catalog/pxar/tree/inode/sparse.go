//go:build linux

package inode

import (
	"bytes"
)

// HoleBlock is the unit in which zeros become holes, the block size of almost
// every file system, and the one of the official client.
const HoleBlock = 4096

var zeros [HoleBlock]byte

// WriteSparse writes block at off, a multiple of [HoleBlock], except for whole
// blocks of zeros, with [Write] or [WriteDirect]. It returns the end of the last byte written so far.
func WriteSparse(fd int, block []byte, off, end int64, write func(int, []byte, int64) error) (int64, error) {
	for len(block) > 0 {
		hole := zeroBlocks(block)
		block, off = block[hole:], off+int64(hole)
		data := dataBlocks(block)
		if data == 0 {
			continue
		}
		if err := write(fd, block[:data], off); err != nil {
			return end, err
		}
		block, off = block[data:], off+int64(data)
		end = off
	}
	return end, nil
}

// zeroBlocks returns the length of the blocks of zeros at the beginning. What
// is at the end of a file counts as a block.
func zeroBlocks(b []byte) (n int) {
	for n < len(b) {
		next := min(n+HoleBlock, len(b))
		if !bytes.Equal(b[n:next], zeros[:next-n]) {
			break
		}
		n = next
	}
	return n
}

// dataBlocks returns the length of the other blocks at the beginning.
func dataBlocks(b []byte) (n int) {
	for n < len(b) {
		next := min(n+HoleBlock, len(b))
		if bytes.Equal(b[n:next], zeros[:next-n]) {
			break
		}
		n = next
	}
	return n
}
