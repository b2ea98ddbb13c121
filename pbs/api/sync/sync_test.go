package sync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/api/sync"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// A runner notes who started what. What runs is tested where it is, in the
// package pulls of a node.
type runner struct{ started []string }

func (*runner) Sync(context.Context) error { return nil }

func (r *runner) Start(id, auth string) (jobs.UPID, error) {
	r.started = append(r.started, id+" "+auth)
	return jobs.UPID{}, nil
}

func (*runner) Schedule(string) (jobs.ScheduleStatus, error) {
	return jobs.ScheduleStatus{}, jobs.ErrNoJob
}
func (*runner) Standing(id string) (int, time.Time, bool) {
	return 3, time.Unix(1_700_000_000, 0), id != "unknown"
}
func (*runner) Plan(context.Context, string) (any, error) { return map[string]int{"snapshots": 7}, nil }

func (*runner) Known(node string) error {
	if node != "home" {
		return fmt.Errorf("there is no node %q in this cluster", node)
	}
	return nil
}

func newWorld(t *testing.T) (*storestest.World, *runner) {
	w, r := storestest.New(t, "main", "other"), &runner{}
	w.Serve(t, sync.Endpoints(sync.Config{Settings: w.Settings, Runner: r})...)
	w.AddUser(t, "admin@pbs", "/ Admin")
	return w, r
}

// job returns a job as it is shown, without its digest.
func job(t *testing.T, w *storestest.World, id string) string {
	t.Helper()
	_, body := w.Ask("admin@pbs", "GET", "/config/sync/"+id, "", "")
	var answer struct{ Data json.RawMessage }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return body
	}
	return string(answer.Data)
}

const place = "store=main&remote=home&remote-store=main"

