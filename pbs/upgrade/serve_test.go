package upgrade

//lint:file-ignore SA1019 a client on a connection that was upgraded by hand; see package upgrade.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// A wire is a client and a server on a pipe, in a bubble.
type wire struct {
	client *http2.ClientConn
	near   net.Conn
	cancel context.CancelCauseFunc
	ended  chan error
}

func newWire(t *testing.T, h http.Handler, l Limits) *wire {
	t.Helper()
	near, far := net.Pipe()
	ctx, cancel := context.WithCancelCause(t.Context())
	w := &wire{near: near, cancel: cancel, ended: make(chan error, 1)}
	go func() { w.ended <- Serve(ctx, far, h, l) }()
	c, err := (&http2.Transport{AllowHTTP: true}).NewClientConn(near)
	if err != nil {
		t.Fatal(err)
	}
	w.client = c
	t.Cleanup(func() { near.Close(); cancel(nil) })
	return w
}

func (w *wire) do(method, path string, body io.Reader) (int, string, error) {
	r, err := http.NewRequest(method, "http://localhost:8007"+path, body)
	if err != nil {
		return 0, "", err
	}
	resp, err := w.client.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func drain(w http.ResponseWriter, r *http.Request) error {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	return Data(w, nil)
}

// A client may say nothing for days between requests, but not within one.
func TestClientThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, Mux{"POST /x": drain}, Limits{Stall: time.Minute})
		time.Sleep(48 * time.Hour)
		if status, text, err := w.do("POST", "/x", strings.NewReader("hello")); status != http.StatusOK || err != nil {
			t.Fatalf("after two days: %d %s, %v", status, text, err)
		}
		began := time.Now()
		half, rest := io.Pipe()
		go rest.Write([]byte("the first half"))
		go w.do("POST", "/x", half)
		err := <-w.ended
		if took := time.Since(began); !errors.Is(err, ErrStalled) || took < time.Minute || took > 2*time.Minute {
			t.Errorf("after %v: %v, want that the client stalled", took, err)
		}
		rest.Close()
	})
}

// A handler that works for long is no stall.
func TestServerThatTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, Mux{"POST /x": func(w http.ResponseWriter, r *http.Request) error {
			time.Sleep(time.Hour)
			return Data(w, 1)
		}}, Limits{Stall: time.Minute})
		if status, text, err := w.do("POST", "/x", nil); status != http.StatusOK || text != `{"data":1}` || err != nil {
			t.Errorf("%d %s, %v", status, text, err)
		}
	})
}

// Serve ends within a second of its context, and after its handlers.
func TestServeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inside, out := make(chan bool), false
		w := newWire(t, Mux{"POST /x": func(_ http.ResponseWriter, r *http.Request) error {
			inside <- true
			<-r.Context().Done()
			time.Sleep(time.Second / 2)
			out = true
			return context.Cause(r.Context())
		}}, Limits{})
		go w.do("POST", "/x", nil)
		<-inside
		began, shutdown := time.Now(), errors.New("shutdown")
		w.cancel(shutdown)
		err := <-w.ended
		if took := time.Since(began); !errors.Is(err, shutdown) || !out || took > time.Second {
			t.Errorf("after %v, handler out %v: %v", took, out, err)
		}
	})
}

// That the client goes is no error, in whatever way.
func TestClientGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, Mux{"POST /x": drain}, Limits{})
		if _, _, err := w.do("POST", "/x", nil); err != nil {
			t.Fatal(err)
		}
		w.near.Close()
		if err := <-w.ended; err != nil {
			t.Errorf("the end: %v", err)
		}
	})
}

// A refusal waits for the end of the body (§3.2): an early one breaks clients.
func TestRefusalComesAfterTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, Mux{"POST /x": func(http.ResponseWriter, *http.Request) error { return errors.New("no") }}, Limits{})
		half, rest := io.Pipe()
		answered := false
		go func() {
			rest.Write([]byte("the first half"))
			time.Sleep(time.Minute)
			if answered {
				t.Error("the answer came before the end of the body")
			}
			rest.Close()
		}()
		status, text, err := w.do("POST", "/x", half)
		answered = true
		if status != http.StatusBadRequest || text != "no" || err != nil {
			t.Errorf("%d %s, %v", status, text, err)
		}
	})
}

func TestMux(t *testing.T) {
	m := Mux{
		"GET /a": func(w http.ResponseWriter, _ *http.Request) error { return Data(w, "a") },
		"PUT /b": func(http.ResponseWriter, *http.Request) error { return Errorf(http.StatusUnauthorized, "not you") },
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, m, Limits{})
		for _, tt := range []struct {
			name, method, path string
			status             int
			want               string
		}{
			{"a path", "GET", "/a", 200, `{"data":"a"}`},
			{"empty components do not count", "GET", "//a/", 200, `{"data":"a"}`},
			{"another method", "POST", "/a", 404, "Path '/a' not found."},
			{"no path at all", "GET", "/", 200, `{"data":[{"subdir":"a"},{"subdir":"b"}]}`},
			{"an error with a status", "PUT", "/b", 401, "not you"},
		} {
			if status, text, err := w.do(tt.method, tt.path, nil); status != tt.status || text != tt.want || err != nil {
				t.Errorf("%s: %d %s, %v; want %d %s", tt.name, status, text, err, tt.status, tt.want)
			}
		}
	})
}
