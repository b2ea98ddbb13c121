package h2

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"golang.org/x/net/http2/hpack"
)

// Config says what the server tells its client. The zero value of a field
// means its default.
type Config struct {
	MaxFrame int          // bytes of a DATA frame, at least 16 KiB; default 4 MiB
	Window   int          // bytes that a stream, and the connection, may send ahead; default 32 MiB
	Streams  int          // requests at the same time; default 200
	Log      *slog.Logger // default: discard
}

// A conn is one connection. Its reader is the goroutine of Serve.
type conn struct {
	cfg     Config
	net     net.Conn
	in      *bufio.Reader
	handler http.Handler
	ctx     context.Context
	decoder *hpack.Decoder
	fields  fields
	last    uint32 // the last stream that the client began

	handlers sync.WaitGroup
	out      output

	mu sync.Mutex

	streams  map[uint32]*stream
	running  int           // handlers
	held     int           // bytes that came before a handler asked for them
	drained  *sync.Cond    // held has become less
	credit   int           // bytes that handlers have taken, and the client may send anew
	window   int64         // bytes that the client takes
	initial  int64         // the same of a new stream
	maxFrame int           // bytes of a frame that the client takes
	grown    chan struct{} // closed when a window has grown
	over     error
}

var errEnded = errors.New("the connection has ended")

// Serve answers requests on nc until the client has gone, and closes it. It
// returns when all handlers have, and says what the client did wrong, if that
// is why; that it has gone is no error. The context of requests ends with ctx,
// with the connection, and when the client gives a request up; that nc is
// closed when ctx ends is the caller's duty.
func Serve(ctx context.Context, nc net.Conn, h http.Handler, cfg Config) error {
	cfg.MaxFrame = cmp.Or(cfg.MaxFrame, 4<<20)
	cfg.Window = cmp.Or(cfg.Window, 32<<20)
	cfg.Streams = cmp.Or(cfg.Streams, 200)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(ctx)
	c := &conn{
		cfg: cfg, net: nc, in: bufio.NewReaderSize(nc, 16<<10), handler: h, ctx: ctx,
		streams: map[uint32]*stream{}, window: defaultWindow, initial: defaultWindow, maxFrame: defaultFrame,
		grown: make(chan struct{}),
	}
	c.drained = sync.NewCond(&c.mu)
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.drained.Broadcast()
	})()
	c.decoder = hpack.NewDecoder(4096, c.fields.add)
	c.decoder.SetMaxStringLength(maxHeaders)
	c.out.init(nc)
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		c.out.flushControls()
	}()
	err := c.read()
	var wrong *protocolFault
	if errors.As(err, &wrong) {
		c.out.sayGoodbye(c.last, wrong.code)
	}
	c.end(fmt.Errorf("%w: %v", errEnded, err)) // not as io.EOF, which would be the end of a body
	cancel()
	nc.Close() // the client may have done so, and nothing is lost with it
	c.out.close()
	c.handlers.Wait()
	<-flushed
	if wrong != nil {
		return err
	}
	return nil
}

// read reads frames until there are no more.
func (c *conn) read() error {
	var start [len(preface)]byte
	if _, err := io.ReadFull(c.in, start[:]); err != nil {
		return err
	}
	if string(start[:]) != preface {
		return fault(protocolError, "the connection begins with %.24q", start)
	}
	c.greet()
	for {
		h, err := c.readHeader()
		if err == nil {
			err = c.readFrame(h)
		}
		if err != nil {
			return err
		}
	}
}

// greet says what the server can.
func (c *conn) greet() {
	settings := []struct {
		id    uint16
		value uint32
	}{
		{settingMaxStreams, uint32(c.cfg.Streams)},
		{settingInitialWindow, uint32(c.cfg.Window)},
		{settingMaxFrame, uint32(c.cfg.MaxFrame)},
	}
	b := appendHeader(nil, 6*len(settings), frameSettings, 0, 0)
	for _, s := range settings {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, s.id), s.value)
	}
	c.out.control(appendWord(b, frameWindow, 0, uint32(c.cfg.Window-defaultWindow)))
}

