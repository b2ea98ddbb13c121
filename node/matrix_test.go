package node

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/node/metrics"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

// matrix has a row for every endpoint: what it answers to a token without any
// privilege, and whether the world may ask. Lists are then empty, or about the
// caller alone; "no such job" comes from jobs whose datastore nobody knows yet.
// Whoever adds an endpoint adds a row, and says with it who may call it.
const matrix = `
	GET /access/acl 200
	PUT /access/acl 400
	GET /access/domains 200 world
	PUT /access/password 401
	GET /access/permissions 200
	GET /access/roles 200
	GET /access/tfa 200
	GET /access/tfa/{userid} 403
	POST /access/tfa/{userid} 403
	DELETE /access/tfa/{userid}/{id} 403
	GET /access/tfa/{userid}/{id} 403
	POST /access/ticket 400 world
	GET /access/users 200
	POST /access/users 403
	DELETE /access/users/{userid} 403
	GET /access/users/{userid} 403
	PUT /access/users/{userid} 403
	GET /access/users/{userid}/token 403
	DELETE /access/users/{userid}/token/{token-name} 403
	GET /access/users/{userid}/token/{token-name} 403
	POST /access/users/{userid}/token/{token-name} 403
	PUT /access/users/{userid}/token/{token-name} 403
	PUT /access/users/{userid}/unlock-tfa 403
	GET /admin/datastore 200
	GET /admin/datastore/{store}/active-operations 403
	GET /admin/datastore/{store}/catalog 403
	POST /admin/datastore/{store}/change-owner 403
	GET /admin/datastore/{store}/download 403
	GET /admin/datastore/{store}/download-decoded 403
	GET /admin/datastore/{store}/files 403
	GET /admin/datastore/{store}/gc 403
	POST /admin/datastore/{store}/gc 403
	GET /admin/datastore/{store}/group-notes 403
	PUT /admin/datastore/{store}/group-notes 403
	DELETE /admin/datastore/{store}/groups 403
	GET /admin/datastore/{store}/groups 403
	DELETE /admin/datastore/{store}/namespace 403
	GET /admin/datastore/{store}/namespace 403
	POST /admin/datastore/{store}/namespace 403
	GET /admin/datastore/{store}/notes 403
	PUT /admin/datastore/{store}/notes 403
	GET /admin/datastore/{store}/protected 403
	PUT /admin/datastore/{store}/protected 403
	POST /admin/datastore/{store}/prune 403
	POST /admin/datastore/{store}/prune-datastore 403
	GET /admin/datastore/{store}/pxar-file-download 403
	GET /admin/datastore/{store}/rrd 403
	DELETE /admin/datastore/{store}/snapshots 403
	PUT /admin/datastore/{store}/s3-refresh 403
	GET /admin/datastore/{store}/snapshots 403
	GET /admin/datastore/{store}/status 403
	POST /admin/datastore/{store}/upload-backup-log 403
	POST /admin/datastore/{store}/verify 403
	GET /admin/gc 200
	GET /admin/gc/{store} 200
	GET /admin/prune 200
	POST /admin/prune/{id}/run 400
	GET /admin/s3 403
	PUT /admin/s3/{id}/check 403
	GET /admin/sync 200
	POST /admin/sync/{id}/run 400
	GET /admin/traffic-control 403
	GET /admin/verify 200
	POST /admin/verify/{id}/run 400
	GET /backup 403
	GET /config/datastore 200
	POST /config/datastore 403
	DELETE /config/datastore/{name} 403
	GET /config/datastore/{name} 403
	PUT /config/datastore/{name} 403
	GET /config/prune 200
	POST /config/prune 403
	DELETE /config/prune/{id} 400
	GET /config/prune/{id} 400
	PUT /config/prune/{id} 400
	GET /config/s3 403
	POST /config/s3 403
	DELETE /config/s3/{id} 403
	GET /config/s3/{id} 403
	PUT /config/s3/{id} 403
	GET /config/sync 200
	POST /config/sync 501
	DELETE /config/sync/{id} 501
	GET /config/sync/{id} 400
	PUT /config/sync/{id} 501
	GET /config/traffic-control 403
	POST /config/traffic-control 403
	DELETE /config/traffic-control/{name} 403
	GET /config/traffic-control/{name} 403
	PUT /config/traffic-control/{name} 403
	GET /config/verify 200
	POST /config/verify 403
	DELETE /config/verify/{id} 400
	GET /config/verify/{id} 400
	PUT /config/verify/{id} 400
	GET /holdfast/datastore/{store}/trash 403
	POST /holdfast/datastore/{store}/trash 403
	POST /holdfast/datastore/{store}/audit 403
	GET /holdfast/datastore/{store}/cloud 403
	POST /holdfast/datastore/{store}/offload 403
	POST /holdfast/datastore/{store}/take-over 403
	GET /holdfast/status 403
	GET /nodes 403
	GET /nodes/{node}/certificates/info 403
	GET /nodes/{node}/identity 200
	GET /nodes/{node}/rrd 403
	GET /nodes/{node}/status 403
	GET /nodes/{node}/subscription 200
	GET /nodes/{node}/tasks 200
	DELETE /nodes/{node}/tasks/{upid} 403
	GET /nodes/{node}/tasks/{upid}/log 403
	GET /nodes/{node}/tasks/{upid}/status 403
	GET /nodes/{node}/time 200
	GET /ping 200 world
	GET /reader 400
	GET /status/datastore-usage 200
	GET /version 200
`

