package node

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/node/metrics"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// matrix has a row for every endpoint: what it answers to a token without any
// privilege, whether the world may ask, and which privileges open it, each by
// itself. Lists are open to all who are known, and empty or about the caller
// alone. Changes of the ACL and of second factors ask the accounts themselves,
// not the gate, so that no row here opens them, and what concerns sync jobs takes
// two privileges, on two paths. Whoever adds an endpoint adds a
// row, and says with it who may call it.
const matrix = `
	GET /access/acl 200
	PUT /access/acl 400
	GET /access/domains 200 world
	PUT /access/password 401
	GET /access/permissions 200
	GET /access/roles 200
	GET /access/tfa 200
	GET /access/tfa/{userid} 403 by Sys.Audit
	POST /access/tfa/{userid} 403
	DELETE /access/tfa/{userid}/{id} 403
	GET /access/tfa/{userid}/{id} 403 by Sys.Audit
	POST /access/ticket 400 world
	GET /access/users 200
	POST /access/users 403 by Permissions.Modify
	DELETE /access/users/{userid} 403 by Permissions.Modify
	GET /access/users/{userid} 403 by Sys.Audit
	PUT /access/users/{userid} 403
	GET /access/users/{userid}/token 403 by Sys.Audit
	DELETE /access/users/{userid}/token/{token-name} 403 by Permissions.Modify
	GET /access/users/{userid}/token/{token-name} 403 by Sys.Audit
	POST /access/users/{userid}/token/{token-name} 403 by Permissions.Modify
	PUT /access/users/{userid}/token/{token-name} 403 by Permissions.Modify
	PUT /access/users/{userid}/unlock-tfa 403 by Permissions.Modify
	GET /admin/datastore 200
	GET /admin/datastore/{store}/active-operations 403 by Datastore.Audit
	GET /admin/datastore/{store}/catalog 403 by Datastore.Backup Datastore.Read
	POST /admin/datastore/{store}/change-owner 403 by Datastore.Backup Datastore.Modify
	GET /admin/datastore/{store}/download 403 by Datastore.Backup Datastore.Read
	GET /admin/datastore/{store}/download-decoded 403 by Datastore.Backup Datastore.Read
	GET /admin/datastore/{store}/files 403 by Datastore.Audit Datastore.Backup Datastore.Read
	GET /admin/datastore/{store}/gc 403 by Datastore.Audit
	POST /admin/datastore/{store}/gc 403 by Datastore.Modify
	GET /admin/datastore/{store}/group-notes 403 by Datastore.Audit Datastore.Backup
	PUT /admin/datastore/{store}/group-notes 403 by Datastore.Backup Datastore.Modify
	DELETE /admin/datastore/{store}/groups 403 by Datastore.Modify Datastore.Prune
	GET /admin/datastore/{store}/groups 403 by Datastore.Audit Datastore.Backup
	POST /admin/datastore/{store}/mount 403 by Datastore.Modify
	DELETE /admin/datastore/{store}/namespace 403 by Datastore.Modify
	GET /admin/datastore/{store}/namespace 403 by Datastore.Audit Datastore.Backup Datastore.Modify Datastore.Read
	POST /admin/datastore/{store}/namespace 403 by Datastore.Modify
	GET /admin/datastore/{store}/notes 403 by Datastore.Audit Datastore.Backup
	PUT /admin/datastore/{store}/notes 403 by Datastore.Backup Datastore.Modify
	GET /admin/datastore/{store}/protected 403 by Datastore.Audit Datastore.Backup
	PUT /admin/datastore/{store}/protected 403 by Datastore.Backup Datastore.Modify
	POST /admin/datastore/{store}/prune 403 by Datastore.Modify Datastore.Prune
	POST /admin/datastore/{store}/prune-datastore 403 by Datastore.Modify Datastore.Prune
	GET /admin/datastore/{store}/pxar-file-download 403 by Datastore.Backup Datastore.Read
	GET /admin/datastore/{store}/rrd 403 by Datastore.Audit Datastore.Backup
	DELETE /admin/datastore/{store}/snapshots 403 by Datastore.Modify Datastore.Prune
	PUT /admin/datastore/{store}/s3-refresh 403 by Datastore.Modify
	GET /admin/datastore/{store}/snapshots 403 by Datastore.Audit Datastore.Backup
	GET /admin/datastore/{store}/status 403 by Datastore.Audit Datastore.Backup Datastore.Modify Datastore.Read
	POST /admin/datastore/{store}/unmount 403 by Datastore.Modify
	POST /admin/datastore/{store}/upload-backup-log 403 by Datastore.Backup
	POST /admin/datastore/{store}/verify 403 by Datastore.Backup Datastore.Verify
	GET /admin/gc 200
	GET /admin/gc/{store} 200
	GET /admin/prune 200
	POST /admin/prune/{id}/run 403 by Datastore.Modify
	GET /admin/s3 403 by Sys.Audit
	PUT /admin/s3/{id}/check 403 by Sys.Modify
	GET /admin/export 200
	POST /admin/export/{id}/run 403
	GET /admin/offload 200
	POST /admin/offload/{id}/run 403
	PUT /admin/s3/{id}/reset-counters 403 by Sys.Modify
	GET /admin/sync 200
	POST /admin/sync/{id}/run 403
	GET /admin/traffic-control 403 by Sys.Audit
	GET /admin/verify 200
	POST /admin/verify/{id}/run 403 by Datastore.Verify
	GET /backup 403 by Datastore.Backup
	GET /config/datastore 200
	POST /config/datastore 403 by Datastore.Allocate
	DELETE /config/datastore/{name} 403 by Datastore.Allocate
	GET /config/datastore/{name} 403 by Datastore.Audit
	PUT /config/datastore/{name} 403 by Datastore.Modify
	GET /config/encryption-keys 200
	POST /config/encryption-keys 403 by Sys.Modify
	DELETE /config/encryption-keys/{id} 403 by Sys.Modify
	POST /config/encryption-keys/{id} 403 by Sys.Modify
	PUT /config/encryption-keys/{id} 403 by Sys.Modify
	GET /config/notifications/endpoints/gotify 403 by Sys.Audit
	POST /config/notifications/endpoints/gotify 403 by Sys.Modify
	DELETE /config/notifications/endpoints/gotify/{name} 403 by Sys.Modify
	GET /config/notifications/endpoints/gotify/{name} 403 by Sys.Audit
	PUT /config/notifications/endpoints/gotify/{name} 403 by Sys.Modify
	GET /config/notifications/endpoints/smtp 403 by Sys.Audit
	POST /config/notifications/endpoints/smtp 403 by Sys.Modify
	DELETE /config/notifications/endpoints/smtp/{name} 403 by Sys.Modify
	GET /config/notifications/endpoints/smtp/{name} 403 by Sys.Audit
	PUT /config/notifications/endpoints/smtp/{name} 403 by Sys.Modify
	GET /config/notifications/endpoints/webhook 403 by Sys.Audit
	POST /config/notifications/endpoints/webhook 403 by Sys.Modify
	DELETE /config/notifications/endpoints/webhook/{name} 403 by Sys.Modify
	GET /config/notifications/endpoints/webhook/{name} 403 by Sys.Audit
	PUT /config/notifications/endpoints/webhook/{name} 403 by Sys.Modify
	GET /config/notifications/matchers 403 by Sys.Audit
	POST /config/notifications/matchers 403 by Sys.Modify
	DELETE /config/notifications/matchers/{name} 403 by Sys.Modify
	GET /config/notifications/matchers/{name} 403 by Sys.Audit
	PUT /config/notifications/matchers/{name} 403 by Sys.Modify
	GET /config/notifications/matcher-fields 403 by Sys.Audit
	GET /config/notifications/matcher-field-values 403 by Sys.Audit
	GET /config/notifications/targets 403 by Sys.Audit
	POST /config/notifications/targets/{name}/test 403 by Sys.Modify
	GET /config/prune 200
	POST /config/prune 403 by Datastore.Modify
	DELETE /config/prune/{id} 403 by Datastore.Modify
	GET /config/prune/{id} 403 by Datastore.Audit Datastore.Modify
	PUT /config/prune/{id} 403 by Datastore.Modify
	GET /config/remote 200
	POST /config/remote 403 by Remote.Modify
	DELETE /config/remote/{name} 403 by Remote.Modify
	GET /config/remote/{name} 403 by Remote.Audit
	PUT /config/remote/{name} 403 by Remote.Modify
	GET /config/remote/{name}/scan 403 by Remote.Audit
	GET /config/remote/{name}/scan/{store}/groups 403 by Remote.Read
	GET /config/remote/{name}/scan/{store}/namespaces 403 by Remote.Read
	GET /config/s3 403 by Sys.Audit
	POST /config/s3 403 by Sys.Modify
	DELETE /config/s3/{id} 403 by Sys.Modify
	GET /config/s3/{id} 403 by Sys.Audit
	PUT /config/s3/{id} 403 by Sys.Modify
	GET /config/export 200
	POST /config/export 403
	DELETE /config/export/{id} 403
	GET /config/export/{id} 403 by Datastore.Audit
	PUT /config/export/{id} 403
	GET /config/offload 200
	POST /config/offload 403
	DELETE /config/offload/{id} 403
	GET /config/offload/{id} 403 by Datastore.Audit
	PUT /config/offload/{id} 403
	GET /config/sync 200
	POST /config/sync 403
	DELETE /config/sync/{id} 403
	GET /config/sync/{id} 403
	PUT /config/sync/{id} 403
	GET /config/traffic-control 403 by Sys.Audit
	POST /config/traffic-control 403 by Sys.Modify
	DELETE /config/traffic-control/{name} 403 by Sys.Modify
	GET /config/traffic-control/{name} 403 by Sys.Audit
	PUT /config/traffic-control/{name} 403 by Sys.Modify
	GET /config/verify 200
	POST /config/verify 403 by Datastore.Verify
	DELETE /config/verify/{id} 403 by Datastore.Verify
	GET /config/verify/{id} 403 by Datastore.Audit Datastore.Verify
	PUT /config/verify/{id} 403 by Datastore.Verify
	DELETE /holdfast/datastore/{store}/trash 403
	GET /holdfast/datastore/{store}/trash 403 by Datastore.Audit Datastore.Modify Datastore.Prune
	POST /holdfast/datastore/{store}/trash 403 by Datastore.Modify Datastore.Prune
	POST /holdfast/datastore/{store}/audit 403 by Datastore.Modify
	GET /holdfast/datastore/{store}/cloud 403 by Datastore.Audit
	GET /holdfast/datastore/{store}/heal 403 by Datastore.Verify
	POST /holdfast/datastore/{store}/heal 403 by Datastore.Verify
	POST /holdfast/datastore/{store}/offload 403 by Datastore.Modify
	GET /holdfast/datastore/{store}/doctor 403 by Datastore.Audit
	POST /holdfast/datastore/{store}/doctor 403 by Datastore.Modify
	GET /holdfast/datastore/{store}/thaw 403 by Datastore.Modify
	POST /holdfast/datastore/{store}/thaw 403 by Datastore.Modify
	GET /holdfast/datastore/{store}/migrate 403 by Datastore.Modify
	POST /holdfast/datastore/{store}/migrate 403 by Datastore.Allocate
	POST /holdfast/datastore/{store}/take-over 403 by Datastore.Allocate
	GET /holdfast/doctor 403 by Sys.Audit
	GET /holdfast/s3 403 by Sys.Audit
	GET /holdfast/s3/runs 403 by Sys.Audit
	GET /holdfast/drafts 403 by Sys.Audit
	POST /holdfast/drafts 403 by Sys.Modify
	DELETE /holdfast/drafts/{draft} 403 by Sys.Modify
	GET /holdfast/guard 403 by Sys.Audit
	PUT /holdfast/guard/breaker 403 by Sys.Modify
	PUT /holdfast/guard/floor 403 by Sys.Modify
	POST /holdfast/guard/release 403 by Sys.Modify
	DELETE /holdfast/guard/release/{id} 403 by Sys.Modify
	GET /holdfast/invites 403 by Sys.Audit
	POST /holdfast/invites 403 by Sys.Modify
	DELETE /holdfast/invites/{invite} 403 by Sys.Modify
	GET /holdfast/calendar 200
	GET /holdfast/jobs 200
	PUT /holdfast/remotes/{name}/share 403 by Remote.Modify
	GET /holdfast/jobs/{job}/history 403 by Datastore.Audit
	GET /holdfast/jobs/{job}/plan 403 by Datastore.Audit
	GET /holdfast/jobs/{job}/rule 403 by Datastore.Audit
	PUT /holdfast/jobs/{job}/rule 403 by Datastore.Modify
	GET /holdfast/jobs/{job}/why 403 by Datastore.Audit
	DELETE /holdfast/alarms 403 by Sys.Modify
	GET /holdfast/audit 403 by Sys.Audit
	POST /holdfast/keys 403 by Sys.Modify
	GET /holdfast/members 403 by Sys.Audit
	GET /holdfast/members/{member} 403 by Sys.Audit
	PUT /holdfast/members/{member} 403 by Sys.Modify
	DELETE /holdfast/members/{member} 403 by Sys.Modify
	POST /holdfast/members/{member}/block 403 by Sys.Modify
	PUT /holdfast/members/{member}/address 403 by Sys.Modify
	GET /holdfast/notifications/deliveries 403 by Sys.Audit
	GET /holdfast/notifications/ntfy 403 by Sys.Audit
	POST /holdfast/notifications/ntfy 403 by Sys.Modify
	DELETE /holdfast/notifications/ntfy/{name} 403 by Sys.Modify
	GET /holdfast/notifications/ntfy/{name} 403 by Sys.Audit
	PUT /holdfast/notifications/ntfy/{name} 403 by Sys.Modify
	GET /holdfast/notifications/service 403 by Sys.Audit
	POST /holdfast/notifications/service 403 by Sys.Modify
	DELETE /holdfast/notifications/service/{name} 403 by Sys.Modify
	GET /holdfast/notifications/service/{name} 403 by Sys.Audit
	PUT /holdfast/notifications/service/{name} 403 by Sys.Modify
	GET /holdfast/offload/{id}/plan 403 by Datastore.Audit
	GET /holdfast/operators 403 by Sys.Audit
	POST /holdfast/operators 403 by Sys.Modify
	DELETE /holdfast/operators 403 by Sys.Modify
	GET /holdfast/recover 403 by Sys.Audit
	POST /holdfast/recover 403 by Sys.Modify
	PUT /holdfast/clock 403 by Sys.Modify
	GET /holdfast/orphans 403 by Sys.Audit
	DELETE /holdfast/orphans 403 by Sys.Modify
	GET /holdfast/status 403 by Sys.Audit
	GET /holdfast/sync/{id}/plan 403
	GET /nodes 403 by Sys.Audit
	GET /nodes/{node}/certificates/info 403 by Sys.Audit
	GET /nodes/{node}/identity 200
	GET /nodes/{node}/rrd 403 by Sys.Audit
	GET /nodes/{node}/status 403 by Sys.Audit
	GET /nodes/{node}/subscription 200
	GET /nodes/{node}/tasks 200
	DELETE /nodes/{node}/tasks/{upid} 403 by Sys.Modify
	GET /nodes/{node}/tasks/{upid}/log 403 by Sys.Audit
	GET /nodes/{node}/tasks/{upid}/status 403 by Sys.Audit
	GET /nodes/{node}/time 200
	GET /ping 200 world
	GET /reader 400 by Datastore.Backup Datastore.Read
	GET /status/datastore-usage 200
	GET /status/metrics 200
	GET /version 200
`

