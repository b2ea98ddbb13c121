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
)

// readHeaders reads the head of a request, and begins it.
func (c *conn) readHeaders(h header) error {
	if err := c.readHead(h); err != nil {
		return err
	}
	if c.begun(h.stream) { // what follows a body tells nothing
		if s := c.stream(h.stream); s != nil && h.has(flagEndStream) {
			s.body.end(io.EOF)
		}
		return nil
	}
	if h.stream%2 == 0 {
		return fault(protocolError, "the client begins stream %d", h.stream)
	}
	return c.begin(h)
}

// begin begins a stream, unless there are too many.
func (c *conn) begin(h header) error {
	r, ok := c.request(h.has(flagEndStream))
	c.mu.Lock()
	c.last = h.stream
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
