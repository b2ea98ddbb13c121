package chunks

import (
	"fmt"
	"io"
)

// A FixedSplitter cuts an image into the chunks of a fixed index. It is not
// safe for concurrent use; to read with several of them at once, give each an
// [io.SectionReader] of its own that begins at a multiple of the chunk size.
type FixedSplitter struct {
	r         io.Reader
	size      int64
	chunkSize int
	offset    int64
	err       error
}

// NewFixedSplitter returns a splitter for the size bytes of an image in r,
// into chunks of chunkSize bytes, usually [SlotSize], and a shorter last one.
func NewFixedSplitter(r io.Reader, size int64, chunkSize int) (*FixedSplitter, error) {
	if size < 0 || chunkSize < 1 || chunkSize > MaxPlain {
		return nil, fmt.Errorf("split image of %d bytes: chunks of %d bytes, want 1 to %d", size, chunkSize, MaxPlain)
	}
	return &FixedSplitter{r: r, size: size, chunkSize: chunkSize}, nil
}

// Next returns the next piece of the image, and io.EOF after the last. Its
// data lie in buf's memory if that has room for a chunk, and are the caller's.
// An image that cannot be read or ends early fails for good.
func (s *FixedSplitter) Next(buf []byte) (Piece, error) {
	switch {
	case s.err != nil:
		return Piece{}, s.err
	case s.offset == s.size:
		return Piece{}, io.EOF
	}
	n := int(min(int64(s.chunkSize), s.size-s.offset))
	data := sized(buf, n)[:n]
	got, err := fill(s.r, data)
	if got < n {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		s.err = fmt.Errorf("split image of %d bytes at offset %d: %w", s.size, s.offset+int64(got), err)
		return Piece{}, s.err
	}
	s.offset += int64(n)
	return Piece{s.offset - int64(n), data, IsZero(data)}, nil
}
