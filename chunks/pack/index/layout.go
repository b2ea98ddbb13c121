package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"
)

// The parts of a run file; DESIGN.md draws them.
const (
	headerSize   = 4096 // one page, so that what follows is page-aligned
	footerSize   = 64
	blockRecords = 1024 // records under one sum: 48 KiB, exactly 12 pages
	blockSize    = blockRecords * recordSize
	sumSize      = 8

	headerMagic = "HFIXRUN1"
	footerMagic = "HFIXEND1"
	runVersion  = 1

	// maxRecords is the limit of a run: a line has 31 bits for an ordinal.
	maxRecords = math.MaxInt32
	// maxLines is far above what maxRecords needs, and keeps sizes in 63 bits.
	maxLines = math.MaxInt32
)

// A header is what is known of a run before its first record is written.
type header struct {
	number uint64 // of the run, as in the file's name
	lines  uint64 // of the accelerator; 0: there is none
}

// recordsOff returns where the records begin: on the page after the lines.
func (h header) recordsOff() int64 {
	end := headerSize + int64(h.lines)*lineSize
	return (end + headerSize - 1) &^ (headerSize - 1)
}

// fileSize returns the length of a run file with n records.
func (h header) fileSize(n uint64) int64 {
	blocks := (int64(n) + blockRecords - 1) / blockRecords
	return h.recordsOff() + int64(n)*recordSize + blocks*sumSize + footerSize
}

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, headerMagic)
	binary.LittleEndian.PutUint32(b[8:], runVersion)
	binary.LittleEndian.PutUint32(b[12:], recordSize)
	binary.LittleEndian.PutUint64(b[16:], h.number)
	binary.LittleEndian.PutUint64(b[24:], h.lines)
	binary.LittleEndian.PutUint64(b[headerSize-sumSize:], xxhash.Sum64(b[:headerSize-sumSize]))
	return b
}

func parseHeader(b []byte) (header, error) {
	h := header{
		number: binary.LittleEndian.Uint64(b[16:]),
		lines:  binary.LittleEndian.Uint64(b[24:]),
	}
	switch {
	case string(b[:8]) != headerMagic:
		return h, errors.New("it does not begin as a run of an index")
	case binary.LittleEndian.Uint64(b[headerSize-sumSize:]) != xxhash.Sum64(b[:headerSize-sumSize]):
		return h, errors.New("the sum of its header is wrong")
	case binary.LittleEndian.Uint32(b[8:]) != runVersion || binary.LittleEndian.Uint32(b[12:]) != recordSize:
		return h, fmt.Errorf("format version %d with records of %d bytes is unknown",
			binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:]))
	case h.lines > maxLines:
		return h, fmt.Errorf("it claims %d lines", h.lines)
	}
	return h, nil
}

// A footer is what is known of a run after its last record. Its own sum, which
// the file current repeats, covers all others and so the whole file.
type footer struct {
	records    uint64
	tombstones uint64
	linesSum   uint64 // from the end of the header to the first record
	blocksSum  uint64 // of the array of block sums
	headerSum  uint64 // of the header page
}

func (f footer) encode() []byte {
	b := make([]byte, footerSize)
	copy(b, footerMagic)
	for i, v := range []uint64{f.records, f.tombstones, f.linesSum, f.blocksSum, f.headerSum} {
		binary.LittleEndian.PutUint64(b[8+8*i:], v)
	}
	binary.LittleEndian.PutUint64(b[footerSize-sumSize:], footerSum(b))
	return b
}

// footerSum returns the sum that an encoded footer ought to end with.
func footerSum(b []byte) uint64 { return xxhash.Sum64(b[:footerSize-sumSize]) }

func parseFooter(b []byte) (footer, uint64, error) {
	var f footer
	for i, p := range []*uint64{&f.records, &f.tombstones, &f.linesSum, &f.blocksSum, &f.headerSum} {
		*p = binary.LittleEndian.Uint64(b[8+8*i:])
	}
	sum := binary.LittleEndian.Uint64(b[footerSize-sumSize:])
	switch {
	case string(b[:8]) != footerMagic:
		return f, sum, errors.New("it does not end as a run of an index: it was cut off or is not one")
	case sum != footerSum(b):
		return f, sum, errors.New("the sum of its footer is wrong")
	case f.records > maxRecords || f.tombstones > f.records:
		return f, sum, fmt.Errorf("it claims %d records with %d tombstones", f.records, f.tombstones)
	}
	return f, sum, nil
}
