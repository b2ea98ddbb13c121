package conformance

import (
	"net/url"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/pbs/pbstest"
	"github.com/holdfast-mesh/holdfast/pbs/upgrade"
)

// A difference is one from the recordings that is meant.
type difference struct {
	file string // what the name of the recording begins with
	call string // what "METHOD PATH BODY" begins with
	got  string // part of our "STATUS BODY"
	why  string
}

// Exchanges of the official client with an official server give the same
// answers here, but for those in the table.
func TestRecordedOfficialServer(t *testing.T) {
	t.Parallel()
	h := newHome(t, "src")
	h.user("reader@pbs", "/datastore/store1 DatastoreReader", "/datastore/src DatastoreReader")
	h.user("backup@pbs", "/datastore/store1 DatastoreBackup", "/datastore/src DatastoreBackup")
	h.user("audit@pbs", "/datastore/store1 DatastoreAudit")
	h.user("noacc@pbs", "/datastore/store1 NoAccess")
	h.user("expired@pbs")
	h.user("disabled@pbs")
	p := newPlayer(h, officialDifferences)
	p.secrets["admin@pbs!tok"], p.secrets["admin@pbs!none"] = h.secret, "0"
	p.secrets["backup@pbs!tok"] = h.token("backup@pbs!tok", "/datastore/store1 DatastoreBackup")
	p.secrets["expired@pbs!tok"] = h.token("expired@pbs!tok")
	h.call("PUT", "/access/users/expired@pbs", url.Values{"expire": {"1600000000"}})
	h.call("PUT", "/access/users/disabled@pbs", url.Values{"enable": {"0"}})
	var held func()
	hold := func(target, protocol string) { // what was recorded in no file
		headers := []string{"upgrade: " + protocol, "cookie: PBSAuthCookie={ticket admin@pbs}"}
		c, a := pbstest.Connect(t, h.addr, target+"&backup-id=g1&backup-type=host&store=store1", p.filled(headers)...)
		if c == nil {
			t.Fatalf("%s: %d %s", target, a.Status, a.Body)
		}
		p.sessions[-1] = c
		held = func() {
			c.Close()
			delete(p.sessions, -1)
			h.idle()
		}
	}
	all := readRecorded(t, "real-server", func(file string) bool { return file < "80" || file[:3] >= "100" && file[3] == '-' })
	p.play(all, map[string]func(){
		"32-backup-concurrent":       func() { hold("/api2/json/backup?backup-time=1700009000", upgrade.Backup) },
		"34-forget-locked-by-reader": func() { held(); hold("/api2/json/reader?backup-time=1700000000", upgrade.Reader) },
		"35-backup-aborted":          func() { held() },
		"100-api-verify": func() {
			h.call("POST", "/config/prune", url.Values{"id": {"prune1"}, "store": {"store1"}, "schedule": {"daily"}, "keep-last": {"3"}, "keep-weekly": {"2"}})
			h.call("POST", "/config/remote", url.Values{
				"name": {"remote1"}, "host": {"127.0.0.1"}, "port": {"9"}, "auth-id": {"sync@pbs"}, "password": {"secret"}, "comment": {"c"},
				"fingerprint": {"aa" + strings.Repeat(":aa", 31)},
			})
			h.call("POST", "/config/sync", url.Values{
				"id": {"sync1"}, "store": {"store1"}, "remote": {"remote1"}, "remote-store": {"src"}, "schedule": {"hourly"}, "comment": {"c"},
			})
			h.call("POST", "/config/verify", url.Values{"id": {"verify1"}, "store": {"store1"}, "schedule": {"sat 18:15"}, "ignore-verified": {"1"}, "outdated-after": {"30"}})
		},
	})
}

// Why we differ.
const (
	hasEnded    = "the task that is asked for has ended already"
	ownLog      = "what a task writes into its log is our own, but for its last line"
	moreBelow   = "more or less is offered below it"
	ownComments = "comments of what is built in are our own"
	defaults    = "a member that has its default is left out"
	morePrivs   = "newer servers have the privileges Remote.Datastore*"
	noLookup    = "the remote of the test has an address that needs no lookup"
	noLonePull  = "nothing is copied without a job"
	otherTasks  = "other tasks ran here, and readers that end by hanging up are OK"
	unknown     = "unknown parameters are ignored, so that newer clients work"
	allWrong    = "all that is wrong is said at once"
	ownWords    = "what is wrong is said so that people understand it"
	longer      = "passwords have at least 8 characters"
	monitors    = "monitors ask for it, and the recorded build refused everybody"
)

