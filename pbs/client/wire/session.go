package wire

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/h2"
)

const (
	// authority is what PBS's clients call the server within a session.
	authority = "localhost:8007"

	// maxFrame is the largest HTTP/2 frame we read, in bytes. Larger ones save
	// nothing.
	maxFrame = 1 << 20

	// streamWindow is how much of one answer may be on its way, in bytes: all
	// of most chunks, so that they need one round trip.
	streamWindow = 8 << 20

	// Streams is how many requests are on their way at the same time at most.
	// PBS takes 200.
	Streams = 100

	// silence is how long a server may say nothing before it is asked for a sign
	// of life: PBS says nothing for minutes while it writes a large backup down,
	// but its HTTP/2 does answer. The questions also keep firewalls from
	// forgetting a connection on which nothing happens. The answer may take
	// patience: on a full line it waits behind what was sent before.
	silence  = time.Minute
	patience = time.Minute
)

// A Session is an upgraded connection, on which requests travel side by side
// (PBS protocol notes §3.2).
type Session struct {
	server string
	conn   *upgraded
	h2     *h2.Client

	ctx    context.Context // its cause is what went wrong first
	stop   context.CancelCauseFunc
	forget func() bool // that the connection is dropped when ctx ends
}

// newSession begins to speak HTTP/2 on conn. The session ends with ctx, and has
// to be closed in any case.
func newSession(ctx context.Context, server string, conn *upgraded) *Session {
	s := &Session{server: server, conn: conn}
	s.ctx, s.stop = context.WithCancelCause(ctx)
	s.h2 = h2.NewClient(conn, h2.ClientConfig{
		MaxFrame: maxFrame, Window: streamWindow, Streams: Streams, Silence: silence, Patience: patience,
	})
	s.forget = context.AfterFunc(s.ctx, conn.drop)
	return s
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
	s.h2.Close()
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
	Body   []byte // default: none
	Kind   string // content type of Body; default Form
}

// Fetch makes a request and returns a successful answer, in memory that room
// gives. If it fails with an error of room that memory can be used again, else
// it must not be.
func (s *Session) Fetch(ctx context.Context, x Exchange, room h2.Room) ([]byte, error) {
	path := (&url.URL{Path: x.Path, RawQuery: x.Query.Encode()}).RequestURI()
	a, err := s.h2.Do(ctx, h2.Request{
		Method: x.Method, Authority: authority, Path: path, Body: x.Body,
		Header: [][2]string{{"user-agent", userAgent}, {"content-type", cmp.Or(x.Kind, Form)}},
	}, func(a h2.Answer) ([]byte, error) {
		if a.Status != http.StatusOK {
			return grow(a, maxMessage)
		}
		return room(a)
	})
	switch {
	case a.Status == http.StatusOK: // if err is set it is that of room
		return a.Body, err
	case a.Status != 0: // half a message is better than none
		return nil, fmt.Errorf("%s: %w", x.Doing, refusal(s.server, x.Method, x.Path, a.Status, a.Body))
	}
	return nil, s.broken(ctx, x.Doing, err)
}

// grow gives an answer memory, up to limit bytes and one that shows that there
// is more. What a server says of the length is believed up to a megabyte.
func grow(a h2.Answer, limit int64) ([]byte, error) {
	have := int64(len(a.Body))
	if have > limit {
		return nil, errTooLong
	}
	want := max(2*have, 4<<10, min(a.Length, 1<<20))
	return slices.Grow(a.Body, int(min(want, limit+1)-have)), nil
}

// broken says why there is no answer, or no end of it, if reading it failed
// with err.
func (s *Session) broken(ctx context.Context, doing string, err error) error {
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
	file, err := s.Fetch(ctx, x, func(a h2.Answer) ([]byte, error) { return grow(a, limit) })
	if err == nil && int64(len(file)) > limit {
		err = errTooLong
	}
	if errors.Is(err, errTooLong) {
		return nil, &AnswerError{s.server, x.Method + " " + x.Path, err}
	}
	return file, err
}
