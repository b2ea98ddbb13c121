package pcat1

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
)

const (
	maxVarint  = 10 // bytes of an unsigned number
	maxSvarint = 11 // bytes of a signed one: ten groups and the final zero
)

var errVarint = errors.New("number is too long")

// appendVarint appends v in groups of seven bits, least significant first.
// All but the last have the high bit set.
func appendVarint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// appendSvarint appends v. A negative number is its magnitude with the high
// bit set in every group, and a zero byte.
func appendSvarint(b []byte, v int64) []byte {
	if v >= 0 {
		return appendVarint(b, uint64(v))
	}
	b = appendVarint(b, -uint64(v))
	b[len(b)-1] |= 0x80
	return append(b, 0)
}

// varintLen returns how many bytes appendVarint appends.
func varintLen(v uint64) uint64 {
	n := uint64(1)
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

func readVarint(r io.ByteReader) (uint64, error) {
	v := uint64(0)
	for i := range maxVarint {
		c, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if i == maxVarint-1 && c > 1 {
			return 0, errVarint
		}
		if v |= uint64(c&0x7f) << (7 * i); c < 0x80 {
			return v, nil
		}
	}
	return 0, errVarint
}

// readSvarint reads what appendSvarint wrote. A zero byte behind groups that
// all had the high bit set makes the number negative.
func readSvarint(r io.ByteReader) (int64, error) {
	v := uint64(0)
	for i := range maxSvarint {
		c, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		switch {
		case c == 0 && i > 0:
			if v == 0 || v > 1<<63 {
				return 0, errVarint
			}
			return int64(-v), nil
		case i == maxSvarint-1, i == maxVarint-1 && c&0x7f > 1:
			return 0, errVarint
		}
		if v |= uint64(c&0x7f) << (7 * i); c < 0x80 {
			if v > math.MaxInt64 {
				return 0, errVarint
			}
			return int64(v), nil
		}
	}
	return 0, errVarint
}
