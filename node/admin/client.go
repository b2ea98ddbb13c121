package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A Client asks the daemon of a node.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a client of the node with the directory dir. It does not
// connect yet.
func NewClient(dir string) *Client {
	c := &Client{path: filepath.Join(dir, Socket)}
	c.http.Transport = &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx) },
		DisableCompression: true, MaxIdleConns: 4, IdleConnTimeout: time.Minute,
	}
	return c
}

// Close frees the connections that wait for another request.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Dial connects to the daemon, for who speaks another protocol than Call.
func (c *Client) Dial(ctx context.Context) (net.Conn, error) {
	if len(c.path) > maxPath {
		return nil, &longPath{c.path}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return nil, &absentError{c.path, err}
	}
	return conn, nil
}

// Running tells whether a daemon answers.
func (c *Client) Running(ctx context.Context) bool {
	conn, err := c.Dial(ctx)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// A Result is what a call of the API answers with.
type Result struct {
	Data   json.RawMessage
	Beside map[string]json.RawMessage // "total", "digest" and the like
}

// Into reads the data into v.
func (r Result) Into(v any) error {
	if err := json.Unmarshal(r.Data, v); err != nil {
		return fmt.Errorf("the daemon's answer makes no sense: %w", err)
	}
	return nil
}

// maxAnswer bounds an answer in bytes. A list of 100,000 snapshots has some
// 50 MiB.
const maxAnswer = 1 << 30

// Call calls a method of the API, with a path below /api2/json. Parameters go
// into the body where the method has one. What the daemon refuses is a
// [*Refusal].
func (c *Client) Call(ctx context.Context, method, path string, params url.Values) (Result, error) {
	target, body := "http://localhost/api2/json"+path, ""
	if method == http.MethodPost || method == http.MethodPut {
		body = params.Encode()
	} else if len(params) > 0 {
		target += "?" + params.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		return Result{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.http.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the URL says nothing here
		}
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			err = &endedError{err}
		}
		return Result{}, err
	}
	defer resp.Body.Close() // it was only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Result{}, fmt.Errorf("read the daemon's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return Result{}, &Refusal{resp.StatusCode, strings.TrimSpace(string(text)), resp.Header.Get(rest.HintHeader)}
	}
	r := Result{}
	if err := json.Unmarshal(text, &r.Beside); err != nil {
		return Result{}, fmt.Errorf("the daemon's answer makes no sense: %w", err)
	}
	r.Data = r.Beside["data"]
	delete(r.Beside, "data")
	return r, nil
}

// A Refusal is what the daemon says instead of doing something.
type Refusal struct {
	Status int // of HTTP
	Text   string
	Cure   string // what to do about it, "" if that is not known
}

// Hint is printed on its own line below the error.
func (e *Refusal) Hint() string { return e.Cure }

func (e *Refusal) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("the daemon refused it (status %d)", e.Status)
	}
	return e.Text
}

// Is makes a 404 recognisable as fs.ErrNotExist.
func (e *Refusal) Is(target error) bool {
	return target == fs.ErrNotExist && e.Status == http.StatusNotFound
}

// An endedError says that the daemon went away while it was asked.
type endedError struct{ err error }

func (e *endedError) Error() string {
	return fmt.Sprintf("the daemon ended before it answered: %v", e.err)
}
func (e *endedError) Unwrap() error { return e.err }

// Hint is printed on its own line below the error.
func (e *endedError) Hint() string {
	return "it is not known how much was done: start the daemon (its log says why it ended), look, and run the same command again if it was not"
}

// An absentError says that no daemon answers.
type absentError struct {
	path string
	err  error
}

func (e *absentError) Error() string {
	return fmt.Sprintf("no daemon answers at %s: %v", e.path, e.err)
}
func (e *absentError) Unwrap() error { return e.err }

// Hint is printed on its own line below the error.
func (e *absentError) Hint() string {
	switch dir := filepath.Dir(e.path); {
	case errors.Is(e.err, fs.ErrPermission):
		return "run as root, or as the user that the daemon runs as"
	case errors.Is(e.err, fs.ErrNotExist), errors.Is(e.err, syscall.ECONNREFUSED):
		return "start it with `systemctl start holdfast` or `holdfast node run --data " + dir + "`; if its directory is another, name it with --data"
	}
	return ""
}
