package h2

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/net/http2/hpack"
)

// A link is what both ends of a connection have: frames, heads and windows.
type link struct {
	peer    string // "client" or "server", for messages
	net     net.Conn
	in      *bufio.Reader
	most    int // bytes of a frame that we take
	decoder *hpack.Decoder
	fields  fields
	out     output

	mu sync.Mutex

	last     uint32 // the last stream that the client began
	streams  map[uint32]member
	credit   int           // bytes that were taken, and the peer may send anew
	window   int64         // bytes that the peer takes
	initial  int64         // the same of a new stream
	maxFrame int           // bytes of a frame that the peer takes
	allowed  uint32        // streams at the same time that the peer takes
	grown    chan struct{} // closed when a window has grown, or a stream has ended
	over     error
}

// A member is a stream of a link.
type member interface {
	room() *int64 // bytes of it that the peer takes; guarded by the link's mutex
	fail(error)   // ends it before its time
}

var errEnded = errors.New("the connection has ended")

func (l *link) init(peer string, nc net.Conn, most int) {
	l.peer, l.net, l.in, l.most = peer, nc, bufio.NewReaderSize(nc, 16<<10), most
	l.streams = map[uint32]member{}
	l.window, l.initial, l.maxFrame, l.allowed = defaultWindow, defaultWindow, defaultFrame, maxWindow
	l.grown = make(chan struct{})
	l.decoder = hpack.NewDecoder(4096, l.fields.add)
	l.decoder.SetMaxStringLength(maxHeaders)
	l.out.init(nc)
}

// A setting is one line of a SETTINGS frame.
type setting struct {
	id    uint16
	value uint32
}

// greet says what this end can, after hello, and that the connection may send
// window bytes ahead.
func (l *link) greet(hello string, window int, settings ...setting) {
	b := appendHeader([]byte(hello), 6*len(settings), frameSettings, 0, 0)
	for _, s := range settings {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, s.id), s.value)
	}
	l.out.control(appendWord(b, frameWindow, 0, uint32(window-defaultWindow)))
}

func (l *link) readHeader() (header, error) {
	var b [frameHeader]byte
	if _, err := io.ReadFull(l.in, b[:]); err != nil {
		return header{}, err
	}
	h := parseHeader(&b)
	if h.length > l.most {
		return h, fault(frameSizeError, "a frame has %d bytes, want at most %d", h.length, l.most)
	}
	return h, nil
}

// readOther reads a frame that is neither DATA nor HEADERS.
func (l *link) readOther(h header) error {
	switch h.typ {
	case frameContinuation, framePush:
		return fault(protocolError, "a frame of type %d comes unasked", h.typ)
	case frameSettings:
		return l.readSettings(h)
	case framePing, frameWindow, frameReset, framePriority:
		return l.readSmall(h)
	}
	return l.skip(h.length) // what there may be
}

func (l *link) skip(n int) error {
	_, err := l.in.Discard(n)
	return err
}

// readPadding begins to read a DATA frame, and returns how much of it is data
// and how much what follows.
func (l *link) readPadding(h header) (data, padding int, err error) {
	if h.stream == 0 || !l.begun(h.stream) {
		return 0, 0, fault(protocolError, "data come for stream %d, which has not begun", h.stream)
	}
	if !h.has(flagPadded) {
		return h.length, 0, nil
	}
	n, err := l.in.ReadByte()
	if err != nil {
		return 0, 0, err
	}
	if padding = int(n); padding >= h.length {
		return 0, 0, fault(protocolError, "a frame of %d bytes has %d of padding", h.length, padding)
	}
	return h.length - padding - 1, padding, nil
}

// skipPadding ends what readPadding has begun.
func (l *link) skipPadding(h header, padding int) error {
	if !h.has(flagPadded) {
		return nil
	}
	l.took(padding + 1)
	return l.skip(padding)
}

// sizes are those of frames that have one.
var sizes = map[byte]int{framePing: 8, frameWindow: 4, frameReset: 4, framePriority: 5}

