package client_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

// An exchange was recorded between an official client and a PBS 3.2.4 server.
type exchange struct {
	Name   string `json:"name"`
	Method string `json:"method"`
	Target string `json:"target"`
	Body   string `json:"body"`
	Raw    []byte `json:"body64"`
	Status int    `json:"status"`
	Answer string `json:"answer"`
}

func goldenExchanges(t *testing.T) map[string]exchange {
	t.Helper()
	f, err := os.Open("testdata/golden/exchanges.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string]exchange{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e exchange
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		all[e.Name] = e
	}
	return all
}

// A replay is a server that gives recorded answers to the recorded requests,
// in their order, and says which request is not the recorded one.
type replay struct {
	mu   sync.Mutex
	next []exchange
	bad  []string
}

func (p *replay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.next) == 0 {
		p.bad = append(p.bad, "too many: "+r.RequestURI)
		return
	}
	want := p.next[0]
	p.next = p.next[1:]
	if how := want.compare(r); how != "" {
		p.bad = append(p.bad, want.Name+": "+how)
	}
	w.WriteHeader(want.Status)
	io.WriteString(w, want.Answer)
}

// compare says how a request differs from the recorded one. Parameters have no
// order, and a "?" without any means nothing.
func (e exchange) compare(r *http.Request) string {
	wantPath, wantQuery, _ := strings.Cut(e.Target, "?")
	gotPath, gotQuery, _ := strings.Cut(r.RequestURI, "?")
	want, _ := url.ParseQuery(wantQuery)
	got, _ := url.ParseQuery(gotQuery)
	body, err := io.ReadAll(r.Body)
	switch {
	case err != nil:
		return err.Error()
	case r.Method != e.Method || gotPath != wantPath:
		return fmt.Sprintf("got %s %s, want %s %s", r.Method, gotPath, e.Method, wantPath)
	case !reflect.DeepEqual(got, want):
		return fmt.Sprintf("got parameters %v, want %v", got, want)
	case e.Raw != nil && string(body) != string(e.Raw):
		return "the body differs"
	case e.Body == "" && e.Raw == nil && len(body) > 0:
		return fmt.Sprintf("got body %q, want none", body)
	case e.Body != "":
		var gotJSON, wantJSON any
		if json.Unmarshal(body, &gotJSON) != nil || json.Unmarshal([]byte(e.Body), &wantJSON) != nil || !reflect.DeepEqual(gotJSON, wantJSON) {
			return fmt.Sprintf("got body %s, want %s", body, e.Body)
		}
		if r.Header.Get("Content-Type") != "application/json" {
			return "the body is not called JSON"
		}
	}
	return ""
}

const gcTask = "UPID:pbs3:00004CE0:000C74B1:00000042:6B00FD97:garbage_collection:store1:admin@pbs:"

