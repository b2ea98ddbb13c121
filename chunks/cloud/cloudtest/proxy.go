package cloudtest

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Request is what a proxy's hook sees of one.
type Request struct {
	Class string // put, get, head, list, delete, other
	Key   string // of the object, or the prefix of a listing
	N     int    // how many of this class came before
	HTTP  *http.Request
}

// A Fault is what happens to a request instead of being answered well. Of a
// zero Fault nothing happens.
type Fault struct {
	Delay  time.Duration // before anything else
	Hang   bool          // no answer until the client gives up
	Reset  bool          // the connection is reset
	Status int           // this status, with an S3 error of Code
	Code   string
	After  bool // Reset and Status come after the store has done the work

	Cut    int64 // the body ends after this many bytes, and the connection breaks
	Stall  int64 // the body stops moving after this many bytes
	Flip   int64 // this byte of the body is flipped; counted from 1
	Shrink bool  // the cut body looks whole: its length is that of what is left

	CutUp  int64 // the connection breaks when so much of an upload is here
	FlipUp int64 // this byte of an upload is flipped on its way; counted from 1

	Empty   bool                     // 200 and nothing else
	Reply   string                   // 200 and this body, of a store that knows such things
	Header  map[string]string        // set in the answer, whatever it is
	Rewrite func(body []byte) []byte // another body
	Skew    time.Duration            // the store's clock
	Ignore  bool                     // conditions are taken out of the request, as bad providers do
}

// A Proxy stands between a client and a server.
type Proxy struct {
	URL string

	target *url.URL
	client *http.Transport
	quit   chan struct{} // ends what hangs

	mu     sync.Mutex
	hook   func(Request) *Fault
	counts map[string]int
	delay  time.Duration
}

// Front puts a proxy in front of a server, for the length of the test.
func Front(t testing.TB, s *Server) *Proxy {
	t.Helper()
	p, stop, err := NewProxy(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return p
}

// NewProxy starts a proxy in front of target. stop ends it.
func NewProxy(target string) (p *Proxy, stop func(), err error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, nil, err
	}
	p = &Proxy{quit: make(chan struct{}), target: u, counts: map[string]int{}, client: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true, DialContext: dialWide}}
	srv := httptest.NewServer(p)
	p.URL = srv.URL
	return p, func() { close(p.quit); srv.CloseClientConnections(); srv.Close(); p.client.CloseIdleConnections() }, nil
}

// On lets hook decide the fate of every request from here on. It may be called
// from several goroutines.
func (p *Proxy) On(hook func(Request) *Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

// Delay makes every request take so much longer.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Counts returns the requests by class since the last Reset.
func (p *Proxy) Counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

// Total returns all requests since the last Reset.
func (p *Proxy) Total() (n int) {
	for _, c := range p.Counts() {
		n += c
	}
	return n
}

// Reset begins to count anew.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.counts)
}

// see counts a request and asks for its fate.
func (p *Proxy) see(r *http.Request) Fault {
	req := classify(r)
	p.mu.Lock()
	req.N = p.counts[req.Class]
	p.counts[req.Class]++
	hook, delay := p.hook, p.delay
	p.mu.Unlock()
	var f Fault
	if hook != nil {
		if got := hook(req); got != nil {
			f = *got
		}
	}
	f.Delay += delay
	return f
}