// owned are the endpoints about one group or snapshot, and what they answer to
// somebody who may back up, when the group is somebody else's.
const owned = `
	GET /admin/datastore/{store}/catalog 400
	POST /admin/datastore/{store}/change-owner 401
	GET /admin/datastore/{store}/download 400
	GET /admin/datastore/{store}/download-decoded 400
	GET /admin/datastore/{store}/files 400
	GET /admin/datastore/{store}/group-notes 400
	PUT /admin/datastore/{store}/group-notes 400
	DELETE /admin/datastore/{store}/groups 403
	GET /admin/datastore/{store}/notes 400
	PUT /admin/datastore/{store}/notes 400
	GET /admin/datastore/{store}/protected 400
	PUT /admin/datastore/{store}/protected 400
	POST /admin/datastore/{store}/prune 403
	GET /admin/datastore/{store}/pxar-file-download 400
	DELETE /admin/datastore/{store}/snapshots 403
	POST /admin/datastore/{store}/upload-backup-log 400
	GET /backup 400
	GET /reader 400
	POST /holdfast/datastore/{store}/trash 403
`

// askPassword are those that want the caller's own password as well.
var askPassword = map[string]bool{"PUT /access/password": true, "PUT /access/users/{userid}": true, "POST /access/tfa/{userid}": true, "DELETE /access/tfa/{userid}/{id}": true}

// rows reads a table: the status, and the words behind it.
func rows(table string) map[string][]string {
	all := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(table)) {
		f := strings.Fields(line)
		all[f[0]+" "+f[1]] = f[2:]
	}
	return all
}

// filled puts values for the parameters into the path of an endpoint.
func filled(path string) string {
	return strings.NewReplacer("{store}", "main", "{node}", "localhost", "{userid}", "root@pam", "{token-name}", "tok", "{name}", "main",
		"{id}", "job1", "{upid}", "UPID:home:00000001:00000001:00000000:60000000:verify:main:root@pam:").Replace(path)
}

// parameters are all that any endpoint asks for, so that no call fails for want
// of one before privileges are looked at.
const parameters = "?store=main&ns=&parent=&name=main&backup-type=host&backup-id=h&backup-time=1&file-name=index.json.blob&filepath=Lw==" +
	"&new-owner=root@pam&userid=root@pam&password=secret12345&type=totp&path=/datastore/main&role=Admin&auth-id=nobody@pbs!tok&id=job1" +
	"&schedule=daily&keep-last=1&notes=x&protected=1"

// A gateTest is a node with three tokens: one that may nothing, one that may
// back up, and one that may everything.
type gateTest struct {
	t      *testing.T
	n      *Node
	router *rest.Router
	tokens map[string]string // Authorization by name
}