func TestCallsAreThoseOfTheOfficialClient(t *testing.T) {
	g1 := naming.Group{Type: naming.Host, ID: "g1"}
	own := naming.Group{Type: naming.Host, ID: "own-backup"}
	at := func(g naming.Group, time int64) naming.Snapshot { return naming.Snapshot{Group: g, Time: time} }
	s1, zz := at(g1, 1700000000), at(naming.Group{Type: naming.Host, ID: "zz"}, 1700000000)
	log := chunks.Blob(goldenExchanges(t)["30-upload-log/3"].Raw)
	type ask func(ctx context.Context, c *client.Client) (any, error)
	nothing := func(do func(ctx context.Context, c *client.Client) error) ask {
		return func(ctx context.Context, c *client.Client) (any, error) { return "", do(ctx, c) }
	}
	for _, row := range []struct {
		name, exchanges, want string // want: part of the result, or of the error
		ask                   ask
	}{
		{"version", "12-version/3", "3.2.4", func(ctx context.Context, c *client.Client) (any, error) { return c.Version(ctx) }},
		{"status", "13-status/3", "{270553174016 34140094464 63653199872}", func(ctx context.Context, c *client.Client) (any, error) { return c.Status(ctx) }},
		{"a namespace in the root", "15-namespaces/3", "", nothing(func(ctx context.Context, c *client.Client) error { return c.CreateNamespace(ctx, "a") })},
		{"a namespace below", "15-namespaces/7", "", nothing(func(ctx context.Context, c *client.Client) error { return c.CreateNamespace(ctx, "a/b") })},
		{"a namespace without a parent", "15-namespaces/15", "parent x doesn't already exists (status 400)", nothing(func(ctx context.Context, c *client.Client) error { return c.CreateNamespace(ctx, "x/y") })},
		{"all namespaces", "15-namespaces/19", "[ a a/b]", func(ctx context.Context, c *client.Client) (any, error) { return c.Namespaces(ctx, "", -1) }},
		{"the root alone", "15-namespaces/23", "[]", func(ctx context.Context, c *client.Client) (any, error) { return c.Namespaces(ctx, "", 0) }},
		{"namespaces below one", "15-namespaces/27", "[a a/b]", func(ctx context.Context, c *client.Client) (any, error) { return c.Namespaces(ctx, "a", -1) }},
		{"delete a namespace", "15-namespaces/43", "", nothing(func(ctx context.Context, c *client.Client) error { return c.DeleteNamespace(ctx, "d", false) })},
		{"delete one with groups", "65-namespace-delete/7", "", nothing(func(ctx context.Context, c *client.Client) error { return c.DeleteNamespace(ctx, "a/b", true) })},
		{"deleting groups must be said", "65-namespace-delete/3", "only partially deleted", nothing(func(ctx context.Context, c *client.Client) error { return c.DeleteNamespace(ctx, "a", false) })},
		{"groups", "40-lists/3", "{host g1 1700007200 3 [etc.conf.blob index.json.blob disk.img.fidx catalog.pcat1.didx root.pxar.didx] admin@pbs }", func(ctx context.Context, c *client.Client) (any, error) { return c.Groups(ctx, "") }},
		{"all snapshots", "40-lists/7", "g1/1700000000 size 8720836 owner admin@pbs, 6 files", func(ctx context.Context, c *client.Client) (any, error) { return describe(ctx, c, "", naming.Group{}) }},
		{"snapshots of a group", "40-lists/11", "g1/1700007200", func(ctx context.Context, c *client.Client) (any, error) { return describe(ctx, c, "", g1) }},
		{"snapshots of a namespace", "40-lists/15", "a/g1/1700000000", func(ctx context.Context, c *client.Client) (any, error) { return describe(ctx, c, "a", naming.Group{}) }},
		{"snapshots that were verified", "100-api-verify/17", "verified ok", func(ctx context.Context, c *client.Client) (any, error) {
			return describe(ctx, c, "", naming.Group{Type: naming.Host, ID: "g2"})
		}},
		{"no such namespace", "15-namespaces/51", "list the snapshots of store1 in nope: ", func(ctx context.Context, c *client.Client) (any, error) {
			return describe(ctx, c, "nope", naming.Group{})
		}},
		{"files", "40-lists/19", "{catalog.pcat1.didx none", func(ctx context.Context, c *client.Client) (any, error) { return c.Files(ctx, "", s1) }},
		{"files of no snapshot", "40-lists/27", "ENOENT", func(ctx context.Context, c *client.Client) (any, error) { return c.Files(ctx, "", zz) }},
		{"no notes", "41-notes/3", "", func(ctx context.Context, c *client.Client) (any, error) { return c.Notes(ctx, "", s1) }},
		{"write notes", "41-notes/7", "", nothing(func(ctx context.Context, c *client.Client) error {
			return c.SetNotes(ctx, "", s1, "first line\nsecond line")
		})},
		{"read notes", "41-notes/11", "first line\nsecond line", func(ctx context.Context, c *client.Client) (any, error) { return c.Notes(ctx, "", s1) }},
		{"notes of no snapshot", "41-notes/19", "unable to update manifest blob", nothing(func(ctx context.Context, c *client.Client) error { return c.SetNotes(ctx, "", zz, "x") })},
		{"not protected", "42-protected/3", "false", func(ctx context.Context, c *client.Client) (any, error) { return c.Protected(ctx, "", s1) }},
		{"protect", "42-protected/7", "", nothing(func(ctx context.Context, c *client.Client) error { return c.SetProtected(ctx, "", s1, true) })},
		{"protected", "42-protected/15", "true", func(ctx context.Context, c *client.Client) (any, error) { return c.Protected(ctx, "", s1) }},
		{"unprotect", "42-protected/27", "", nothing(func(ctx context.Context, c *client.Client) error { return c.SetProtected(ctx, "", s1, false) })},
		{"forget a protected one", "42-protected/19", "cannot remove protected snapshot", nothing(func(ctx context.Context, c *client.Client) error { return c.Forget(ctx, "", s1) })},
		{"forget", "63-forget/3", "", nothing(func(ctx context.Context, c *client.Client) error { return c.Forget(ctx, "", at(g1, 1700003600)) })},
		{"forget twice", "63-forget/7", "for locking", nothing(func(ctx context.Context, c *client.Client) error { return c.Forget(ctx, "", at(g1, 1700003600)) })},
		{"prune in a dry run", "42-protected/23", "{ host g1 1700003600 false false} { host g1 1700007200 true false}", func(ctx context.Context, c *client.Client) (any, error) {
			return c.Prune(ctx, "", g1, retention.Keep{Last: 1}, true)
		}},
		{"prune", "61-prune/3", "{ host g1 1700000000 false false}", func(ctx context.Context, c *client.Client) (any, error) {
			return c.Prune(ctx, "", g1, retention.Keep{Last: 2}, false)
		}},
		{"prune without the privilege", "71-owner-mismatch/19", "missing Datastore.Modify|Datastore.Prune on /datastore/store1 (status 403)", func(ctx context.Context, c *client.Client) (any, error) {
			return c.Prune(ctx, "", own, retention.Keep{Last: 1}, false)
		}},
		{"change the owner", "71-owner-mismatch/27", "", nothing(func(ctx context.Context, c *client.Client) error {
			return c.ChangeOwner(ctx, "", own, "backup@pbs!tok")
		})},
		{"change the owner without the privilege", "71-owner-mismatch/59", "does not have permission", nothing(func(ctx context.Context, c *client.Client) error { return c.ChangeOwner(ctx, "", own, "backup@pbs") })},
		{"an owner who is nobody", "71-owner-mismatch/91", "inactive or non-existent", nothing(func(ctx context.Context, c *client.Client) error { return c.ChangeOwner(ctx, "", own, "ghost@pbs") })},
		{"upload a log", "30-upload-log/3", "", nothing(func(ctx context.Context, c *client.Client) error { return c.UploadLog(ctx, "", s1, log) })},
		{"upload another log", "31-upload-log-again/3", "already contains a log", nothing(func(ctx context.Context, c *client.Client) error { return c.UploadLog(ctx, "", s1, log) })},
		{"collect garbage and watch", "64-garbage-collect/3 64-garbage-collect/5 64-garbage-collect/7 64-garbage-collect/9 64-garbage-collect/11", "starting garbage collection on store store1 … TASK OK", func(ctx context.Context, c *client.Client) (any, error) {
			upid, err := c.GC(ctx)
			return watch(ctx, c, upid, err)
		}},
		{"running tasks", "64-garbage-collect/15", "[]", func(ctx context.Context, c *client.Client) (any, error) {
			return c.Tasks(ctx, client.TaskFilter{Limit: 50, Running: true, Store: "store1", User: "admin@pbs"})
		}},
		{"stop a task", "64-garbage-collect/25", "", nothing(func(ctx context.Context, c *client.Client) error { return c.StopTask(ctx, gcTask) })},
		{"the log of no task", "64-garbage-collect/29", "No such file or directory", func(ctx context.Context, c *client.Client) (any, error) {
			return watch(ctx, c, "UPID:pbs3:00000001:00000001:00000000:60000000:garbage_collection:store1:admin@pbs:", nil)
		}},
		{"login", "01-login/1", "ticket of admin@pbs ticket of admin@pbs PBS:admin@pbs:6B00FD14::", func(ctx context.Context, c *client.Client) (any, error) {
			ticket, err := c.Login(ctx)
			return fmt.Sprintf("%v %#v %s", ticket, ticket, ticket.Ticket), err
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, check := replayed(t, row.exchanges)
			got, err := row.ask(t.Context(), c)
			check()
			var refused *client.APIError
			switch {
			case err != nil && (!errors.As(err, &refused) || !strings.Contains(err.Error(), row.want)):
				t.Errorf("got the error %v, want one with %q", err, row.want)
			case err == nil && !strings.Contains(fmt.Sprint(got), row.want):
				t.Errorf("got %v, want %q in it", got, row.want)
			}
		})
	}
}

