package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/pbs/client"
)

// The calls that no recording has: their form is that of PBS protocol notes
// §1.5 and §7.9.
func TestCallsThatWereNotRecorded(t *testing.T) {
	nothing := func(do func(ctx context.Context, c *client.Client) error) func(context.Context, *client.Client) (any, error) {
		return func(ctx context.Context, c *client.Client) (any, error) { return "done", do(ctx, c) }
	}
	for _, row := range []struct {
		name, request, answer, want string
		ask                         func(context.Context, *client.Client) (any, error)
	}{
		{"datastores", "GET /api2/json/admin/datastore", `[{"store":"s1","comment":null},{"store":"s2","maintenance":"offline"}]`, "[{s1  } {s2  offline}]",
			func(ctx context.Context, c *client.Client) (any, error) { return c.Stores(ctx) }},
		{"garbage", "GET /api2/json/admin/datastore/store1/gc", `{"disk-bytes":5}`, "disk-bytes",
			func(ctx context.Context, c *client.Client) (any, error) {
				s, err := c.GCStatus(ctx)
				return string(s), err
			}},
		{"forget a group", "DELETE /api2/json/admin/datastore/store1/groups?backup-id=elsa&backup-type=host&ns=a", `null`, "done",
			nothing(func(ctx context.Context, c *client.Client) error { return c.ForgetGroup(ctx, "a", group) })},
		{"notes of a group", "GET /api2/json/admin/datastore/store1/group-notes?backup-id=elsa&backup-type=host", `"text"`, "text",
			func(ctx context.Context, c *client.Client) (any, error) { return c.GroupNotes(ctx, "", group) }},
		{"write notes of a group", "PUT /api2/json/admin/datastore/store1/group-notes?backup-id=elsa&backup-type=host&notes=text", `null`, "done",
			nothing(func(ctx context.Context, c *client.Client) error { return c.SetGroupNotes(ctx, "", group, "text") })},
		{"tasks", "GET /api2/json/nodes/localhost/tasks?errors=true&limit=0&start=5&typefilter=gc", `[{"upid":"U","starttime":1},{"upid":"V","starttime":1,"endtime":2,"status":"OK"}]`, "true false",
			func(ctx context.Context, c *client.Client) (any, error) {
				all, err := c.Tasks(ctx, client.TaskFilter{Start: 5, Limit: -1, Errors: true, Type: "gc"})
				return fmt.Sprint(all[0].Running(), all[1].Running()), err
			}},
		{"a list with a name that is none", "GET /api2/json/admin/datastore/store1/groups", `[{"backup-type":"vm","backup-id":"../.."}]`, "answered a request for a list with something else",
			func(ctx context.Context, c *client.Client) (any, error) { return c.Groups(ctx, "") }},
		{"a list of null", "GET /api2/json/admin/datastore/store1/groups", `null`, "[]",
			func(ctx context.Context, c *client.Client) (any, error) { return c.Groups(ctx, "") }},
		{"an owner who cannot be", "", "", "OWNER",
			nothing(func(ctx context.Context, c *client.Client) error {
				if c.ChangeOwner(ctx, "", group, "nobody") == nil {
					return nil
				}
				return errors.New("OWNER")
			})},
	} {
		t.Run(row.name, func(t *testing.T) {
			asked := ""
			c := tokenClient(t, func(w http.ResponseWriter, r *http.Request) {
				asked = r.Method + " " + r.RequestURI
				fmt.Fprintf(w, `{"data":%s}`, row.answer)
			})
			got, err := row.ask(t.Context(), c)
			if err != nil {
				got = err
			}
			if asked != row.request || !strings.Contains(fmt.Sprint(got), row.want) {
				t.Errorf("asked %s and got %v, want %s and %q", asked, got, row.request, row.want)
			}
		})
	}
}

// tokenClient returns a client of a handler that needs no login.
func tokenClient(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	cfg := config(t, srv.Listener.Addr().String(), certificateOf(srv))
	cfg.Repository.User = "elsa@pbs!laptop"
	return connect(t, cfg)
}

func TestATaskThatFailsIsAnError(t *testing.T) {
	for _, row := range []struct{ name, log, exit, want string }{
		{"it failed", `[{"n":1,"t":"a"}]`, "no space\x1b[0m", "task U failed: no space[0m"},
		{"it ended with warnings", `[{"n":1,"t":"a"}]`, "WARNINGS: 2", ""},
		{"a log with a gap", `[{"n":3,"t":"a"}]`, "OK", "line 3 comes where 1 is due"},
		{"a log that begins anew", `[{"n":0,"t":"x"},{"n":1,"t":"a"}]`, "OK", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := tokenClient(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/log") {
					io.WriteString(w, `{"data":`+row.log+`,"total":1}`)
					return
				}
				exit, _ := json.Marshal(row.exit)
				fmt.Fprintf(w, `{"data":{"upid":"U","status":"stopped","exitstatus":%s}}`, exit)
			})
			lines := 0
			_, err := c.Watch(t.Context(), "U", func(client.LogLine) error { lines++; return nil })
			switch {
			case row.want == "" && (err != nil || lines != 1):
				t.Errorf("got %d lines, %v", lines, err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || hint(err) == ""):
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}
