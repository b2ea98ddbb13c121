package h2

import (
	"encoding/binary"
	"fmt"
)

// preface is what a client begins with.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Types of frames.
const (
	frameData         = 0
	frameHeaders      = 1
	framePriority     = 2
	frameReset        = 3
	frameSettings     = 4
	framePush         = 5
	framePing         = 6
	frameGoAway       = 7
	frameWindow       = 8
	frameContinuation = 9
)

// Flags of frames.
const (
	flagEndStream  = 0x1 // DATA, HEADERS
	flagAck        = 0x1 // SETTINGS, PING
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings.
const (
	settingPush          = 2
	settingMaxStreams    = 3
	settingInitialWindow = 4
	settingMaxFrame      = 5
)

const (
	frameHeader   = 9
	defaultWindow = 65535
	defaultFrame  = 16 << 10
	maxWindow     = 1<<31 - 1
	maxHeaders    = 64 << 10 // bytes of a head, compressed or not
	maxSettings   = 64 * 6   // bytes of a SETTINGS frame
)

// A code says why a stream or a connection ends.
type code uint32

const (
	noError          code = 0x0
	protocolError    code = 0x1
	internalError    code = 0x2
	flowControlError code = 0x3
	frameSizeError   code = 0x6
	refusedStream    code = 0x7
	compressionError code = 0x9
	tooMuch          code = 0xb
)

// A protocolFault is a mistake of the peer that ends the connection.
type protocolFault struct {
	code code
	text string
}

func (e *protocolFault) Error() string { return "http2: " + e.text }

func fault(c code, format string, args ...any) error {
	return &protocolFault{c, fmt.Sprintf(format, args...)}
}

// A header is the first nine bytes of a frame.
type header struct {
	length int
	typ    byte
	flags  byte
	stream uint32
}

func (h header) has(flag byte) bool { return h.flags&flag != 0 }

func parseHeader(b *[frameHeader]byte) header {
	return header{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		typ:    b[3], flags: b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & maxWindow,
	}
}

func appendHeader(b []byte, length int, typ, flags byte, stream uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), typ, flags)
	return binary.BigEndian.AppendUint32(b, stream)
}

// appendWord appends a frame that has one number in it.
func appendWord(b []byte, typ byte, stream, value uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, 4, typ, 0, stream), value)
}
