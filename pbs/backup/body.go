package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// An upload is a body that was read into borrowed memory.
type upload struct {
	blob   chunks.Blob
	buffer *chunks.Buffer
	memory *reservation
}

func (u *upload) free() {
	u.buffer.Free()
	u.memory.release()
}

// firstPiece is what the memory of a chunk begins with, and growth how much
// more it gets when that is full: little is copied of a chunk of 4 MiB.
const (
	firstPiece = 256 << 10
	growth     = 4
)

// receive reads the body of r, which was announced to have size bytes. Its
// memory grows as it comes, unless there is plenty.
func (s *Session) receive(r *http.Request, size int64) (*upload, error) {
	n := size
	if !s.budget.plenty(size) {
		n = min(size, firstPiece)
	}
	memory, err := s.budget.reserve(r.Context(), n)
	if err != nil {
		return nil, fmt.Errorf("receive %d bytes: %w", size, err)
	}
	u := &upload{buffer: chunks.GetBuffer(int(n)), memory: memory}
	for got := int64(0); ; {
		if err := fill(r.Body, u.buffer.Bytes[got:n], int(got), int(size)); err != nil {
			u.free()
			return nil, err
		}
		if n == size {
			break
		}
		got, n = n, min(size, growth*n)
		if err := u.grow(r.Context(), got, n); err != nil {
			u.free()
			return nil, fmt.Errorf("receive %d bytes: %w", size, err)
		}
	}
	if err := nothingMore(r.Body, int(size)); err != nil {
		u.free()
		return nil, err
	}
	u.blob = u.buffer.Bytes[:size]
	memory.arrived()
	return u, nil
}

// grow gives an upload, of which got bytes have come, room for n.
func (u *upload) grow(ctx context.Context, got, n int64) error {
	if err := u.memory.grow(ctx, n-got); err != nil {
		return err
	}
	larger := chunks.GetBuffer(int(n))
	copy(larger.Bytes[:got], u.buffer.Bytes[:got])
	u.buffer.Free()
	u.buffer = larger
	return nil
}

// A sizeError says that a body is not as long as announced.
type sizeError struct {
	got    int
	longer bool // than got, which was announced
}

func (e *sizeError) Error() string {
	if e.longer {
		return fmt.Sprintf("body has more than the announced %d bytes", e.got)
	}
	return fmt.Sprintf("body has %d bytes, less than announced", e.got)
}

// fill fills dst with what comes behind the first got bytes of a body that was
// announced to have size.
func fill(body io.Reader, dst []byte, got, size int) error {
	n, err := io.ReadFull(body, dst)
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return &sizeError{got: got + n}
	case err != nil:
		return fmt.Errorf("receive %d bytes: %w", size, err)
	}
	return nil
}

// nothingMore makes sure that a body ends after size bytes.
func nothingMore(body io.Reader, size int) error {
	switch n, err := body.Read(make([]byte, 1)); {
	case n > 0:
		return &sizeError{got: size, longer: true}
	case err == nil || err == io.EOF:
		return nil
	default:
		return fmt.Errorf("receive the end of %d bytes: %w", size, err)
	}
}

// checked runs a check that keeps a processor busy, when one is free.
func (s *Server) checked(ctx context.Context, check func() error) error {
	if err := s.checks.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.checks.Release(1)
	return check()
}

// speedtestPiece is how much is read at a time: as with a chunk, little is done
// between two reads.
const speedtestPiece = 1 << 20

// speedtest answers POST /speedtest, which measures the line.
func speedtest(w http.ResponseWriter, r *http.Request) error {
	buffer := chunks.GetBuffer(speedtestPiece)
	defer buffer.Free()
	for piece := buffer.Bytes[:speedtestPiece]; ; {
		if _, err := r.Body.Read(piece); err == io.EOF {
			return upgrade.Data(w, nil)
		} else if err != nil {
			return err
		}
	}
}

// asSizeError returns the *sizeError in err, or nil.
func asSizeError(err error) *sizeError {
	var e *sizeError
	errors.As(err, &e)
	return e
}