// replayed returns a client, logged in, of a server that expects exchanges.
func replayed(t *testing.T, names string) (*client.Client, func()) {
	t.Helper()
	all, p := goldenExchanges(t), &replay{}
	for name := range strings.FieldsSeq(names) {
		e, ok := all[name]
		if !ok {
			t.Fatalf("no exchange %s", name)
		}
		p.next = append(p.next, e)
	}
	login := p.next[0].Name == "01-login/1"
	if !login {
		p.next = append([]exchange{all["01-login/1"]}, p.next...)
	}
	srv := httptest.NewTLSServer(p)
	t.Cleanup(srv.Close)
	cfg := config(t, srv.Listener.Addr().String(), certificateOf(srv))
	cfg.Repository.User, cfg.Password = "admin@pbs", "secret12345"
	c := connect(t, cfg)
	return c, func() {
		t.Helper()
		if len(p.next) > 0 {
			t.Errorf("%d requests were not made, the next of them %s", len(p.next), p.next[0].Target)
		}
		for _, bad := range p.bad {
			t.Error(bad)
		}
	}
}

func describe(ctx context.Context, c *client.Client, ns naming.Namespace, g naming.Group) (string, error) {
	var b strings.Builder
	all, err := c.Snapshots(ctx, ns, g)
	for _, i := range all {
		if i.Namespace != "" {
			fmt.Fprintf(&b, "%s/", i.Namespace)
		}
		fmt.Fprintf(&b, "%s/%d size %d owner %s, %d files", i.ID, i.Time, *i.Size, i.Owner, len(i.Files))
		if i.Verification != nil {
			fmt.Fprintf(&b, ", verified %s", i.Verification.State)
		}
		b.WriteString("; ")
	}
	return b.String(), err
}

// watch returns the first and the last line of a task's log.
func watch(ctx context.Context, c *client.Client, upid string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	var lines []string
	s, err := c.Watch(ctx, upid, func(l client.LogLine) error {
		_, text, _ := strings.Cut(l.Text, ": ")
		lines = append(lines, text)
		return nil
	})
	if err != nil {
		return "", err
	}
	if s.Exit != "OK" || s.UPID != upid {
		return "", fmt.Errorf("unexpected status %+v", s)
	}
	return lines[0] + " … " + lines[len(lines)-1], nil
}
