// Package wire has the form of what nodes send each other for a ledger, and of what its log
// holds.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// ErrRefused says that the other side is not who it would have to be.
var ErrRefused = errors.New("refused")

// Write writes a message as a frame: a length as u32, big endian, and that many bytes in
// canonical form, at most limit.
func Write(w io.Writer, v any, limit int) error {
	b := canon.Encode(v)
	if len(b) > limit {
		return fmt.Errorf("a message of %d bytes, want at most %d", len(b), limit)
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...))
	return err
}

// Read reads a frame of at most so many bytes.
func Read(r io.Reader, v any, limit int) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) {
		return fmt.Errorf("a message of %d bytes, want at most %d", n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return canon.Decode(b, v)
}

// A stamped command is what an entry of the log holds:
//
//	version u8 = 1 | Unix ms i64, big endian | command
const (
	stampVersion = 1
	stampSize    = 9
)

// Stamp returns a command with the time, in Unix milliseconds.
func Stamp(ms int64, command []byte) []byte {
	b := append(make([]byte, 0, stampSize+len(command)), stampVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(ms))
	return append(b, command...)
}

// Unstamp reads what Stamp has made.
func Unstamp(b []byte) (ms int64, command []byte, err error) {
	if len(b) < stampSize || b[0] != stampVersion {
		return 0, nil, fmt.Errorf("an entry of %d bytes is not in version %d", len(b), stampVersion)
	}
	return int64(binary.BigEndian.Uint64(b[1:])), b[stampSize:], nil
}
