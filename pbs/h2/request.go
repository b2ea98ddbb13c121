package h2

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http2/hpack"
)

// fields collects what the decoder finds in the head of a request.
type fields struct {
	method, path, authority, scheme string
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
	case ":scheme":
		f.scheme = h.Value
	default:
		if !strings.HasPrefix(h.Name, ":") {
			f.header.Add(h.Name, h.Value)
		}
	}
}

// readHeaders reads the head of a request, all its frames, and begins it.
func (c *conn) readHeaders(h header) error {
	block, err := c.readBlock(h)
	if err != nil {
		return err
	}
	for h := h; !h.has(flagEndHeaders); {
		next, err := c.readHeader()
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
		if _, err := io.ReadFull(c.in, more); err != nil {
			return err
		}
		block, h = append(block, more...), next
	}
	c.fields = fields{header: http.Header{}}
	if _, err := c.decoder.Write(block); err != nil {
		return fault(compressionError, "headers of stream %d: %v", h.stream, err)
	}
	if err := c.decoder.Close(); err != nil {
		return fault(compressionError, "headers of stream %d: %v", h.stream, err)
	}
	if h.stream <= c.last { // what follows a body tells nothing
		if s := c.stream(h.stream); s != nil && h.has(flagEndStream) {
			s.body.end(io.EOF)
		}
		return nil
	}
	if h.stream%2 == 0 {
		return fault(protocolError, "the client begins stream %d", h.stream)
	}
	c.last = h.stream
	return c.begin(h)
}

// readBlock reads a HEADERS frame without what stands around the headers.
func (c *conn) readBlock(h header) ([]byte, error) {
	if h.stream == 0 {
		return nil, fault(protocolError, "headers come for no stream")
	}
	if h.length > maxHeaders {
		return nil, fault(tooMuch, "headers of stream %d have %d bytes", h.stream, h.length)
	}
	block := make([]byte, h.length)
	if _, err := io.ReadFull(c.in, block); err != nil {
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

// begin begins a stream, unless there are too many.
func (c *conn) begin(h header) error {
	if c.fields.size > maxHeaders {
		return fault(tooMuch, "headers of stream %d have more than %d bytes", h.stream, maxHeaders)
	}
	r, ok := c.request(h.has(flagEndStream))
	c.mu.Lock()
	if c.running >= c.cfg.Streams {
		c.mu.Unlock()
		ok = c.out.control(appendWord(nil, frameReset, h.stream, uint32(refusedStream)))
		if !ok {
			return fault(tooMuch, "the client begins streams that are refused, and takes no answers")
		}
		return nil
	}
	s := &stream{c: c, id: h.stream, window: c.initial}
	s.body.arrived = sync.NewCond(&s.body.mu)
	s.ctx, s.cancel = context.WithCancelCause(c.ctx)
	c.streams[s.id] = s
	c.running++
	c.mu.Unlock()
	if h.has(flagEndStream) {
		s.body.end(io.EOF)
	}
	r.Body = bodyReader{s}
	r = r.WithContext(s.ctx)
	if !ok {
		r.Method, r.URL = "", &url.URL{Path: "/"} // no handler knows it
	}
	c.handlers.Add(1)
	go s.serve(r)
	if !h.has(flagEndStream) {
		runtime.Gosched() // a handler that asks for the body before it is read saves a copy of it
	}
	return nil
}

// request makes a request of the fields.
func (c *conn) request(noBody bool) (r *http.Request, ok bool) {
	f := &c.fields
	if !strings.HasPrefix(f.path, "/") {
		f.path = "/" + f.path
	}
	u, err := url.ParseRequestURI(f.path)
	r = &http.Request{
		Method: f.method, URL: u, RequestURI: f.path, Header: f.header, Host: f.authority,
		Proto: "HTTP/2.0", ProtoMajor: 2, ContentLength: -1, RemoteAddr: c.net.RemoteAddr().String(),
	}
	if n, err := strconv.ParseInt(f.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		r.ContentLength = n
	}
	if noBody {
		r.ContentLength = 0
	}
	return r, err == nil && f.method != ""
}
