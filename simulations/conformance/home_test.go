package conformance

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/node"
	"github.com/holdfast-mesh/holdfast/node/admin"
	"github.com/holdfast-mesh/holdfast/pbs/sitetest"
)

// A home is a whole node as the daemon has it, known from outside only: by its
// address, and by the socket of its operator.
type home struct {
	wire
	dir      string
	operator *admin.Client
}

// newHome runs a node, with datastores by these names and an administrator,
// until the test ends.
func newHome(t *testing.T, stores ...string) *home {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf") // short: it has a socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := initialised(t, dir)
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	h := &home{wire: wire{t: t, addr: n.Address().String()}, dir: dir, operator: admin.NewClient(cfg.Dir)}
	t.Cleanup(func() {
		h.operator.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	h.furnish(stores...)
	return h
}

// initialised makes a node in a directory.
func initialised(t *testing.T, dir string) node.Config {
	t.Helper()
	cfg := node.Config{Dir: filepath.Join(dir, "n"), Name: "pbs3", Site: "home", Listen: "127.0.0.1:0", MeshListen: "127.0.0.1:0"}
	if err := node.Init(cfg); err != nil {
		t.Fatal(err)
	}
	cfg, err := node.ReadConfig(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	return cfg
}

// furnish makes datastores and the administrator.
func (h *home) furnish(stores ...string) {
	h.t.Helper()
	h.running = func() int {
		var tasks []struct{}
		h.read(h.call("GET", "/nodes/localhost/tasks", url.Values{"running": {"1"}}), &tasks)
		return len(tasks)
	}
	for _, name := range append(stores, "store1") {
		h.task("POST", "/config/datastore", url.Values{"name": {name}, "path": {filepath.Join(h.dir, name)}})
	}
	h.user(string(sitetest.Admin), "/ Admin")
	h.secret = h.token(string(sitetest.Admin)+"!tok", "/ Admin")
}

// call asks the node for something as its operator.
func (h *home) call(method, path string, params url.Values) admin.Result {
	h.t.Helper()
	r, err := h.operator.Call(h.t.Context(), method, path, params)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

func (h *home) read(r admin.Result, v any) {
	h.t.Helper()
	if err := r.Into(v); err != nil {
		h.t.Fatal(err)
	}
}

// task begins a task and waits until it has ended well.
func (h *home) task(method, path string, params url.Values) {
	h.t.Helper()
	var upid string
	h.read(h.call(method, path, params), &upid)
	if status := h.ended(upid); status != "OK" {
		h.t.Fatalf("%s %s: the task ended with %s", method, path, status)
	}
}

// ended waits for the end of a task and returns how that was.
func (h *home) ended(upid string) string {
	h.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var is struct{ Status, Exitstatus string }
		h.read(h.call("GET", "/nodes/localhost/tasks/"+url.PathEscape(upid)+"/status", nil), &is)
		if is.Status == "stopped" {
			return is.Exitstatus
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s does not end", upid)
		}
	}
}

// taskLog returns the log of the newest task of a kind.
func (h *home) taskLog(kind string) string {
	h.t.Helper()
	var tasks []struct{ UPID string }
	h.read(h.call("GET", "/nodes/localhost/tasks", url.Values{"typefilter": {kind}, "limit": {"1"}}), &tasks)
	if len(tasks) == 0 {
		return ""
	}
	var lines []struct{ T string }
	h.read(h.call("GET", "/nodes/localhost/tasks/"+url.PathEscape(tasks[0].UPID)+"/log", url.Values{"limit": {"0"}}), &lines)
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.T + "\n")
	}
	return b.String()
}

// user makes a user with the password [sitetest.Password], and roles, each as
// "/PATH ROLE".
func (h *home) user(id string, grants ...string) {
	h.t.Helper()
	h.call("POST", "/access/users", url.Values{"userid": {id}, "password": {sitetest.Password}})
	h.grant(id, grants...)
}

// token makes an API token and returns its secret.
func (h *home) token(id string, grants ...string) string {
	h.t.Helper()
	user, name, _ := strings.Cut(id, "!")
	var made struct{ Value string }
	h.read(h.call("POST", "/access/users/"+user+"/token/"+name, nil), &made)
	h.grant(id, grants...)
	return made.Value
}

func (h *home) grant(id string, grants ...string) {
	h.t.Helper()
	for _, g := range grants {
		path, role, _ := strings.Cut(g, " ")
		h.call("PUT", "/access/acl", url.Values{"path": {path}, "role": {role}, "auth-id": {id}})
	}
}

// api sends what a client sends, as it is, and returns the data of the answer,
// which must be well.
func (w *wire) api(method, target string, into any, headers ...string) {
	w.t.Helper()
	w.decode(w.http(method, target, "application/x-www-form-urlencoded", "", headers...), into)
}

// decode reads the data of an answer, which must be well.
func (w *wire) decode(answer string, into any) {
	w.t.Helper()
	status, body, _ := strings.Cut(answer, " ")
	var v struct{ Data json.RawMessage }
	if status != "200" || json.Unmarshal([]byte(body), &v) != nil || v.Data == nil {
		w.t.Fatal(answer)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(v.Data, into); err != nil {
		w.t.Fatalf("%v in %s", err, body)
	}
}