func (c *conn) readHeader() (header, error) {
	var b [frameHeader]byte
	if _, err := io.ReadFull(c.in, b[:]); err != nil {
		return header{}, err
	}
	h := parseHeader(&b)
	if h.length > c.cfg.MaxFrame {
		return h, fault(frameSizeError, "a frame has %d bytes, want at most %d", h.length, c.cfg.MaxFrame)
	}
	return h, nil
}

func (c *conn) readFrame(h header) error {
	switch h.typ {
	case frameData:
		return c.readData(h)
	case frameHeaders:
		return c.readHeaders(h)
	case frameContinuation, framePush:
		return fault(protocolError, "a frame of type %d comes unasked", h.typ)
	case frameSettings:
		return c.readSettings(h)
	case framePing, frameWindow, frameReset, framePriority:
		return c.readSmall(h)
	}
	return c.skip(h.length) // GOAWAY, and what there may be
}

func (c *conn) skip(n int) error {
	_, err := c.in.Discard(n)
	return err
}

// sizes are those of frames that have one.
var sizes = map[byte]int{framePing: 8, frameWindow: 4, frameReset: 4, framePriority: 5}

func (c *conn) readSmall(h header) error {
	if h.length != sizes[h.typ] {
		return fault(frameSizeError, "a frame of type %d has %d bytes", h.typ, h.length)
	}
	var b [8]byte
	if _, err := io.ReadFull(c.in, b[:h.length]); err != nil {
		return err
	}
	value := binary.BigEndian.Uint32(b[:])
	if h.stream > c.last && h.typ != framePriority || h.stream == 0 && h.typ == frameReset {
		return fault(protocolError, "a frame of type %d is for stream %d, which has not begun", h.typ, h.stream)
	}
	switch h.typ {
	case framePing:
		if h.has(flagAck) {
			return nil
		}
		if !c.out.control(append(appendHeader(nil, 8, framePing, flagAck, 0), b[:]...)) {
			return fault(tooMuch, "the client asks, and takes no answers")
		}
	case frameWindow:
		return c.grow(h.stream, int64(value&maxWindow))
	case frameReset:
		if s := c.stream(h.stream); s != nil {
			s.fail(fmt.Errorf("the client gave the request up (%d)", value))
		}
	}
	return nil
}

// grow lets a stream, or the connection, send more.
func (c *conn) grow(id uint32, by int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	window := &c.window
	if id != 0 {
		s := c.streams[id]
		if s == nil {
			return nil
		}
		window = &s.window
	}
	if *window += by; *window > maxWindow {
		return fault(flowControlError, "the window of stream %d is more than may be", id)
	}
	c.wake()
	return nil
}

// wake wakes whoever waits for a window. The caller holds mu.
func (c *conn) wake() {
	close(c.grown)
	c.grown = make(chan struct{})
}

func (c *conn) readSettings(h header) error {
	if h.length%6 != 0 || h.length > maxSettings || h.has(flagAck) && h.length > 0 {
		return fault(frameSizeError, "settings have %d bytes", h.length)
	}
	b := make([]byte, h.length)
	if _, err := io.ReadFull(c.in, b); err != nil || h.has(flagAck) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; len(b) > 0; b = b[6:] {
		value := int64(binary.BigEndian.Uint32(b[2:]))
		switch binary.BigEndian.Uint16(b) {
		case settingInitialWindow:
			if value > maxWindow {
				return fault(flowControlError, "the window of a stream shall be %d", value)
			}
			for _, s := range c.streams {
				s.window += value - c.initial
			}
			c.initial = value
			c.wake()
		case settingMaxFrame:
			if value < defaultFrame || value > 1<<24-1 {
				return fault(protocolError, "frames shall have %d bytes", value)
			}
			c.maxFrame = int(value)
		}
	}
	if !c.out.control(appendHeader(nil, 0, frameSettings, flagAck, 0)) {
		return fault(tooMuch, "the client sends settings, and takes no answers")
	}
	return nil
}

// end says to all who wait that nothing more comes.
func (c *conn) end(err error) {
	c.mu.Lock()
	c.over = err
	all := make([]*stream, 0, len(c.streams))
	for _, s := range c.streams {
		all = append(all, s)
	}
	c.wake()
	c.mu.Unlock()
	for _, s := range all {
		s.fail(err)
	}
}

func (c *conn) stream(id uint32) *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}
