package chunks

import (
	"bytes"
	"fmt"
	"io"
)

// A Piece is the content of one chunk of a stream, before it has a name.
type Piece struct {
	Offset int64  // in the stream
	Data   []byte // in the memory that was passed to Next, if that sufficed
	Zero   bool   // all of Data is zero; [ZeroChunks] knows such a chunk
}

// IsZero reports whether all of p is zero. It runs at the speed of memory, and
// returns soon where p begins with something else.
func IsZero(p []byte) bool {
	// Bytes that equal their neighbours all equal the first. bytes.Equal
	// compares 64 at a time, which no loop in Go does.
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

// readSize is how many bytes are read before they are searched for a cut:
// enough for few calls, little enough to be still in the cache, and the most
// that has to be copied into the next chunk.
const readSize = 256 << 10

// A Splitter cuts a stream into the chunks of a dynamic index, where a
// [Scanner] says so. It is not safe for concurrent use.
type Splitter struct {
	r      io.Reader
	scan   *Scanner
	carry  []byte // read but behind the last cut
	memory [readSize]byte
	offset int64
	err    error
}

// NewSplitter returns a splitter for what r has, with chunks of about avg
// bytes ([NewScanner]), usually [ArchiveAverage].
func NewSplitter(r io.Reader, avg int) (*Splitter, error) {
	scan, err := NewScanner(avg)
	if err != nil {
		return nil, err
	}
	return &Splitter{r: r, scan: scan}, nil
}

// Max returns the most bytes that a piece can have.
func (s *Splitter) Max() int { return s.scan.Max() }

// Next returns the next piece of the stream, and io.EOF after the last. Its
// data lie in buf's memory if that has room for [Splitter.Max] bytes, and are
// the caller's: pieces in different buffers live side by side. A stream that
// cannot be read fails for good, and what came after the last cut is lost.
func (s *Splitter) Next(buf []byte) (Piece, error) {
	if s.err != nil {
		return Piece{}, s.err
	}
	piece, err := s.next(sized(buf, s.Max()))
	if s.err = err; err != nil {
		return Piece{}, err
	}
	s.offset += int64(len(piece))
	return Piece{s.offset - int64(len(piece)), piece, IsZero(piece)}, nil
}

func (s *Splitter) next(buf []byte) ([]byte, error) {
	buf = append(buf, s.carry...)
	s.carry = nil
	for fresh := buf; ; {
		if cut := s.scan.Scan(fresh); cut > 0 {
			rest := fresh[cut:]
			s.carry = s.memory[:copy(s.memory[:], rest)]
			return buf[:len(buf)-len(rest)], nil
		}
		// Less than Max bytes are here, or there had been a cut.
		n, err := fill(s.r, buf[len(buf):min(len(buf)+readSize, s.Max())])
		fresh = buf[len(buf) : len(buf)+n]
		buf = buf[:len(buf)+n]
		switch {
		case err != nil && err != io.EOF:
			return nil, fmt.Errorf("split stream at offset %d: %w", s.offset+int64(len(buf)), err)
		case len(buf) == 0:
			return nil, io.EOF
		case n == 0:
			return buf, nil
		}
	}
}

// fill reads until p is full or r fails. Unlike [io.ReadFull] it leaves the
// error as it is: a reader's own io.ErrUnexpectedEOF is not the end.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}
