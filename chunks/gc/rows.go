package gc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// A set of entries is written as one row per pack, in the order of their
// numbers, all numbers little endian:
//
//	0  4  number of the pack
//	4  4  index of the first 64-bit word written; those before it are zero
//	8  4  number of words, n
//	12 8n words, entry 0 of the pack in the lowest bit of word 0
const rowHeader = 12

// maxWords bounds a row. 4 Mi entries are more than a pack of 256 MiB holds
// if every entry is the smallest there is, 96 bytes of header and 12 of blob.
const maxWords = 1 << 16

var le = binary.LittleEndian

var errRows = errors.New("rows of entries are damaged")

// appendRow writes the bitmap of one pack, without the zeros on both sides.
func appendRow(b []byte, number uint32, words []uint64) []byte {
	first := 0
	for first < len(words) && words[first] == 0 {
		first++
	}
	last := len(words)
	for last > first && words[last-1] == 0 {
		last--
	}
	if first == last {
		return b
	}
	b = le.AppendUint32(b, number)
	b = le.AppendUint32(b, uint32(first))
	b = le.AppendUint32(b, uint32(last-first))
	for _, w := range words[first:last] {
		b = le.AppendUint64(b, w)
	}
	return b
}

// A row is one row as it lies in memory.
type row struct {
	number uint32
	first  uint32
	words  []byte // 8 bytes each
}

// end returns the index of the word behind the last.
func (r row) end() uint64 { return uint64(r.first) + uint64(len(r.words)/8) }

// bitmap returns the row as a [pack.Set] has it, in scratch's memory.
func (r row) bitmap(scratch []uint64) []uint64 {
	words := append(scratch[:0], make([]uint64, r.first)...)
	for i := 0; i < len(r.words); i += 8 {
		words = append(words, le.Uint64(r.words[i:]))
	}
	return words
}

// readRows yields the rows in b, and an error as the last if b is not made of
// whole rows in ascending order.
func readRows(b []byte) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		next := uint64(0)
		for len(b) > 0 {
			r, rest, err := readRow(b)
			if err == nil && uint64(r.number) < next {
				err = fmt.Errorf("%w: pack %d is out of order", errRows, r.number)
			}
			if !yield(r, err) || err != nil {
				return
			}
			next, b = uint64(r.number)+1, rest
		}
	}
}

func readRow(b []byte) (r row, rest []byte, err error) {
	if len(b) < rowHeader {
		return row{}, nil, fmt.Errorf("%w: %d bytes where a row starts", errRows, len(b))
	}
	r.number, r.first = le.Uint32(b), le.Uint32(b[4:])
	n := le.Uint32(b[8:])
	b = b[rowHeader:]
	if n == 0 || n > maxWords || r.first > maxWords-n || int(n)*8 > len(b) {
		return row{}, nil, fmt.Errorf("%w: %d words from word %d of pack %d", errRows, n, r.first, r.number)
	}
	r.words = b[:n*8]
	return r, b[n*8:], nil
}
