package s3

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket/pin"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/usage"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// A fixed is settings that change when the test says so.
type fixed struct{ state settings.State }

func (f *fixed) State() *settings.State { s := f.state; return &s }

func (f *fixed) Update(_ context.Context, change func(*settings.State) error) error {
	return change(&f.state)
}

func open(t *testing.T, state settings.Store, dir string) *Clients {
	t.Helper()
	c, err := Open(state, filepath.Join(dir, "s3-secrets.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetSecret(t.Context(), "near", cloudtest.Secret); err != nil {
		t.Fatal(err)
	}
	return c
}

func put(t *testing.T, c *Clients, key string) {
	t.Helper()
	b, err := c.Bucket("near", cloudtest.Name, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.PutBytes(t.Context(), key, []byte("x"), bucket.PutOption{}); err != nil {
		t.Fatal(err)
	}
}

// A store with a certificate of its own is reached by the fingerprint that is set up.
func TestFingerprintIsUsed(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	state := &fixed{settings.State{S3Clients: []settings.S3Client{{
		ID: "near", Endpoint: srv.URL, AccessKey: cloudtest.Key, PathStyle: true, Fingerprint: pin.Of(srv.Certificate()),
	}}}}
	c := open(t, state, t.TempDir())
	b, err := c.Bucket("near", cloudtest.Name, "")
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := b.Reach(t.Context()); conn.Status != http.StatusNotFound {
		t.Errorf("%+v, %v", conn, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatWasAskedOutlivesARestartAndANewKey(t *testing.T) {
	server, dir := cloudtest.Start(t), t.TempDir()
	state := &fixed{settings.State{S3Clients: []settings.S3Client{{ID: "near", Endpoint: server.URL, AccessKey: cloudtest.Key, PathStyle: true}}}}
	c := open(t, state, dir)
	put(t, c, "a")
	state.state.S3Clients[0].PutRateLimit = 100 // another account from here on
	put(t, c, "b")
	state.state.S3Clients[0].Budget = "requests=1" // the same one
	put(t, c, "c")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if len(c.accounts) != 2 {
		t.Errorf("there were %d accounts, want 2", len(c.accounts))
	}
	c = open(t, state, dir)
	put(t, c, "d")
	now := time.Now()
	a := c.Usage("near", now)
	if a.Total.Requests["put"] != 4 || a.Months[now.UTC().Format("2006-01")].Total() < 4 || a.Total.Out != 4 {
		t.Errorf("the book has %+v", a.Total)
	}
	if err := c.ResetCounters("near"); err != nil {
		t.Fatal(err)
	}
	if a := c.Usage("near", now); a.Total.Total() != 0 || len(a.Months) == 0 {
		t.Errorf("after a reset: %+v", a)
	}
	if err := c.ResetCounters("far"); err == nil {
		t.Error("the counters of nobody were reset")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// A damaged book keeps no datastore from its backups. What is known of tasks counts
// again, and it is told until somebody has looked. (A budget that was used up let
// everything begin again, without a word.)
func TestADamagedBookIsPutAside(t *testing.T) {
	dir := t.TempDir()
	c := open(t, &fixed{}, dir)
	now := time.Now()
	run := usage.Run{Task: "a", Began: now.Add(-time.Minute), Ended: now, Made: prices.Use{Requests: map[string]int64{"put": 7}, In: 3}}
	if err := errors.Join(c.Keep("near", run), c.Doubts(), c.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, usageFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it is remembered
		c = open(t, &fixed{}, dir)
		if a := c.Usage("near", now); a.Months[now.UTC().Format("2006-01")].Requests["put"] != 7 || a.Total.In != 3 {
			t.Errorf("the book has %+v", a)
		}
		if err := c.Doubts(); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("nobody is told: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, usageFile+damaged)); err != nil {
		t.Error(err)
	}
	if err := c.Doubts(); err != nil {
		t.Errorf("after somebody has looked: %v", err)
	}
}

func TestProviderOf(t *testing.T) {
	for _, tt := range []struct {
		client settings.S3Client
		want   string
		egress float64
	}{
		{settings.S3Client{Endpoint: "https://s3.eu-central-1.wasabisys.com"}, "Wasabi, pay as you go", 0},
		{settings.S3Client{Endpoint: "s3.{{region}}.amazonaws.com"}, "AWS S3 Standard", 0.09},
		{settings.S3Client{Endpoint: "http://192.0.2.1:9000/x", Provider: "b2"}, "Backblaze B2", 0.01},
		{settings.S3Client{Endpoint: "s3.eu-central-1.amazonaws.com", Prices: "egress=0.02"}, "AWS S3 Standard with own prices", 0.02},
		{settings.S3Client{Endpoint: "192.0.2.1", Prices: "egress=0.5"}, "own prices (get, list, put, storage not told: they count as 0)", 0.5},
		{settings.S3Client{Endpoint: "192.0.2.1"}, "", 0},
	} {
		p, known, err := ProviderOf(tt.client)
		if err != nil || p.Name != tt.want || known != (tt.want != "") || p.Egress != tt.egress {
			t.Errorf("%+v: %+v, %t, %v", tt.client, p, known, err)
		}
	}
	if _, _, err := ProviderOf(settings.S3Client{Prices: "egress"}); err == nil {
		t.Error("nonsense was accepted")
	}
}