// Every option is checked, kept and shown as PBS does it.
func TestOptions(t *testing.T) {
	t.Parallel()
	w, _ := newWorld(t)
	tests := []struct {
		option string
		shown  string // of the job, beside where from and where to
		wrong  string // else what is said of it
	}{
		{"ns=a/b", `"ns":"a/b"`, ""},
		{"ns=a//b", "", "'ns': value does not match the regex pattern"},
		{"remote-ns=a/b", `"remote-ns":"a/b"`, ""},
		{"max-depth=0", `"max-depth":0`, ""},
		{"max-depth=8", "", "'max-depth': value must have a maximum value of 7"},
		{"max-depth=5&ns=a/b/c", "", "more than 7 levels"},
		{"group-filter=type:vm&group-filter=exclude:regex:^vm/1{2,3}$", `"group-filter":["type:vm","exclude:regex:^vm/1{2,3}$"]`, ""},
		{"group-filter=include:group:vm/1", `"group-filter":["group:vm/1"]`, ""},
		{"group-filter=vm/100", "", "'group-filter': "},
		{"remove-vanished=1", `"remove-vanished":true`, ""},
		{"remove-vanished=0", `"remove-vanished":false`, ""},
		{"remove-vanished=perhaps", "", "'remove-vanished'"},
		{"verified-only=1&encrypted-only=1&resync-corrupt=1", `"verified-only":true,"encrypted-only":true,"resync-corrupt":true`, ""},
		{"transfer-last=3", `"transfer-last":3`, ""},
		{"transfer-last=0", "", "'transfer-last': value must have a minimum value of 1"},
		{"worker-threads=32", `"worker-threads":32`, ""},
		{"worker-threads=0", "", "'worker-threads': value must have a minimum value of 1"},
		{"worker-threads=33", "", "'worker-threads': value must have a maximum value of 32"},
		{"rate-in=20MiB&burst-in=1.5 GB", `"rate-in":"20MiB","burst-in":"1.5 GB"`, ""},
		{"rate-in=fast", "", `'rate-in': "fast" is no amount of bytes`},
		{"burst-in=1MiB", "", "burst-in needs rate-in"},
		{"owner=sync@pbs!tok", `"owner":"sync@pbs!tok"`, ""},
		{"owner=sync", "", "'owner'"},
		{"schedule=mon..fri 21:30", `"schedule":"mon..fri 21:30"`, ""},
		{"schedule=on-change", `"on-change":true`, ""},
		{"schedule=sometimes", "", "'schedule'"},
		{"on-change=1&schedule=daily", `"schedule":"daily","on-change":true`, ""},
		{"comment=what it is for", `"comment":"what it is for"`, ""},
		{"comment=" + strings.Repeat("x", 129), "", "'comment': value may only be 128 characters long"},
		{"run-on-mount=1&unmount-on-done=1", `"run-on-mount":true,"unmount-on-done":true`, ""},
		{"unmount-on-done=1", "", "unmount-on-done needs run-on-mount"},
		{"sync-direction=pull", `"sync-direction":"pull"`, ""},
		{"sync-direction=push", "", "there is no remote 'home': nothing is pushed to the nodes of this mesh"},
		{"sync-direction=sideways", "", "'sync-direction'"},
		{"sync-direction=push&on-change=1", "", "are not for jobs that push"},
		{"sync-direction=push&max-delay=50ms", "", "are not for jobs that push"},
		{"sync-direction=push&remote=", "", "a push needs a remote"},
		{"rate-out=1MiB", "", "rate-out is for jobs that push"},
		{"sources=home&sources=home:other", `"sources":["home","home:other"]`, ""},
		{"sources=dc:", "", `source "dc:"`},
		{"sources=any", `"sources":["any"]`, ""},
		{"sources=nowhere:main", "", `there is no node "nowhere"`},
		{"owner=dc@node", "", "is the account of a node"},
		{"rate-times=mon..fri 8-18=5MiB&rate-times=sun 0-12=1MiB", `"rate-times":["mon..fri 8-18=5MiB","sun 0-12=1MiB"]`, ""},
		{"rate-times=always=5MiB", "", "'rate-times'"},
		{"max-delay=250ms", `"max-delay":"250ms"`, ""},
		{"max-delay=off", `"max-delay":"off"`, ""},
		{"max-delay=long", "", "'max-delay'"},
		{"disable=1", `"disable":true`, ""},
		{"remote=nowhere", "", `there is no node "nowhere"`},
		{"remote-store=x", "", "'remote-store': value must be at least 3 characters long"},
		{"store=none", "", "no such datastore 'none'"},
		{"newer-option=1", "", ""},
	}
	for i, tt := range tests {
		id := fmt.Sprintf("job%d", i)
		q, err := url.ParseQuery(strings.NewReplacer(";", "%3B", "+", "%2B").Replace(tt.option))
		if err != nil {
			t.Fatal(err)
		}
		for _, pair := range strings.Split(place, "&") {
			if name, value, _ := strings.Cut(pair, "="); !q.Has(name) {
				q.Set(name, value)
			}
		}
		status, body := w.Ask("admin@pbs", "POST", "/config/sync", storestest.Form, "id="+id+"&"+q.Encode())
		switch {
		case tt.wrong != "":
			if status != 400 || !strings.Contains(body, tt.wrong) {
				t.Errorf("%s: %d %s, want …%s…", tt.option, status, body, tt.wrong)
			}
		case status != 200:
			t.Errorf("%s: %d %s", tt.option, status, body)
		default:
			shown := job(t, w, id)
			for _, part := range strings.Split(tt.shown, ",\"") {
				if !strings.Contains(shown, strings.TrimPrefix(part, "\"")) {
					t.Errorf("%s is shown as %s", tt.option, shown)
				}
			}
			// What may be set may be taken back, and then the job is as without it.
			del := url.Values{}
			for name := range q {
				if name == "schedule" && q.Get(name) == "on-change" {
					name = "on-change"
				}
				if !strings.Contains(place, name+"=") && name != "newer-option" {
					del.Add("delete", name)
				}
			}
			w.Ask("admin@pbs", "PUT", "/config/sync/"+id, storestest.Form, del.Encode())
			if want := `{"id":"` + id + `","store":"main","remote":"home","remote-store":"main"}`; job(t, w, id) != want {
				t.Errorf("%s, taken back: %s", tt.option, job(t, w, id))
			}
		}
	}
}

