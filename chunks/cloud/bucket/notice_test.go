package bucket_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
)

// A web server that was taken for a store, since its port is the next one, was called a
// bucket in another region, or tried for minutes.
func TestWhatIsNoStore(t *testing.T) {
	page := func(status int, location string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			if location != "" {
				w.Header().Set("Location", location)
			}
			w.WriteHeader(status)
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"a page for all":    page(200, ""),
		"a page of nothing": page(404, ""),
		"a login":           page(302, "https://console.example.com/login"),
		"a plain redirect": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://other.example.com/")
			w.WriteHeader(301)
		},
	} {
		srv := httptest.NewServer(h)
		b := cloudtest.Open(t, srv.URL)
		_, _, err := b.Get(t.Context(), "format", 1<<20)
		var hinted interface{ Hint() string }
		if !errors.Is(err, bucket.ErrNoStore) || errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrRegion) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "--endpoint") {
			t.Errorf("%s: get: %v", name, err)
		}
		if err := b.List(t.Context(), "", func([]bucket.Info) error { return nil }); !errors.Is(err, bucket.ErrNoStore) {
			t.Errorf("%s: list: %v", name, err)
		}
		if _, err := b.PutBytes(t.Context(), "x", []byte("x"), bucket.PutOption{}); !errors.Is(err, bucket.ErrNoStore) {
			t.Errorf("%s: put: %v", name, err)
		}
		srv.Close()
	}
}

// A server that says yes to everything has an object only if it returns it.
func TestYesToAllIsNoStore(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"ok":true}`))
	}))
	defer srv.Close()
	_, err := cloudtest.Open(t, srv.URL).Probe(t.Context())
	var hinted interface{ Hint() string }
	if !errors.Is(err, bucket.ErrNoStore) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "--endpoint") {
		t.Errorf("probe: %v", err)
	}
}

// A store that takes connections and says nothing was waited for without a word, for
// minutes. Who waits is told within ten seconds, whether a command or a task.
func TestASilentStoreIsSaid(t *testing.T) {
	quit := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-quit:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(quit)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("said")
	cfg := bucket.AccountConfig{Key: "k", Secret: "s", Quiet: 20 * time.Millisecond, Notice: func(string) { t.Error("the wrong one is told") }}
	acc, err := bucket.NewAccount(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer acc.Close()
	b, err := bucket.New(bucket.Config{Endpoint: srv.URL, Region: "r", Bucket: "b", PathStyle: true, Account: acc})
	if err != nil {
		t.Fatal(err)
	}
	ctx = bucket.Notify(ctx, func(text string) {
		if !strings.Contains(text, strings.TrimPrefix(srv.URL, "http://")+" has not answered for 20ms (get /b/format)") {
			t.Errorf("it is said %q", text)
		}
		cancel(stop)
	})
	if _, _, err := b.Get(ctx, "format", 1<<20); !errors.Is(err, stop) {
		t.Error(err)
	}
}
