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

// receive reads the body of r, which was announced to have size bytes.
func (s *Session) receive(r *http.Request, size int64) (*upload, error) {
	memory, err := s.budget.reserve(r.Context(), size)
	if err != nil {
		return nil, fmt.Errorf("receive %d bytes: %w", size, err)
	}
	u := &upload{buffer: chunks.GetBuffer(int(size)), memory: memory}
	if u.blob, err = readBody(r.Body, u.buffer.Bytes[:size]); err != nil {
		u.free()
		return nil, err
	}
	memory.arrived()
	return u, nil
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

// readBody fills dst, and makes sure that nothing follows.
func readBody(body io.Reader, dst []byte) ([]byte, error) {
	n, err := io.ReadFull(body, dst)
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return nil, &sizeError{got: n}
	case err != nil:
		return nil, fmt.Errorf("receive %d bytes: %w", len(dst), err)
	}
	switch n, err := body.Read(make([]byte, 1)); {
	case n > 0:
		return nil, &sizeError{got: len(dst), longer: true}
	case err == nil || err == io.EOF:
		return dst, nil
	default:
		return nil, fmt.Errorf("receive the end of %d bytes: %w", len(dst), err)
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
