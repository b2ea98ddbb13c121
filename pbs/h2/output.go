package h2

import (
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"
)

const (
	// record is how much plaintext a TLS record takes: what a frame begins with
	// fills the first one.
	record = 16 << 10

	// maxControls bounds what waits to be said to a client that takes nothing.
	maxControls = 64 << 10

	// maxPiece is how much of an answer is sent before others have a turn.
	maxPiece = 1 << 20

	// patientPiece is how many bytes are written at a time that has an end.
	patientPiece = 128 << 10

	// goodbyeTime is how long a client may take to hear why it is cut off.
	goodbyeTime = time.Second
)

// output writes frames. Frames of a request or an answer are written by who
// makes it; what is said about the connection is collected, and written by the
// next of them or by a goroutine of its own, so that reading never waits for writing.
type output struct {
	net      net.Conn
	patience time.Duration // how long the peer may take nothing; 0: that is another's business
	turn     chan struct{} // holds one element; who has it writes
	buf      []byte        // of who writes
	enc      *hpack.Encoder
	head     headBuffer

	mu       sync.Mutex
	controls []byte
	kick     chan struct{} // holds one element when there are controls
	closed   bool
}

// headBuffer is where the encoder writes to.
type headBuffer struct{ b []byte }

func (h *headBuffer) Write(p []byte) (int, error) {
	h.b = append(h.b, p...)
	return len(p), nil
}

func (o *output) init(nc net.Conn) {
	o.net = nc
	o.turn = make(chan struct{}, 1)
	o.turn <- struct{}{}
	o.kick = make(chan struct{}, 1)
	o.enc = hpack.NewEncoder(&o.head)
	o.enc.SetMaxDynamicTableSize(0) // heads are short; the peer need remember nothing
}

// control has a frame sent soon. It fails if too many wait already.
func (o *output) control(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.controls) > maxControls {
		return false
	}
	o.controls = append(o.controls, frame...)
	if !o.closed {
		select {
		case o.kick <- struct{}{}:
		default:
		}
	}
	return true
}

// begin waits for the turn to write, and begins with the controls.
func (o *output) begin() { o.beginBefore(nil) }

// beginBefore is begin, unless done is closed before.
func (o *output) beginBefore(done <-chan struct{}) bool {
	select {
	case <-o.turn:
	case <-done:
		return false
	}
	o.buf = o.buf[:0]
	o.mu.Lock()
	o.buf = append(o.buf, o.controls...)
	o.controls = o.controls[:0]
	o.mu.Unlock()
	return true
}

// data appends the head of a DATA frame, of which n bytes follow. The caller
// has the turn.
func (o *output) data(stream uint32, n int, end bool) {
	flags := byte(0)
	if end {
		flags = flagEndStream
	}
	o.buf = appendHeader(o.buf, n, frameData, flags, stream)
}

// flush writes what is in the buffer, and payload behind it, and ends the turn.
func (o *output) flush(payload []byte) error {
	defer func() { o.turn <- struct{}{} }()
	if n := min(len(payload), record-len(o.buf)%record); len(o.buf) > 0 && n > 0 {
		o.buf = append(o.buf, payload[:n]...)
		payload = payload[n:]
	}
	if err := o.write(o.buf); err != nil {
		return err
	}
	return o.write(payload)
}

// write writes p. If it may not take for ever it is written in pieces, each of
// which may take as long.
func (o *output) write(p []byte) error {
	for len(p) > 0 {
		n := len(p)
		if o.patience > 0 {
			n = min(n, patientPiece)
			if err := o.net.SetWriteDeadline(time.Now().Add(o.patience)); err != nil {
				return err
			}
		}
		if _, err := o.net.Write(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// flushControls writes controls until close is called.
func (o *output) flushControls() {
	for range o.kick {
		o.begin()
		if o.flush(nil) != nil {
			o.net.Close() // reading ends, and with it everything
		}
	}
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	close(o.kick)
}

// sayGoodbye tells the client why the connection ends, if it listens.
func (o *output) sayGoodbye(last uint32, why code) {
	if o.net.SetWriteDeadline(time.Now().Add(goodbyeTime)) != nil {
		return
	}
	o.begin()
	o.buf = appendHeader(o.buf, 8, frameGoAway, 0, 0)
	o.buf = append(o.buf, byte(last>>24), byte(last>>16), byte(last>>8), byte(last))
	o.buf = append(o.buf, byte(why>>24), byte(why>>16), byte(why>>8), byte(why))
	_ = o.flush(nil) // it was worth a try
}

// headers appends a head. The caller has the turn.
func (o *output) headers(stream uint32, end bool, fields [][2]string) {
	o.head.b = o.head.b[:0]
	for _, f := range fields {
		o.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // into memory: cannot fail
	}
	block, typ := o.head.b, byte(frameHeaders)
	for first := true; first || len(block) > 0; first = false {
		n, flags := min(len(block), defaultFrame), byte(0)
		if first && end {
			flags |= flagEndStream
		}
		if n == len(block) {
			flags |= flagEndHeaders
		}
		o.buf = append(appendHeader(o.buf, n, typ, flags, stream), block[:n]...)
		block, typ = block[n:], frameContinuation
	}
}