// askPassword are those that want the caller's own password as well.
var askPassword = map[string]bool{"PUT /access/password": true, "PUT /access/users/{userid}": true, "POST /access/tfa/{userid}": true, "DELETE /access/tfa/{userid}/{id}": true}

// rootOnly are those that are left to whoever has the machine, root@pam on its socket.
var rootOnly = map[string]bool{"DELETE /holdfast/datastore/{store}/trash": true}

// rows reads a table: the status, and the words behind it.
func rows(table string) map[string][]string {
	all := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(table)) {
		f := strings.Fields(line)
		all[f[0]+" "+f[1]] = f[2:]
	}
	return all
}

// parsed reads a row's words: "world", and the privileges behind "by".
func parsed(row []string) (world bool, by []string) {
	i := slices.Index(row, "by")
	if i >= 0 {
		by, row = row[i+1:], row[:i]
	}
	return slices.Contains(row, "world"), by
}

// filled puts values for the parameters into the path of an endpoint.
func filled(path string) string {
	return strings.NewReplacer("{store}", "main", "{node}", "localhost", "{userid}", "root@pam", "{token-name}", "tok", "{name}", "main",
		"{id}", "job1", "{job}", "gc:main", "{upid}", "UPID:home:00000001:00000001:00000000:60000000:verify:main:root@pam:").Replace(path)
}

