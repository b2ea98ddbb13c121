package node

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/node/notices"
)

// running runs a node until the returned function is called.
func running(t *testing.T, c Config) (*admin.Client, func()) {
	t.Helper()
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	operator := admin.NewClient(c.Dir)
	return operator, func() {
		operator.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// waiting polls until so many events wait for the only target.
func waiting(t *testing.T, operator *admin.Client, want int) {
	t.Helper()
	var all []struct{ Waiting int }
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		r, err := operator.Call(t.Context(), http.MethodGet, "/holdfast/notifications/deliveries", nil)
		if err == nil {
			err = r.Into(&all)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 1 && all[0].Waiting == want {
			return
		}
	}
	t.Fatalf("waiting: %+v, want %d", all, want)
}

// A person sets up who hears of what, is told by way of a real server, and what
// a task has to say waits over a restart. No secret is in the configuration, nor
// in the ledger.
func TestPeopleAreTold(t *testing.T) {
	const secret = "hush-hush-3f8a"
	heard := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		heard <- r.Header.Get("Authorization") + " " + string(text)
	}))
	defer server.Close()
	c := initialised(t)
	operator, stop := running(t, c)
	call := func(method, path string, params url.Values) string {
		t.Helper()
		r, err := operator.Call(t.Context(), method, path, params)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		return string(r.Data)
	}
	coded := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	const hooks, matchers = "/config/notifications/endpoints/webhook", "/config/notifications/matchers"
	call("POST", hooks, url.Values{
		"name": {"hook"}, "url": {server.URL}, "body": {coded("{{ severity }}: {{ title }}")}, "interval": {"1d"},
		"header": {"name=Authorization,value=" + coded("Bearer {{ secrets.token }}")}, "secret": {"name=token,value=" + coded(secret)},
	})
	if _, err := operator.Call(t.Context(), "POST", matchers, url.Values{"name": {"all"}, "target": {"nobody"}}); err == nil {
		t.Error("a matcher may name a target that there is not")
	}
	call("POST", matchers, url.Values{"name": {"all"}, "target": {"hook"}, "match-severity": {"info,error"}})
	call("POST", "/config/notifications/targets/hook/test", nil)
	if got := <-heard; got != "Bearer "+secret+" info: Test of notifications from home" {
		t.Errorf("heard %q", got)
	}
	if _, err := operator.Call(t.Context(), "DELETE", hooks+"/hook", nil); err == nil || !strings.Contains(err.Error(), "referenced by: all") {
		t.Errorf("a target that is used is removed: %v", err)
	}
	for _, path := range []string{hooks, hooks + "/hook", matchers, "/config/notifications/targets"} {
		if text := call("GET", path, nil); strings.Contains(text, secret) || strings.Contains(text, coded(secret)) {
			t.Errorf("%s shows a secret: %s", path, text)
		}
	}
	call("POST", "/config/datastore", url.Values{"name": {"main"}, "path": {filepath.Join(c.Dir, ".store")}})
	deadline := time.Now().Add(time.Minute)
	for { // until it is made
		if _, err := operator.Call(t.Context(), "POST", "/admin/datastore/main/gc", nil); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	waiting(t, operator, 1)
	stop()
	nowhere(t, filepath.Join(c.Dir, clusterDir), secret)
	operator, stop = running(t, c)
	defer stop()
	waiting(t, operator, 1)
}

// nowhere fails if a text is in a file of a directory.
func nowhere(t *testing.T, dir, text string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) || bytes.Contains(data, []byte(base64.StdEncoding.EncodeToString([]byte(text)))) {
			t.Errorf("%s is in %s", text, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A claim is this node's until its time is over, and another's is not.
func TestClaims(t *testing.T) {
	n := newGateTest(t).n
	claims := &notices.Claims{Cluster: n.cluster, Reached: func() []string { return nil }}
	until := time.Now().Add(time.Hour)
	for try := range 2 {
		if mine, err := claims.Claim(t.Context(), "gone/x", until); err != nil || !mine {
			t.Errorf("try %d: %v, %v", try, mine, err)
		}
	}
	var row string
	for key, r := range ledger.Settings.All(n.cluster.View()) {
		if strings.HasPrefix(key, "notices/") {
			row = key
			other := ledger.Setting{Value: "somebody " + strings.Fields(r.Body.Value)[1]}
			_, err := n.cluster.Client().Do(t.Context(), "node", "", ledger.KindChange, ledger.Change{Ops: []ledger.Op{ledger.Settings.Put(key, r.Version, other)}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if mine, err := claims.Claim(t.Context(), "gone/x", until); err != nil || mine {
		t.Errorf("what somebody else has claimed: %v, %v", mine, err)
	}
	was, _ := ledger.Settings.Get(n.cluster.View(), row)
	past := ledger.Setting{Value: "somebody 1"}
	if _, err := n.cluster.Client().Do(t.Context(), "node", "", ledger.KindChange, ledger.Change{Ops: []ledger.Op{ledger.Settings.Put(row, was.Version, past)}}); err != nil {
		t.Fatal(err)
	}
	if mine, err := claims.Claim(t.Context(), "gone/y", until); err != nil || !mine {
		t.Errorf("another event: %v, %v", mine, err)
	}
	if _, is := ledger.Settings.Get(n.cluster.View(), row); is {
		t.Error("a claim whose time is over is still there")
	}
}
