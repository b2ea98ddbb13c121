package h2

import (
	"io"
	"net/http"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// fields collects what the decoder finds in the head of a request or an
// answer.
type fields struct {
	method, path, authority, status string
	header                          http.Header
	size                            int
}

func (f *fields) add(h hpack.HeaderField) {
	if f.size += len(h.Name) + len(h.Value) + 32; f.size > maxHeaders {
		return
	}
	switch h.Name {
	case ":method":
		f.method = h.Value
	case ":path":
		f.path = h.Value
	case ":authority":
		f.authority = h.Value
	case ":status":
		f.status = h.Value
	default:
		if !strings.HasPrefix(h.Name, ":") {
			f.header.Add(h.Name, h.Value)
		}
	}
}

// readHead reads a head, all its frames, into fields.
func (l *link) readHead(h header) error {
	block, err := l.readBlock(h)
	if err != nil {
		return err
	}
	for h := h; !h.has(flagEndHeaders); {
		next, err := l.readHeader()
		if err != nil {
			return err
		}
		if next.typ != frameContinuation || next.stream != h.stream {
			return fault(protocolError, "headers of stream %d break off", h.stream)
		}
		if len(block)+next.length > maxHeaders {
			return fault(tooMuch, "headers of stream %d have more than %d bytes", h.stream, maxHeaders)
		}
		more := make([]byte, next.length)
		if _, err := io.ReadFull(l.in, more); err != nil {
			return err
		}
		block, h = append(block, more...), next
	}
	l.fields = fields{header: http.Header{}}
	if _, err := l.decoder.Write(block); err != nil {
		return fault(compressionError, "headers of stream %d: %v", h.stream, err)
	}
	if err := l.decoder.Close(); err != nil {
		return fault(compressionError, "headers of stream %d: %v", h.stream, err)
	}
	if l.fields.size > maxHeaders {
		return fault(tooMuch, "headers of stream %d have more than %d bytes", h.stream, maxHeaders)
	}
	return nil
}

// readBlock reads a HEADERS frame without what stands around the headers.
func (l *link) readBlock(h header) ([]byte, error) {
	if h.stream == 0 {
		return nil, fault(protocolError, "headers come for no stream")
	}
	if h.length > maxHeaders {
		return nil, fault(tooMuch, "headers of stream %d have %d bytes", h.stream, h.length)
	}
	block := make([]byte, h.length)
	if _, err := io.ReadFull(l.in, block); err != nil {
		return nil, err
	}
	padding := 0
	if h.has(flagPadded) && len(block) > 0 {
		padding, block = int(block[0]), block[1:]
	}
	if h.has(flagPriority) && len(block) >= 5 {
		block = block[5:]
	}
	if padding > len(block) {
		return nil, fault(protocolError, "headers of stream %d have %d bytes of padding", h.stream, padding)
	}
	return block[:len(block)-padding], nil
}