// classify is written apart from what the client does, to be its oracle.
func classify(r *http.Request) Request {
	q := r.URL.Query()
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 2)
	req := Request{Class: "other", HTTP: r}
	if len(parts) == 2 {
		req.Key = parts[1]
	}
	switch {
	case q.Get("list-type") == "2":
		req.Class, req.Key = "list", q.Get("prefix")
	case req.Key == "" && r.Method == http.MethodPost && q.Has("delete"):
		req.Class = "delete"
	case req.Key == "":
	default:
		req.Class = strings.ToLower(r.Method)
	}
	return req
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := p.see(r)
	if !p.pause(r, f.Delay) {
		return
	}
	for k, v := range f.Header {
		w.Header().Set(k, v)
	}
	switch {
	case f.Hang:
		p.pause(r, time.Hour)
		return
	case !f.After && f.Reset:
		reset(w)
		return
	case !f.After && f.Status != 0:
		_, _ = io.Copy(io.Discard, r.Body)
		refuse(w, f)
		return
	case f.Reply != "":
		w.Header().Set("Content-Type", "application/xml")
		_, _ = io.WriteString(w, f.Reply)
		return
	case f.Empty:
		w.WriteHeader(http.StatusOK)
		return
	}
	switch {
	case f.CutUp > 0:
		_, _ = io.CopyN(io.Discard, r.Body, f.CutUp)
		reset(w)
		return
	case f.FlipUp > 0:
		r.Body = struct {
			io.Reader
			io.Closer
		}{&flipper{r: r.Body, at: f.FlipUp - 1}, r.Body}
	}
	resp, err := p.forward(r, f)
	if err != nil {
		reset(w)
		return
	}
	defer resp.Body.Close()
	switch {
	case f.Reset:
		_, _ = io.Copy(io.Discard, resp.Body)
		reset(w)
	case f.Status != 0:
		_, _ = io.Copy(io.Discard, resp.Body)
		refuse(w, f)
	default:
		p.answer(w, r, resp, f)
	}
}

// forward sends the request on. The Host stays, so the signature stays valid.
func (p *Proxy) forward(r *http.Request, f Fault) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = p.target.Scheme, p.target.Host, ""
	if f.Ignore {
		// They are signed, so a server that ignores them must be played by
		// signing nothing: the proxy tells the server that they never were.
		return p.unconditional(out)
	}
	return p.client.RoundTrip(out)
}

// answer passes the reply on, with what is wrong with it.
func (p *Proxy) answer(w http.ResponseWriter, r *http.Request, resp *http.Response, f Fault) {
	maps.Copy(w.Header(), resp.Header)
	for k, v := range f.Header {
		w.Header().Set(k, v)
	}
	if f.Skew != 0 {
		w.Header().Set("Date", time.Now().Add(f.Skew).UTC().Format(http.TimeFormat))
	}
	var body io.Reader = resp.Body
	switch {
	case f.Rewrite != nil:
		all, _ := io.ReadAll(body)
		all = f.Rewrite(all)
		w.Header().Set("Content-Length", strconv.Itoa(len(all)))
		body = bytes.NewReader(all)
	case f.Flip > 0:
		body = &flipper{r: body, at: f.Flip - 1}
	case f.Shrink:
		w.Header().Set("Content-Length", strconv.FormatInt(f.Cut, 10))
		body = io.LimitReader(body, f.Cut)
	}
	w.WriteHeader(resp.StatusCode)
	if limit := max(f.Cut, f.Stall); limit > 0 && !f.Shrink {
		_, _ = io.CopyN(w, body, limit)
		if fl, ok := w.(http.Flusher); ok {
			fl.Flush()
		}
		if f.Stall > 0 {
			p.pause(r, time.Hour)
		}
		reset(w)
		return
	}
	_, _ = wideCopy(w, body)
}

// wide is how much the proxy moves at a time, so that it costs little beside what
// it stands between.
const wide = 512 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, wide); return &b }}

func wideCopy(w io.Writer, r io.Reader) (int64, error) {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *b)
}

// A wideConn sends bodies in large pieces.
type wideConn struct{ net.Conn }

// ReadFrom implements io.ReaderFrom.
func (c wideConn) ReadFrom(r io.Reader) (int64, error) { return wideCopy(c.Conn, r) }

func dialWide(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return wideConn{c}, nil
}

type flipper struct {
	r  io.Reader
	at int64
}

func (f *flipper) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if f.at >= 0 && f.at < int64(n) {
		p[f.at] ^= 1
	}
	f.at -= int64(n)
	return n, err
}

// pause waits, and reports false if the client left.
func (p *Proxy) pause(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-r.Context().Done():
		return false
	case <-p.quit:
		return false
	case <-timer.C:
		return true
	}
}

// reset breaks the connection, as a crashed server or a firewall does.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // too late to take it over; this ends it as well
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

func refuse(w http.ResponseWriter, f Fault) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(f.Status)
	if f.Code != "" {
		_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>`+f.Code+`</Code><Message>injected</Message></Error>`)
	}
}