func (l *link) readSmall(h header) error {
	if h.length != sizes[h.typ] {
		return fault(frameSizeError, "a frame of type %d has %d bytes", h.typ, h.length)
	}
	var b [8]byte
	if _, err := io.ReadFull(l.in, b[:h.length]); err != nil {
		return err
	}
	value := binary.BigEndian.Uint32(b[:])
	if !l.begun(h.stream) && h.typ != framePriority || h.stream == 0 && h.typ == frameReset {
		return fault(protocolError, "a frame of type %d is for stream %d, which has not begun", h.typ, h.stream)
	}
	switch h.typ {
	case framePing:
		if h.has(flagAck) {
			return nil
		}
		if !l.out.control(append(appendHeader(nil, 8, framePing, flagAck, 0), b[:]...)) {
			return fault(tooMuch, "the %s asks, and takes no answers", l.peer)
		}
	case frameWindow:
		return l.grow(h.stream, int64(value&maxWindow))
	case frameReset:
		if m := l.member(h.stream); m != nil {
			m.fail(fmt.Errorf("the %s gave the request up (%d)", l.peer, value))
		}
	}
	return nil
}

// begun reports whether the client has begun a stream.
func (l *link) begun(id uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return id <= l.last
}

func (l *link) member(id uint32) member {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.streams[id]
}

// grow lets a stream, or the connection, send more.
func (l *link) grow(id uint32, by int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	window := &l.window
	if id != 0 {
		m := l.streams[id]
		if m == nil {
			return nil
		}
		window = m.room()
	}
	if *window += by; *window > maxWindow {
		return fault(flowControlError, "the window of stream %d is more than may be", id)
	}
	l.wake()
	return nil
}

// wake wakes whoever waits for a window or for a stream to end. The caller
// holds mu.
func (l *link) wake() {
	close(l.grown)
	l.grown = make(chan struct{})
}

func (l *link) readSettings(h header) error {
	if h.length%6 != 0 || h.length > maxSettings || h.has(flagAck) && h.length > 0 {
		return fault(frameSizeError, "settings have %d bytes", h.length)
	}
	b := make([]byte, h.length)
	if _, err := io.ReadFull(l.in, b); err != nil || h.has(flagAck) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; len(b) > 0; b = b[6:] {
		value := int64(binary.BigEndian.Uint32(b[2:]))
		switch binary.BigEndian.Uint16(b) {
		case settingInitialWindow:
			if value > maxWindow {
				return fault(flowControlError, "the window of a stream shall be %d", value)
			}
			for _, m := range l.streams {
				*m.room() += value - l.initial
			}
			l.initial = value
		case settingMaxFrame:
			if value < defaultFrame || value > 1<<24-1 {
				return fault(protocolError, "frames shall have %d bytes", value)
			}
			l.maxFrame = int(value)
		case settingMaxStreams:
			l.allowed = uint32(value)
		}
	}
	l.wake()
	if !l.out.control(appendHeader(nil, 0, frameSettings, flagAck, 0)) {
		return fault(tooMuch, "the %s sends settings, and takes no answers", l.peer)
	}
	return nil
}

// The peer is told of room for this many bytes at a time.
const creditStep = 512 << 10

// took gives the connection room for n bytes.
func (l *link) took(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.credit += n; l.credit >= creditStep {
		l.out.control(appendWord(nil, frameWindow, 0, uint32(l.credit)))
		l.credit = 0
	}
}

// tryReserve says how many of n bytes of a stream the peer takes now, and that
// they are sent. The caller holds mu.
func (l *link) tryReserve(m member, n int) int {
	if l.over != nil {
		return 0
	}
	window := m.room()
	got := min(int64(n), l.window, *window, int64(l.maxFrame))
	if got <= 0 {
		return 0
	}
	l.window -= got
	*window -= got
	return int(got)
}

// end says to all who wait that nothing more comes.
func (l *link) end(err error) {
	l.mu.Lock()
	l.over = err
	all := make([]member, 0, len(l.streams))
	for _, m := range l.streams {
		all = append(all, m)
	}
	l.wake()
	l.mu.Unlock()
	for _, m := range all {
		m.fail(err)
	}
}
