package goodbye

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	// tailBlock is what is read at the end of a directory, in bytes. The table
	// of a directory of 169 entries fits.
	tailBlock = 4 << 10

	// tableStep is how much of a table is read at once: it bounds what a wrong
	// size can make us allocate beyond what is there.
	tableStep = 1 << 20
)

// Read reads the table of the directory in [start, end) of r, with one read or
// two unless it is large. Errors of r are wrapped; all others match
// [ErrFormat].
func Read(r io.ReaderAt, start, end int64) (*Table, error) {
	if start < 0 || end-start < HeaderSize+RecordSize {
		return nil, malformed(end, "no directory fits between %d and there", start)
	}
	block := make([]byte, min(tailBlock, end-start))
	if err := readAt(r, block, end-int64(len(block))); err != nil {
		return nil, err
	}
	tail := ParseRecord(block[len(block)-RecordSize:])
	if err := tail.check(start, end); err != nil {
		return nil, err
	}
	item, err := extend(r, block, end, int(tail.Size))
	if err != nil {
		return nil, err
	}
	if typ, size := binary.LittleEndian.Uint64(item), binary.LittleEndian.Uint64(item[8:]); typ != Type || size != tail.Size {
		return nil, malformed(end, "its item begins with type %016x and size %d, the tail gives the size %d", typ, size, tail.Size)
	}
	at := end - int64(tail.Size)
	return &Table{At: at, Start: at - int64(tail.Offset), records: item[HeaderSize : len(item)-RecordSize]}, nil
}

// check tells why r is not the tail of the table of the directory in
// [start, end).
func (r Record) check(start, end int64) error {
	if r.Hash != TailMark {
		return malformed(end, "there is none")
	}
	if r.Size < HeaderSize+RecordSize || r.Size > uint64(end-start) ||
		(r.Size-HeaderSize)%RecordSize != 0 || r.Size > HeaderSize+RecordSize*(MaxEntries+1) {
		return malformed(end, "its size is %d bytes", r.Size)
	}
	if at := end - int64(r.Size); r.Offset > uint64(at-start) {
		return malformed(end, "its directory begins %d bytes in front of it, outside of its entry", r.Offset)
	}
	return nil
}

// extend returns the n bytes in front of end, of which block is the last part,
// or more than all.
func extend(r io.ReaderAt, block []byte, end int64, n int) ([]byte, error) {
	if n <= len(block) {
		return block[len(block)-n:], nil
	}
	front := n - len(block)
	all := make([]byte, 0, min(front, tableStep)+len(block))
	for len(all) < front {
		at := len(all)
		all = append(all, make([]byte, min(front-at, tableStep))...)
		if err := readAt(r, all[at:], end-int64(n-at)); err != nil {
			return nil, err
		}
	}
	return append(all, block...), nil
}

func readAt(r io.ReaderAt, p []byte, at int64) error {
	n, err := r.ReadAt(p, at)
	switch {
	case n == len(p):
		return nil
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return malformed(at+int64(len(p)), "the archive ends early: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read goodbye table at offset %d: %w", at+int64(n), err)
}
