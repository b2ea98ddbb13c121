package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	Base      = "/api2/json"
	userAgent = "holdfast"

	Form = "application/x-www-form-urlencoded"
	JSON = "application/json"
	Raw  = "application/octet-stream"

	// maxAnswer is the longest answer in bytes: a list of some 200,000
	// snapshots.
	maxAnswer = 128 << 20

	// maxTarget is the longest path with query that is sent, in bytes. PBS
	// accepts 3072; longer parameters go into the body.
	maxTarget = 2048

	// answerTimeout is how long an answer may take to begin, as with PBS's
	// clients; patientTimeout is that of calls that work before they answer.
	answerTimeout  = 2 * time.Minute
	patientTimeout = 2 * time.Hour
)

// A Request is one call of the API.
type Request struct {
	Method  string
	Path    string // from the root of the server, escaped
	Query   url.Values
	Body    []byte
	Kind    string // content type of Body; default Form
	Patient bool   // the server works before it answers

	anonymous bool // without a login
}

// An Answer is what successful calls return (PBS protocol notes §0.3). Total
// and Active are of lists and logs, which may be longer than their page.
type Answer[T any] struct {
	Data   T
	Total  int
	Active bool
}

// Call makes a call and returns the data of the answer.
func Call[T any](ctx context.Context, srv *Server, r Request) (T, error) {
	e, err := CallAll[T](ctx, srv, r)
	return e.Data, err
}

// CallAll makes a call and returns the answer. If the server has forgotten the
// ticket it logs in again and tries once more.
func CallAll[T any](ctx context.Context, srv *Server, r Request) (Answer[T], error) {
	resp, used, err := srv.send(ctx, r)
	if forgotten(err) && srv.auth.reject(ctx, used) {
		resp, _, err = srv.send(ctx, r)
	}
	if err != nil {
		return Answer[T]{}, err
	}
	defer resp.Body.Close()
	return readAnswer[T](ctx, srv, r, resp.Body)
}

// forgotten reports whether a server refused because it does not accept the
// ticket. There are other reasons for that status.
func forgotten(err error) bool {
	var refused *APIError
	return errors.As(err, &refused) && refused.Status == http.StatusUnauthorized &&
		strings.HasPrefix(refused.Message, "authentication failed")
}

// send sends a request and waits for the head of a successful answer. It says
// which ticket was used.
func (srv *Server) send(ctx context.Context, r Request) (_ *http.Response, ticket string, err error) {
	limit := answerTimeout
	if r.Patient {
		limit = patientTimeout
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { cancel(fmt.Errorf("no answer within %v", limit)) })
	defer timer.Stop()
	defer func() {
		if err != nil {
			cancel(nil)
		}
	}()
	req, err := srv.newRequest(ctx, r)
	if err != nil {
		return nil, "", err
	}
	if !r.anonymous {
		if ticket, err = srv.auth.authorize(ctx, req.Header); err != nil {
			return nil, "", err
		}
	}
	resp, err := srv.http.RoundTrip(req)
	if err != nil {
		return nil, ticket, srv.brokenCall(ctx, r, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, ticket, refused(srv.name, req, resp)
	}
	resp.Body = cancelBody{resp.Body, cancel}
	return resp, ticket, nil
}

// A cancelBody gives a request's context back when the answer was read.
type cancelBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b cancelBody) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

// brokenCall says why there is no answer.
func (srv *Server) brokenCall(ctx context.Context, r Request, err error) error {
	var known interface{ Hint() string }
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.Canceled), errors.Is(cause, context.DeadlineExceeded):
		return ctx.Err()
	case cause != nil: // the server took too long
		err = cause
	case errors.As(err, &known): // the connection was not made
		return err
	}
	return &LostError{Server: srv.name, Doing: r.Method + " " + plain(r.Path), Err: err}
}

// newRequest returns a request of HTTP/1.1 without authorisation.
func (srv *Server) newRequest(ctx context.Context, r Request) (*http.Request, error) {
	query := r.Query.Encode()
	if r.Method == "PUT" && r.Body == nil && len(r.Path)+len(query) > maxTarget {
		r.Body, r.Kind, query = []byte(query), Form, ""
	}
	path, err := url.PathUnescape(r.Path)
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", r.Path, err)
	}
	req := (&http.Request{
		Method: r.Method,
		URL:    &url.URL{Scheme: "https", Host: srv.name, Path: path, RawPath: r.Path, RawQuery: query},
		Host:   srv.name,
		Header: http.Header{"User-Agent": {userAgent}, "Content-Type": {Form}},
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if r.Kind != "" {
		req.Header.Set("Content-Type", r.Kind)
	}
	if r.Body != nil {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(r.Body)), int64(len(r.Body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.Body)), nil }
	}
	return req, nil
}

// readAnswer reads a successful answer. One that is empty means null.
func readAnswer[T any](ctx context.Context, srv *Server, r Request, body io.Reader) (a Answer[T], err error) {
	text, err := readBody(body, maxAnswer)
	switch {
	case errors.Is(err, errTooLong):
	case err != nil:
		return a, srv.brokenCall(ctx, r, err)
	case len(bytes.TrimSpace(text)) > 0:
		a, err = parseAnswer[T](text)
	}
	if err != nil {
		return a, &AnswerError{srv.name, r.Method + " " + plain(r.Path), err}
	}
	return a, nil
}

// parseAnswer reads {"data": …}.
func parseAnswer[T any](text []byte) (a Answer[T], err error) {
	var members struct {
		Data   json.RawMessage `json:"data"`
		Total  int             `json:"total"`
		Active bool            `json:"active"`
	}
	if err := json.Unmarshal(text, &members); err != nil {
		return a, err
	}
	if members.Data == nil {
		return a, errNoData
	}
	a.Total, a.Active = members.Total, members.Active
	return a, json.Unmarshal(members.Data, &a.Data)
}

// readBody reads at most limit bytes.
func readBody(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = errTooLong
	}
	return text, err
}

// Escape escapes all but letters and digits, as PBS's client does with
// UPIDs (PBS protocol notes §7.9).
func Escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