func newGateTest(t *testing.T) *gateTest {
	n, err := New(initialised(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	g := &gateTest{t: t, n: n, tokens: map[string]string{"no login": "", "wrong token": "PBSAPIToken nobody@pbs!tok:00000000-0000-0000-0000-000000000000"}}
	for name, acl := range map[string]string{"nobody": "", "backup": "/datastore/main DatastoreBackup", "admin": "/ Admin"} {
		g.account(name, acl)
	}
	m, err := metrics.New(metrics.Config{
		Stores: n.stores, Tasks: n.tasks, Sessions: n.sessions.Active, Ready: n.ready, Certificate: n.certificate.Leaf,
		Connections: func() (open, refused int) { return 0, 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	if g.router, err = n.router(n.access, m); err != nil {
		t.Fatal(err)
	}
	return g
}

// account makes NAME@pbs with a token, and gives both a role on a path.
func (g *gateTest) account(name, acl string) {
	g.t.Helper()
	user := access.AuthID(name + "@pbs")
	if err := g.n.access.AddUser(g.t.Context(), access.User{ID: user}, ""); err != nil {
		g.t.Fatal(err)
	}
	secret, err := g.n.access.AddToken(g.t.Context(), access.Token{ID: user + "!tok"}, "")
	if err != nil {
		g.t.Fatal(err)
	}
	g.tokens[name] = "PBSAPIToken " + string(user) + "!tok:" + secret
	path, role, found := strings.Cut(acl, " ")
	for _, id := range []access.AuthID{user, user + "!tok"} {
		entry := access.ACLEntry{Path: path, ID: id, Role: role, Propagate: true}
		if err := g.n.access.ChangeACL(g.t.Context(), access.Root, access.ACLChange{ACLEntry: entry}); found && err != nil {
			g.t.Fatal(err)
		}
	}
}

// ask calls an endpoint, "METHOD PATH", and returns the status and the body.
func (g *gateTest) ask(who, endpoint string) (int, string) {
	method, path, _ := strings.Cut(endpoint, " ")
	req := httptest.NewRequest(method, "/api2/json"+filled(path)+parameters, nil)
	if g.tokens[who] != "" {
		req.Header.Set("Authorization", g.tokens[who])
	}
	w := httptest.NewRecorder()
	g.router.ServeHTTP(w, req)
	return w.Code, w.Body.String()
}

// Every endpoint refuses who is not known, and who may not; and none refuses
// who may everything. An endpoint without a row in the table fails the test.
func TestWhoMayCallWhat(t *testing.T) {
	g := newGateTest(t)
	table := rows(matrix)
	var asked sync.WaitGroup // at once, since refusals take three seconds
	for _, e := range g.router.Endpoints() {
		name := e.Method + " " + e.Path
		row, found := table[name]
		if !found {
			t.Errorf("%s has no row in the table: who may call it?", name)
			continue
		}
		delete(table, name)
		if world := len(row) > 1 && row[1] == "world"; world != e.Need.World {
			t.Errorf("%s: the table says that the world may call it: %v", name, world)
		}
		for _, who := range []string{"no login", "wrong token", "nobody"} {
			want := row[0]
			if who != "nobody" && !e.Need.World {
				want = "401"
			}
			asked.Go(func() {
				if got, body := g.ask(who, name); strconv.Itoa(got) != want {
					t.Errorf("%s, %s: %d %.100s, want %s", name, who, got, body, want)
				}
			})
		}
	}
	asked.Wait()
	for name := range table {
		t.Errorf("the table has a row for %s, which there is not", name)
	}
	for _, e := range g.router.Endpoints() {
		name := e.Method + " " + e.Path
		if status, body := g.ask("admin", name); status == http.StatusForbidden || status == http.StatusUnauthorized && !askPassword[name] {
			t.Errorf("%s, who may everything: %d %.100s", name, status, body)
		}
	}
}

// Who may back up gets nothing of a group that is somebody else's.
func TestGroupsOfOthers(t *testing.T) {
	dir := t.TempDir() // removed after the node is closed
	g := newGateTest(t)
	u, err := g.n.stores.StartCreate("root@pam", createAt(filepath.Join(dir, "s")))
	if err != nil {
		t.Fatal(err)
	}
	if i, err := g.n.tasks.Wait(t.Context(), u); err != nil || i.Status() != "OK" {
		t.Fatalf("%v, %v", i.Status(), err)
	}
	d, err := g.n.stores.Get("main")
	if err != nil {
		t.Fatal(err)
	}
	w, err := d.Begin(t.Context(), "", catalog.Snapshot{Group: catalog.Group{Type: naming.Host, ID: "h"}, Time: 1}, "admin@pbs")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil { // the group stays, and whose it is
		t.Fatal(err)
	}
	var asked sync.WaitGroup
	for name, row := range rows(owned) {
		asked.Go(func() {
			if got, body := g.ask("backup", name); fmt.Sprint(got) != row[0] {
				t.Errorf("%s: %d %.120s, want %s", name, got, body, row[0])
			}
		})
	}
	asked.Wait()
}

func createAt(dir string) stores.Create {
	c := stores.Create{}
	c.Name, c.Path = "main", dir
	return c
}