// Who lacks one of the privileges that a job takes neither makes, changes,
// removes nor runs it; who has them all does.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t)
	for name, grants := range map[string]string{
		"none":    "",
		"far":     "/remote/home/main RemoteSyncOperator",
		"near":    "/datastore/main DatastoreBackup",
		"both":    "/remote/home/main RemoteSyncOperator,/datastore/main DatastoreBackup",
		"another": "/remote/home/other RemoteSyncOperator,/datastore/main DatastorePowerUser",
		"pruner":  "/remote/home/main RemoteSyncOperator,/datastore/main DatastorePowerUser",
		"boss":    "/remote/home/main RemoteSyncOperator,/datastore/main DatastoreAdmin",
	} {
		var list []string
		if grants != "" {
			list = strings.Split(grants, ",")
		}
		w.AddUser(t, access.AuthID(name+"@pbs"), list...)
	}
	tests := []struct{ what, job, may string }{
		{"copies of one's own", "&owner=SELF", "both pruner boss"},
		{"of root", "", "boss"},
		{"of somebody else", "&owner=none@pbs", "boss"},
		{"that vanish", "&owner=SELF&remove-vanished=1", "pruner boss"},
		{"of another datastore there", "&owner=SELF&remote-store=other", "another"},
	}
	for i, tt := range tests {
		for _, who := range []string{"none", "far", "near", "both", "another", "pruner", "boss"} {
			may := strings.Contains(" "+tt.may+" ", " "+who+" ")
			id := fmt.Sprintf("%s-%d", who, i)
			q := strings.ReplaceAll(place+tt.job, "SELF", who+"@pbs")
			if strings.Contains(tt.job, "remote-store") {
				q = strings.Replace(q, "&remote-store=main", "", 1)
			}
			if status, body := w.Ask(who+"@pbs", "POST", "/config/sync", storestest.Form, "id="+id+"&"+q); (status == 200) != may || !may && status != 403 {
				t.Errorf("%s makes a job for %s: %d %s", who, tt.what, status, body)
			}
			// The same job, made by the administrator.
			id = "x" + id
			if status, body := w.Ask("admin@pbs", "POST", "/config/sync", storestest.Form, "id="+id+"&"+q); status != 200 {
				t.Fatalf("%d %s", status, body)
			}
			for _, call := range []string{"POST /admin/sync/" + id + "/run", "PUT /config/sync/" + id, "DELETE /config/sync/" + id} {
				method, path, _ := strings.Cut(call, " ")
				before := len(r.started)
				status, body := w.Ask(who+"@pbs", method, path, "", "")
				if (status == 200) != may || !may && status != 403 || !may && len(r.started) > before {
					t.Errorf("%s, for %s: %s: %d %s", who, tt.what, call, status, body)
				}
			}
		}
	}
	// A change may not lead where its author may not go.
	w.Ask("both@pbs", "POST", "/config/sync", storestest.Form, "id=mine&owner=both@pbs&"+place)
	for _, change := range []string{"owner=none@pbs", "store=other", "remove-vanished=1", "remote-store=other", "delete=owner"} {
		if status, body := w.Ask("both@pbs", "PUT", "/config/sync/mine", storestest.Form, change); status != 403 {
			t.Errorf("%s: %d %s", change, status, body)
		}
	}
}

// Jobs and plans are shown to who may look at both ends.
func TestWhoSees(t *testing.T) {
	t.Parallel()
	w, _ := newWorld(t)
	w.AddUser(t, "here@pbs", "/datastore/main DatastoreAudit")
	w.AddUser(t, "both@pbs", "/datastore/main DatastoreAudit", "/remote/home RemoteAudit")
	if status, body := w.Ask("admin@pbs", "POST", "/config/sync", storestest.Form, "id=job1&"+place); status != 200 {
		t.Fatal(body)
	}
	for who, want := range map[string]int{"here@pbs": 403, "both@pbs": 200} {
		for _, path := range []string{"/config/sync/job1", "/holdfast/sync/job1/plan"} {
			if status, body := w.Ask(who, "GET", path, "", ""); status != want {
				t.Errorf("%s: %s: %d %s", who, path, status, body)
			}
		}
		for _, path := range []string{"/config/sync", "/admin/sync", "/admin/sync?store=main"} {
			if _, body := w.Ask(who, "GET", path, "", ""); strings.Contains(body, "job1") != (want == 200) {
				t.Errorf("%s: %s: %s", who, path, body)
			}
		}
	}
	if _, body := w.Ask("both@pbs", "GET", "/admin/sync?store=other", "", ""); strings.Contains(body, "job1") {
		t.Errorf("of another datastore: %s", body)
	}
}

// Who changes what somebody else has changed is told.
func TestDigest(t *testing.T) {
	t.Parallel()
	w, _ := newWorld(t)
	w.Ask("admin@pbs", "POST", "/config/sync", storestest.Form, "id=job1&"+place)
	_, body := w.Ask("admin@pbs", "GET", "/config/sync/job1", "", "")
	var answer struct{ Digest string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Digest) != 64 {
		t.Fatal(errors.Join(err, errors.New(body)))
	}
	change := "comment=a&digest=" + answer.Digest
	if status, body := w.Ask("admin@pbs", "PUT", "/config/sync/job1", storestest.Form, change); status != 200 {
		t.Errorf("the first: %d %s", status, body)
	}
	for _, method := range []string{"PUT", "DELETE"} {
		if status, body := w.Ask("admin@pbs", method, "/config/sync/job1?"+change, "", ""); status == 200 || !strings.Contains(body, settings.ErrModified.Error()) {
			t.Errorf("%s with an old digest: %d %s", method, status, body)
		}
	}
	if status, body := w.Ask("admin@pbs", "POST", "/config/sync", storestest.Form, "id=job1&"+place); status != 400 || !strings.Contains(body, "already exists") {
		t.Errorf("again: %d %s", status, body)
	}
}
