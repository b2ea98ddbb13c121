package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A door is a server that runs, in a directory with a short name.
type door struct {
	dir  string
	stop func() error // ends it and waits
}

func open(t *testing.T, h http.Handler) *door {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf") // short: there is a socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := Listen(Config{Dir: dir, Handler: h})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	d := &door{dir: dir, stop: sync.OnceValue(func() error { cancel(); return <-done })}
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *door) client(t *testing.T) *Client {
	c := NewClient(d.dir)
	t.Cleanup(c.Close)
	return c
}

// echo answers with the parameters that it got.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, `{"data":%q,"total":1}`, r.Method+" "+r.URL.Path+" "+r.Form.Encode()+" from "+r.RemoteAddr)
})

// What is asked arrives, and the answer comes back, or the refusal with its cure.
func TestCall(t *testing.T) {
	d := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api2/json/no":
			w.Header().Set(rest.HintHeader, "ask another")
			http.Error(w, "not this one", http.StatusNotFound)
		case "/api2/json/silent":
			w.WriteHeader(http.StatusBadGateway)
		case "/api2/json/nonsense":
			fmt.Fprint(w, "<html>")
		default:
			echo(w, r)
		}
	}))
	c := d.client(t)
	for method, want := range map[string]string{
		"GET": "GET /api2/json/a%2Fb x=1&x=2 from local", "POST": "POST /api2/json/a%2Fb x=1&x=2 from local",
		"PUT": "PUT /api2/json/a%2Fb x=1&x=2 from local", "DELETE": "DELETE /api2/json/a%2Fb x=1&x=2 from local",
	} {
		r, err := c.Call(t.Context(), method, "/a%252Fb", url.Values{"x": {"1", "2"}})
		var got string
		if err := errors.Join(err, r.Into(&got)); err != nil || got != want || string(r.Beside["total"]) != "1" {
			t.Errorf("%s: %q, beside it %q, %v; want %q", method, got, r.Beside, err, want)
		}
		if err := r.Into(new(int)); err == nil {
			t.Errorf("%s: a text is a number", method)
		}
	}
	_, err := c.Call(t.Context(), "GET", "/no", nil)
	var refused *Refusal
	if !errors.As(err, &refused) || refused.Error() != "not this one" || refused.Hint() != "ask another" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refusal: %#v", err)
	}
	if _, err := c.Call(t.Context(), "GET", "/silent", nil); err == nil || !strings.Contains(err.Error(), "502") || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refusal without words: %v", err)
	}
	if _, err := c.Call(t.Context(), "GET", "/nonsense", nil); err == nil || !strings.Contains(err.Error(), "makes no sense") {
		t.Errorf("an answer that is none: %v", err)
	}
}

// The socket belongs to its owner, is taken over from one who died, and is gone
// in the end; without it, whoever asks is told how to start the daemon.
func TestSocket(t *testing.T) {
	d := open(t, echo)
	path := filepath.Join(d.dir, Socket)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	c := d.client(t)
	if !c.Running(t.Context()) {
		t.Error("it is not running")
	}
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	if c.Running(t.Context()) {
		t.Error("it is running after its end")
	}
	_, err = c.Call(t.Context(), "GET", "/ping", nil)
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "no node in "+d.dir) || !strings.Contains(hinted.Hint(), "removed while it runs") {
		t.Errorf("without a daemon and node.toml: %v", err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "node.toml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "--data "+d.dir) {
		t.Errorf("without a daemon: %v", err)
	}
	// What one that was killed leaves is in nobody's way.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s, err := Listen(Config{Dir: d.dir, Handler: echo})
	if err != nil {
		t.Fatalf("over the socket of one that died: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	long := filepath.Join(d.dir, strings.Repeat("x", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Config{Dir: long, Handler: echo}); !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "shorter") {
		t.Errorf("a path that is too long: %v", err)
	}
	if _, err := NewClient(long).Dial(t.Context()); !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "shorter") {
		t.Errorf("a path that is too long, to the client: %v", err)
	}
}

// What makes no sense, or is too large, is refused without a harm: the next one
// is answered.
func TestMalformedRequests(t *testing.T) {
	d := open(t, echo)
	for name, text := range map[string]string{
		"no HTTP":             "\x00\x01\x02\xff\r\n\r\n",
		"nothing":             "",
		"half a line":         "GET /api2",
		"no host":             "GET /api2/json/version HTTP/1.1\r\n\r\n",
		"two lengths":         "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"a negative length":   "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"a header without an": "GET /x HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", 2<<20) + "\r\n\r\n",
		"many headers":        "GET /x HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 300_000) + "\r\n",
		"a wrong chunk":       "POST /x HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := NewClient(d.dir).Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go func() {
				_, _ = io.WriteString(conn, text) // it may be cut off
				_ = conn.(*net.UnixConn).CloseWrite()
			}()
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err == nil && resp.StatusCode < 400 {
				t.Errorf("it is answered with %s", resp.Status)
			}
		})
	}
	if _, err := d.client(t).Call(t.Context(), "GET", "/x", nil); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// A huge answer is one too, and a huge request arrives as far as the handler
// reads it.
func TestHuge(t *testing.T) {
	const size = 16 << 20
	d := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, size))
		if err != nil {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		fmt.Fprintf(w, `{"data":"%s"}`, strings.Repeat("x", int(n)))
	}))
	c := d.client(t)
	var text string
	r, err := c.Call(t.Context(), "POST", "/x", url.Values{"a": {strings.Repeat("b", size/2)}})
	if err := errors.Join(err, r.Into(&text)); err != nil || len(text) != size/2+2 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, err := c.Call(t.Context(), "POST", "/x", url.Values{"a": {strings.Repeat("b", size)}}); err == nil {
		t.Error("more than the handler takes is taken")
	}
	if _, err := c.Call(t.Context(), "GET", "/x", nil); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// Many at once are answered, each with its own answer; when all ends, requests
// are told, and waited for.
func TestConcurrent(t *testing.T) {
	var inside atomic.Int32
	waits := make(chan struct{})
	d := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api2/json/wait" {
			inside.Add(1)
			close(waits)
			<-r.Context().Done()
			time.Sleep(50 * time.Millisecond) // what it has to clean up
			inside.Add(-1)
			return
		}
		echo(w, r)
	}))
	c := d.client(t)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			var got string
			r, err := c.Call(t.Context(), "GET", "/x", url.Values{"i": {fmt.Sprint(i)}})
			if err := errors.Join(err, r.Into(&got)); err != nil || !strings.Contains(got, fmt.Sprintf(" i=%d ", i)) {
				t.Errorf("call %d: %q, %v", i, got, err)
			}
		})
	}
	all.Wait()
	all.Go(func() { _, _ = c.Call(t.Context(), "GET", "/wait", nil) }) // it is cut off
	<-waits
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	if n := inside.Load(); n != 0 {
		t.Errorf("%d requests are left behind", n)
	}
	all.Wait()
}
