package index

import (
	"encoding/binary"
	"math/bits"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// The accelerator of a run is an array of lines, each as large as a cache
// line. Digests are spread over the lines in their order, by their first 8
// bytes, so that the records of a line are neighbours. A line holds the
// ordinal of its first record and, for up to 37 records, 12 bits of each
// digest that had no say in the choice of the line. A lookup reads one line,
// and a record only if its bits are in there: a digest that the run lacks
// costs one cache miss, and in 6 of 1,000 cases a second one.
//
// A line is 8 words of 64 bits. A word has 5 lanes of 12 bits from bit 0 up,
// each with the print of a record, in the order of the records; 0: none. The
// lower half of word 0 is the ordinal, so that its first 3 lanes do not count.
//
// A line with more than 37 records (1.6 % at random; as many as one likes with
// crafted digests) has bit 31 of the ordinal set. The upper half of word 0 is
// then the number of its records, and they are searched by halving.
const (
	lineSize     = 64
	lineWords    = lineSize / 8
	lineOverflow = 1 << 31

	printBits   = 12
	wordLanes   = 5
	lineSkipped = 3 // lanes of word 0 that do not count
	linePrints  = lineWords*wordLanes - lineSkipped

	// lineFill is how many records a line has on average: 2.5 bytes a record.
	lineFill = 26
)

// linesFor returns the number of lines that suit n records.
func linesFor(n uint64) uint64 { return (n + lineFill - 1) / lineFill }

// lineOf returns the line of a digest with prefix p, of n > 0: the prefix as
// a fraction of 1, times n, so larger digests have larger lines for any n.
func lineOf(p, n uint64) uint64 {
	line, _ := bits.Mul64(p, n)
	return line
}

// printOf returns the 12 bits by which a line knows a digest, never 0.
func printOf(d *chunks.Digest) uint64 {
	return max(uint64(binary.LittleEndian.Uint16(d[8:])>>4), 1)
}

// everyLane times a print is a word with it in each lane.
const everyLane = 1 | 1<<printBits | 1<<(2*printBits) | 1<<(3*printBits) | 1<<(4*printBits)

// zeroLanes marks the top bit of the lowest lane of x that is zero, and perhaps
// of some above it; it returns 0 if none are.
func zeroLanes(x uint64) uint64 {
	return (x - everyLane) &^ x & (everyLane << (printBits - 1))
}

// A key is a digest on its way through several runs.
type key struct {
	d      *chunks.Digest
	prefix uint64
	prints uint64 // its print in every lane
}

func makeKey(d *chunks.Digest) key {
	return key{d: d, prefix: prefix(d), prints: printOf(d) * everyLane}
}

// lineWord returns word i of 8 of a line.
func lineWord(line *[lineSize]byte, i int) uint64 {
	return binary.LittleEndian.Uint64(line[8*i:])
}

// matches is a set of places in a line: bit 12*lane+word stands for a lane of
// a word.
type matches uint64

// match returns the places of a line whose print is that of a key, and rarely
// one whose print is not.
func match(line *[lineSize]byte, prints uint64) matches {
	const skipped = 1<<(lineSkipped*printBits) - 1
	found := zeroLanes((lineWord(line, 0)^prints)|skipped) >> 11
	found |= zeroLanes(lineWord(line, 1)^prints) >> 10
	found |= zeroLanes(lineWord(line, 2)^prints) >> 9
	found |= zeroLanes(lineWord(line, 3)^prints) >> 8
	found |= zeroLanes(lineWord(line, 4)^prints) >> 7
	found |= zeroLanes(lineWord(line, 5)^prints) >> 6
	found |= zeroLanes(lineWord(line, 6)^prints) >> 5
	found |= zeroLanes(lineWord(line, 7)^prints) >> 4
	return matches(found)
}

// any returns a place of the set, which must not be empty.
func (m matches) any() uint64 {
	bit := uint64(bits.TrailingZeros64(uint64(m)))
	return bit%printBits*wordLanes + bit/printBits - lineSkipped
}

// rest returns the set without the place that any returns.
func (m matches) rest() matches { return m & (m - 1) }

// setPrint writes the print of a place that has none.
func setPrint(line *[lineSize]byte, place uint32, mark uint64) {
	lane := place + lineSkipped
	word := line[lane/wordLanes*8:]
	binary.LittleEndian.PutUint64(word, binary.LittleEndian.Uint64(word)|mark<<(lane%wordLanes*printBits))
}

// A lineBuilder makes the lines of records that arrive in ascending order.
type lineBuilder struct {
	lines uint64                      // how many there will be
	emit  func(*[lineSize]byte) error // takes each finished line
	cur   uint64                      // the line being filled
	start uint32                      // its first record
	count uint32                      // its records so far
	line  [lineSize]byte
}

func (b *lineBuilder) add(d *chunks.Digest) error {
	if b.lines == 0 {
		return nil
	}
	if err := b.advance(lineOf(prefix(d), b.lines)); err != nil {
		return err
	}
	if b.count < linePrints {
		setPrint(&b.line, b.count, printOf(d))
	}
	b.count++
	return nil
}

// advance emits the lines before to.
func (b *lineBuilder) advance(to uint64) error {
	for ; b.cur < to; b.cur++ {
		start := b.start
		if b.count > linePrints {
			start |= lineOverflow
			binary.LittleEndian.PutUint32(b.line[4:], b.count)
		}
		binary.LittleEndian.PutUint32(b.line[:], start)
		if err := b.emit(&b.line); err != nil {
			return err
		}
		b.start, b.count, b.line = b.start+b.count, 0, [lineSize]byte{}
	}
	return nil
}

// finish emits the lines that are left.
func (b *lineBuilder) finish() error { return b.advance(b.lines) }