// parameters are all that any endpoint asks for, so that no call fails for want
// of one before privileges are looked at.
const parameters = "?store=main&ns=&parent=&name=main&backup-type=host&backup-id=h&backup-time=1&file-name=index.json.blob&filepath=Lw==" +
	"&new-owner=admin@pbs&userid=root@pam&password=secret12345&type=totp&role=Admin&auth-id=nobody@pbs!tok&id=job1&network=10.0.0.0/8" +
	"&schedule=daily&keep-last=1&notes=x&protected=1&remote-store=other&to=elsewhere"

// noDigest makes every change of the configuration fail that is let in.
const noDigest = "0000000000000000000000000000000000000000000000000000000000000000"

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
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- n.cluster.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ran, n.Close()); err != nil {
			t.Error(err)
		}
	})
	g := &gateTest{t: t, n: n, tokens: map[string]string{"no login": "", "wrong token": "PBSAPIToken nobody@pbs!tok:00000000-0000-0000-0000-000000000000"}}
	for name, acl := range map[string]string{"nobody": "", "other": "/datastore/main DatastorePowerUser", "owner": "/datastore/main DatastorePowerUser", "admin": "/ Admin"} {
		g.account(name, acl)
	}
	err = n.settings.Update(t.Context(), func(s *settings.State) error {
		s.PruneJobs = append(s.PruneJobs, settings.PruneJob{ID: "job1", Store: "main", Schedule: "daily", Keep: retention.Keep{Last: 1}})
		s.SyncJobs = append(s.SyncJobs, settings.SyncJob{ID: "job1", Store: "main", Remote: "elsewhere", RemoteStore: "other"})
		s.VerifyJobs = append(s.VerifyJobs, settings.VerifyJob{ID: "job1", Store: "main"})
		s.ExportJobs = append(s.ExportJobs, settings.ExportJob{ID: "job1", Store: "main", Path: "/mnt/usb"})
		s.OffloadJobs = append(s.OffloadJobs, settings.OffloadJob{ID: "job1", Store: "main", To: "elsewhere"})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	g.router = g.behind(n.access)
	return g
}

// behind returns the node's API behind a gate.
func (g *gateTest) behind(gate rest.Gate) *rest.Router {
	m, err := metrics.New(metrics.Config{
		Stores: g.n.stores, Tasks: g.n.tasks, Sessions: g.n.sessions.Active, Ready: g.n.ready, Mesh: func() metrics.Mesh { return metrics.Mesh{} }, Certificate: g.n.certificate.Leaf,
		Connections: func() (open, refused int) { return 0, 0 },
	})
	if err != nil {
		g.t.Fatal(err)
	}
	r, err := g.n.router(gate, m)
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

// with is a gate that lets everybody in as somebody with one privilege on every
// path. No role has just one.
type with struct {
	*access.Service
	one access.Privilege
}

func (with) Check(context.Context, access.Credentials) (access.AuthID, error) {
	return "nobody@pbs!tok", nil
}

func (g with) Privileges(access.AuthID, ...string) access.Privilege { return g.one }
func (g with) AnyBelow(access.AuthID, ...string) access.Privilege   { return g.one }

func (g with) Require(id access.AuthID, any access.Privilege, path ...string) error {
	if g.one.HasAny(any) {
		return nil
	}
	return g.Service.Require(id, any, path...)
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
	return g.call(g.router, who, endpoint)
}

// call is ask of another router.
func (g *gateTest) call(h http.Handler, who, endpoint string) (int, string) {
	method, path, _ := strings.Cut(endpoint, " ")
	place := "/datastore/main" // of a privilege
	if endpoint == "POST /config/datastore" {
		place = "not/a/directory" // none is to be made
	}
	query := parameters + "&path=" + place
	if endpoint != "PUT /access/acl" { // which looks at the digest first
		query += "&digest=" + noDigest
	}
	req := httptest.NewRequest(method, "/api2/json"+filled(path)+query, nil)
	if protocol := map[string]string{"/backup": "proxmox-backup-protocol-v1", "/reader": "proxmox-backup-reader-protocol-v1"}[path]; protocol != "" {
		req.Header.Set("Connection", "upgrade") // else nothing but that is looked at
		req.Header.Set("Upgrade", protocol)
	}
	if g.tokens[who] != "" {
		req.Header.Set("Authorization", g.tokens[who])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
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
		if world, _ := parsed(row); world != e.Need.World {
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
		if status, body := g.ask("admin", name); status == http.StatusForbidden && !rootOnly[name] || status == http.StatusUnauthorized && !askPassword[name] {
			t.Errorf("%s, who may everything: %d %.100s", name, status, body)
		}
	}
}

// Who changed what is shown to who may audit everything: it names users, their rights and
// addresses. Which of it was lost, with the same in it, was shown to every monitor too,
// which has Audit on /system.
func TestWhoSeesWhoChangedWhat(t *testing.T) {
	g := newGateTest(t)
	g.account("auditor", "/ Audit")
	g.account("monitor", "/system Audit")
	for _, name := range []string{"GET /holdfast/audit", "GET /holdfast/orphans"} {
		if status, body := g.ask("auditor", name); status != http.StatusOK {
			t.Errorf("%s with Audit on /: %d %.100s", name, status, body)
		}
		if status, body := g.ask("monitor", name); status != http.StatusForbidden {
			t.Errorf("%s with Audit on /system: %d %.100s", name, status, body)
		}
	}
}

// refused tells an answer to somebody who may not: by its status, and where PBS
// answers with 400, by its words.
func refused(status int, body string) bool {
	return status == http.StatusForbidden || status == http.StatusUnauthorized || strings.Contains(body, "permission")
}

// Of each privilege alone, the endpoints that it opens are those that the table
// says: no more, and no less.
func TestWhatAPrivilegeOpens(t *testing.T) {
	g := newGateTest(t)
	table := rows(matrix)
	var mu sync.Mutex
	opens := map[string][]string{}
	var asked sync.WaitGroup
	for _, name := range access.AllPrivileges.Names() {
		one, err := access.ParsePrivilege(name)
		if err != nil {
			t.Fatal(err)
		}
		r := g.behind(with{g.n.access, one})
		for _, e := range r.Endpoints() {
			endpoint := e.Method + " " + e.Path
			row := table[endpoint]
			if len(row) == 0 || row[0] == "200" || row[0] == "501" || e.Need.World || e.Path == "/access/acl" {
				continue // open to all who are known, who see what they may; or there is nothing to be opened
			}
			asked.Go(func() {
				if status, body := g.call(r, "", endpoint); !refused(status, body) {
					mu.Lock()
					defer mu.Unlock()
					opens[endpoint] = append(opens[endpoint], name)
				}
			})
		}
	}
	asked.Wait()
	for endpoint, row := range table {
		_, want := parsed(row)
		got := opens[endpoint]
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s is opened by %v, want %v", endpoint, got, want)
		}
	}
}