var officialDifferences = []difference{
	{"64", "GET /nodes/localhost/tasks/UPID/log?limit=500&start=1&", `"active":false,"data":[{"n":1,"t":"TIME: starting garbage collection on store store1"}`, hasEnded},
	{"64", "GET /nodes/localhost/tasks/UPID/log?limit=500&start=17&", `"active":false`, hasEnded},
	{"64", "GET /nodes/localhost/tasks/UPID/log?limit=500&start=41&", `"active":false`, hasEnded},
	{"100", "GET /nodes/localhost/tasks/UPID/log", `"t":"TIME: TASK OK"`, ownLog},
	{"100", "GET /nodes/localhost/tasks/UPID/status", `"exitstatus":"OK"`, hasEnded},
	{"101", "GET /nodes/localhost/tasks/UPID/log?download=1", "TIME: TASK OK", ownLog},
	{"101", "GET /nodes/localhost/tasks/UPID/log", `"t":"TIME: TASK OK"`, ownLog},
	{"101", "GET /nodes/localhost/tasks?limit=5", `"worker_type":"verify"`, otherTasks},
	{"101", "GET /nodes/localhost/tasks?errors=1&limit=3", `"status":"backup ended but finished flag is not set."`, otherTasks},
	{"103-api-permissions-reader", "GET /nodes/localhost/tasks?limit=2", `"status":"OK"`, otherTasks},
	{"101", "GET /access/users?include_tokens=1", `{"tokens":[{"tokenid":"admin@pbs!tok"}],"userid":"admin@pbs"}`, defaults},
	{"101", "GET /access/users/admin@pbs", `{"data":{"userid":"admin@pbs"}`, defaults},
	{"101", "GET /access/users", `{"userid":"admin@pbs"}`, defaults},
	{"10", "GET /access/roles", `"roleid":"DatastoreAdmin"`, ownComments},
	{"101", "GET /access/domains", `"default":true,"realm":"pbs","type":"pbs"`, ownComments},
	{"101", "GET /access/permissions", `"Remote.DatastoreBackup":true`, morePrivs},
	{"101", "GET /access", `{"subdir":"tfa"}`, moreBelow},
	{"102", "GET /config/remote/remote1/scan", "400 list the datastores: connect to 127.0.0.1:9: ", noLookup},
	{"10", "GET /config/remote", `"host":"127.0.0.1","name":"remote1","port":9}`, noLookup},
	{"102", "POST /config/sync", "- 'id': value must be at least 3 characters long", allWrong},
	{"102", "POST /pull", "501 Nothing is copied without a job", noLonePull},
	{"101", "GET /config", `{"subdir":"traffic-control"}`, moreBelow},
	{"101", "GET /admin/datastore/store1", `{"subdir":"upload-backup-log"}`, moreBelow},
	{"101", "GET /admin", `{"subdir":"traffic-control"}`, moreBelow},
	{"101", "GET /nodes/localhost", `{"subdir":"tasks"}`, moreBelow},
	{"101", "GET /nodes", `200 {"data":[{"node":"localhost"}]}`, monitors},
	{"101", "GET /status", `{"subdir":"metrics"}`, moreBelow},
	{"101", "GET /", `{"subdir":"holdfast"}`, moreBelow},
	{"102", "GET /admin/datastore/store1/snapshots?unknown=1", "200 ", unknown},
	{"102", "POST /config/datastore name=st&path=rel", "- 'name': value must be at least 3 characters long", allWrong},
	{"102", "PUT /config/datastore/store1 gc-schedule=bogus+99", `'gc-schedule': read "bogus 99": "bogus" is no day of the week`, ownWords},
	{"102", "POST /config/prune id=prune2&store=store1&schedule=x+y", `'schedule': read "x y": "x" is no day of the week`, ownWords},
	{"102", "POST /access/users userid=bad", `'userid': user or token "bad" has no realm`, ownWords},
	{"102", "POST /access/users userid=u1%40pbs&password=x", "value must be at least 8 characters long", longer},
	{"102", "PUT /config/datastore/store1 comment=x", "401 authentication failed - invalid csrf token - ", ownWords},
	{"102", "GET /version", "401 authentication failed - ticket with bad signature: ", ownWords},
}
