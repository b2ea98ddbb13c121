package pxar

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// sourceBuffer is what a decoder reads at once, in bytes.
const sourceBuffer = 256 << 10

// A source is a stream that is read once, from its start to its end, with
// parts left out.
type source struct {
	r   io.Reader
	buf *bufio.Reader
	pos int64

	// jump leaves out n bytes of r without reading them; nil if r cannot.
	jump func(n int64) error
}

// A discarder can leave out bytes cheaper than by reading them.
type discarder interface {
	Discard(n int64) (int64, error)
}

func newSource(r io.Reader) *source {
	s := &source{r: r, buf: bufio.NewReaderSize(r, sourceBuffer)}
	if d, ok := r.(discarder); ok {
		s.jump = func(n int64) error {
			_, err := d.Discard(n)
			return err
		}
	} else if d, ok := r.(io.Seeker); ok {
		// A pipe is an os.File too, and fails here.
		if _, err := d.Seek(0, io.SeekCurrent); err == nil {
			s.jump = func(n int64) error {
				_, err := d.Seek(n, io.SeekCurrent)
				return err
			}
		}
	}
	return s
}

func (s *source) offset() int64 { return s.pos }

func (s *source) Read(p []byte) (int, error) {
	n, err := s.buf.Read(p)
	s.pos += int64(n)
	return n, err
}

// skip leaves out n bytes.
func (s *source) skip(n int64) error {
	if s.jump != nil && n > int64(s.buf.Buffered())+sourceBuffer {
		ahead := int64(s.buf.Buffered())
		if _, err := s.buf.Discard(int(ahead)); err != nil {
			return err
		}
		s.pos += ahead
		n -= ahead
		if err := s.jump(n); err != nil {
			return fmt.Errorf("skip %d bytes: %w", n, err)
		}
		s.pos += n
		return nil
	}
	for n > 0 {
		m, err := s.buf.Discard(int(min(n, sourceBuffer)))
		s.pos += int64(m)
		n -= int64(m)
		if err != nil {
			return err
		}
	}
	return nil
}

// writeTo copies at most n bytes to w, as they come.
func (s *source) writeTo(w io.Writer, n int64) (done int64, err error) {
	for done < n && err == nil {
		if _, err = s.buf.Peek(1); err != nil {
			break
		}
		p, _ := s.buf.Peek(int(min(n-done, int64(s.buf.Buffered()))))
		var m int
		if m, err = w.Write(p); err == nil && m != len(p) {
			err = io.ErrShortWrite
		}
		m, _ = s.buf.Discard(max(m, 0))
		s.pos += int64(m)
		done += int64(m)
	}
	return done, err
}

// A payloadReader is the content of a decoder's current file.
type payloadReader struct {
	d       *Decoder
	left    int64
	content content
	begun   bool
	err     error
}

var errStale = errors.New("read content: the decoder has moved on")

// begin moves to the content, if it is in a stream of its own.
func (r *payloadReader) begin() error {
	if r.d.current != r {
		return errStale
	}
	if r.begun || r.err != nil {
		return r.err
	}
	r.begun = true
	if r.content.split {
		if r.err = noEOF(r.seek()); r.err != nil {
			r.err = fmt.Errorf("read payload stream: %w", r.err)
		}
	}
	return r.err
}

// seek finds the payload that a reference names (§6).
func (r *payloadReader) seek() error {
	in := r.d.payload
	if in == nil {
		return errNoPayload
	}
	if r.content.at < in.pos {
		return malformed(r.content.at, "reference back from %d", in.pos)
	}
	if err := in.skip(r.content.at - in.pos); err != nil {
		return err
	}
	var raw [headerSize]byte
	if _, err := io.ReadFull(in, raw[:]); err != nil {
		return err
	}
	return checkPayload(&raw, r.content.at, r.left)
}

// checkPayload tells why raw is not the header of a payload of size bytes.
func checkPayload(raw *[headerSize]byte, at, size int64) error {
	h, err := parseHeader(raw, at)
	if err != nil {
		return err
	}
	if h.typ != itemPayload || h.length != size {
		return malformed(at, "%v of %d bytes instead of a payload of %d", h.typ, h.length, size)
	}
	return nil
}

func (r *payloadReader) source() *source {
	if r.content.split {
		return r.d.payload
	}
	return r.d.in
}

// Read implements io.Reader.
func (r *payloadReader) Read(p []byte) (int, error) {
	if err := r.begin(); err != nil {
		return 0, err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.source().Read(p[:min(int64(len(p)), r.left)])
	r.took(int64(n))
	return n, r.done(err)
}

// WriteTo copies the rest of the content to w, out of the decoder's buffer.
func (r *payloadReader) WriteTo(w io.Writer) (int64, error) {
	if err := r.begin(); err != nil {
		return 0, err
	}
	n, err := r.source().writeTo(w, r.left)
	r.took(n)
	return n, r.done(err)
}

func (r *payloadReader) took(n int64) {
	r.left -= n
	if !r.content.split {
		r.d.rest -= n
	}
}

// done makes the end of the stream an error where content is missing.
func (r *payloadReader) done(err error) error {
	if r.left == 0 && errors.Is(err, io.EOF) {
		return nil
	}
	return noEOF(err)
}

var errNoPayload = errors.New("the archive is split and the stream with the contents was not given")

// noEOF says of an end that it came too early.
func noEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errTruncated
	}
	return err
}

// endOfNode accepts that the range ends behind an entry: a fifo has no more.
func endOfNode(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
