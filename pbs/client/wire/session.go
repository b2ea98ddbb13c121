package wire

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// authority is what PBS's clients call the server within a session.
	authority = "localhost:8007"

	// maxFrame is the largest HTTP/2 frame we read, in bytes. Larger ones save
	// nothing.
	maxFrame = 1 << 20

	// streamWindow is how much of one answer may be on its way, in bytes: all
	// of most chunks, so that they need one round trip. Streams times as much is the most that a server
	// can make us keep that we have not asked to be sent yet.
	streamWindow = 8 << 20

	// Streams is how many requests are on their way at the same time at most.
	// PBS takes 200.
	Streams = 100

	// pingEvery is how long a server may be silent before it is asked for a
	// sign of life, and pingTimeout how long that may take: on a full line it
	// waits behind what was sent before. PBS says nothing for minutes while it
	// writes a large backup down, but its HTTP/2 does answer. The pings also
	// keep firewalls from forgetting a connection on which nothing happens.
	pingEvery   = time.Minute
	pingTimeout = time.Minute

	// stalled is how long a connection may take nothing before it counts as
	// lost.
	stalled = 2 * time.Minute
)

// A Session is an upgraded connection, on which requests travel side by side
// (PBS protocol notes §3.2).
type Session struct {
	server string
	conn   *upgraded
	h2     *http.ClientConn

	ctx    context.Context // its cause is what went wrong first
	stop   context.CancelCauseFunc
	forget func() bool // that the connection is dropped when ctx ends
}

// newSession begins to speak HTTP/2 on conn. The session ends with ctx. If
// newSession fails conn is closed.
func newSession(ctx context.Context, server string, conn *upgraded) (*Session, error) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true) // what is below has been encrypted already
	t := &http.Transport{
		Protocols: protocols,
		HTTP2: &http.HTTP2Config{
			MaxReadFrameSize:          maxFrame,
			MaxReceiveBufferPerStream: streamWindow,
			SendPingTimeout:           pingEvery,
			PingTimeout:               pingTimeout,
			WriteByteTimeout:          stalled,
		},
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	h2, err := t.NewClientConn(ctx, "http", authority)
	if err != nil {
		conn.drop()
		return nil, &LostError{Server: server, Doing: "begin the session", Err: err}
	}
	s := &Session{server: server, conn: conn, h2: h2}
	s.ctx, s.stop = context.WithCancelCause(ctx)
	s.forget = context.AfterFunc(s.ctx, conn.drop)
	return s, nil
}

// RoundTrip returns how long the server is away. It is an upper bound: the
// server did something as well while that was measured.
func (s *Session) RoundTrip() time.Duration { return s.conn.trip }

// Context returns the context that ends with the session. Its cause says why it
// did.
func (s *Session) Context() context.Context { return s.ctx }

// Fail ends the session at once. All that is on its way fails with err.
func (s *Session) Fail(err error) { s.stop(err) }

// Close ends the session when nothing is on its way.
func (s *Session) Close(reason error) {
	polite := s.forget()
	s.stop(reason)
	if polite {
		s.conn.close()
	}
}

// Alive says why nothing more can be asked for, if so.
func (s *Session) Alive(ctx context.Context) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return ctx.Err()
}

// Both returns a context that ends with ctx and with the session.
func (s *Session) Both(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// An Exchange is one request within a session.
type Exchange struct {
	Doing  string // what it is for, for messages: "upload chunk 1a2b3c4d"
	Method string
	Path   string // from the root of the session
	Query  url.Values
	Body   *Payload // default: none; it is closed in any case
	Kind   string   // content type of Body; default Form
}

// Send sends a request and waits for the head of a successful answer.
func (s *Session) Send(ctx context.Context, x Exchange) (*http.Response, error) {
	req := (&http.Request{
		Method: x.Method,
		URL:    &url.URL{Scheme: "https", Host: authority, Path: x.Path, RawQuery: x.Query.Encode()},
		Header: http.Header{"User-Agent": {userAgent}, "Content-Type": {cmp.Or(x.Kind, Form)}},
		Proto:  "HTTP/2.0", ProtoMajor: 2,
	}).WithContext(ctx)
	if x.Body != nil {
		req.Body, req.ContentLength = x.Body, int64(x.Body.Len())
	}
	resp, err := s.h2.RoundTrip(req)
	if err != nil {
		return nil, s.Broken(ctx, x.Doing, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, fmt.Errorf("%s: %w", x.Doing, refusal(s.server, req, resp))
	}
	return resp, nil
}

// Broken says why there is no answer, or no end of it, if reading it failed
// with err.
func (s *Session) Broken(ctx context.Context, doing string, err error) error {
	if gone := s.Alive(ctx); gone != nil {
		return gone
	}
	return &LostError{Server: s.server, Doing: doing, Err: err}
}

// Do makes a call within a session and returns the data of the answer.
func Do[T any](ctx context.Context, s *Session, x Exchange) (data T, err error) {
	text, err := s.Download(ctx, x, maxSessionAnswer)
	if err != nil || len(bytes.TrimSpace(text)) == 0 { // no text means null
		return data, err
	}
	a, err := parseAnswer[T](text)
	if err != nil {
		return data, &AnswerError{s.server, x.Method + " " + x.Path, err}
	}
	return a.Data, nil
}

// maxSessionAnswer is the longest answer to a call within a session, in bytes:
// a digest, with room to spare.
const maxSessionAnswer = 64 << 10

// Download makes a request and returns the answer, at most limit bytes long.
func (s *Session) Download(ctx context.Context, x Exchange, limit int64) ([]byte, error) {
	resp, err := s.Send(ctx, x)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	file, err := readBody(resp.Body, limit)
	switch {
	case errors.Is(err, errTooLong):
		return nil, &AnswerError{s.server, x.Method + " " + x.Path, err}
	case err != nil:
		return nil, s.Broken(ctx, x.Doing, err)
	}
	return file, nil
}
