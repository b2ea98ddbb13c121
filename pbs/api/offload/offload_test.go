package offload_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/api/offload"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// A runner notes who started what. What runs is tested in package offloads of a
// node, and in replication/offload.
type runner struct{ started, synced []string }

func (r *runner) Sync(context.Context) error { r.synced = append(r.synced, ""); return nil }

func (r *runner) Start(id, auth string) (jobs.UPID, error) {
	r.started = append(r.started, id+" "+auth)
	return jobs.UPID{}, nil
}

func (*runner) Schedule(string) (jobs.ScheduleStatus, error) {
	return jobs.ScheduleStatus{}, jobs.ErrNoJob
}
func (*runner) Plan(context.Context, string) (any, error) { return map[string]int{"snapshots": 7}, nil }

// newWorld has a datastore on a disk, one with a bucket, and one whose bucket is
// only read.
func newWorld(t *testing.T) (*storestest.World, *runner) {
	t.Helper()
	w, r := storestest.New(t, "main", "disk"), &runner{}
	err := w.Settings.Update(t.Context(), func(s *settings.State) error {
		cloud := settings.Datastore{Name: "cloud", Path: "/c", Backend: settings.Backend{Client: "near", Bucket: "b"}}
		read := cloud
		read.Name, read.Path, read.Backend.ReadOnly = "read", "/r", true
		s.Datastores = append(s.Datastores, cloud, read)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Serve(t, offload.Endpoints(offload.Config{Settings: w.Settings, Runner: r})...)
	w.AddUser(t, "admin@pbs", "/ Admin")
	return w, r
}

// shown returns a job without its digest.
func shown(t *testing.T, w *storestest.World, id string) string {
	t.Helper()
	_, body := w.Ask("admin@pbs", "GET", "/config/offload/"+id, "", "")
	var answer struct{ Data json.RawMessage }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return body
	}
	return string(answer.Data)
}

// Every option is checked, kept, shown, and taken back.
func TestOptions(t *testing.T) {
	w, r := newWorld(t)
	const place = "store=main&to=cloud"
	for option, want := range map[string]string{
		"after=7d": `"after":"7d"`, "schedule=daily": `"schedule":"daily"`, "max-depth=2": `"max-depth":2`, "transfer-last=3": `"transfer-last":3`,
		"ns=a": `"ns":"a"`, "to-ns=b/c": `"to-ns":"b/c"`, "group-filter=type:vm": `"group-filter":["type:vm"]`, "verified-only=1": `"verified-only":true`,
		"disable=1": `"disable":true`, "owner=admin@pbs": `"owner":"admin@pbs"`, "comment=x": `"comment":"x"`,
		"after=soon": "", "schedule=sometimes": "", "max-depth=99": "", "transfer-last=0": "", "ns=/": "", "owner=nobody": "", "comment=a%0Ab": "", "group-filter=x": "",
	} {
		status, body := w.Ask("admin@pbs", "POST", "/config/offload", storestest.Form, "id=upl&"+place+"&"+option)
		if want == "" {
			if status < 400 {
				t.Errorf("%s is taken: %s", option, body)
			}
			continue
		}
		if got := shown(t, w, "upl"); status != 200 || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s, shown as %s", option, status, body, got)
		}
		name, _, _ := strings.Cut(option, "=")
		if status, body := w.Ask("admin@pbs", "PUT", "/config/offload/upl", storestest.Form, "delete="+name); status != 200 {
			t.Errorf("take back %s: %d %s", name, status, body)
		}
		if got := shown(t, w, "upl"); strings.Contains(got, want) {
			t.Errorf("%s was taken back, and is shown: %s", name, got)
		}
		if status, body := w.Ask("admin@pbs", "DELETE", "/config/offload/upl", storestest.Form, ""); status != 200 {
			t.Errorf("remove: %d %s", status, body)
		}
	}
	if len(r.synced) == 0 {
		t.Error("the schedules did not follow")
	}
}

// A job goes from a datastore on a disk to one with a bucket that is written to,
// and nothing else.
func TestWhereFromAndTo(t *testing.T) {
	w, _ := newWorld(t)
	for place, want := range map[string]string{
		"store=read&to=cloud": "has a bucket", "store=cloud&to=main": "has a bucket", "store=main&to=disk": "has no bucket", "store=main&to=main": "are the same", "store=main&to=read": "only reads its bucket",
		"store=gone&to=cloud": "no such datastore 'gone'", "store=main&to=gone": "no such datastore 'gone'", "store=main": "to",
	} {
		if status, body := w.Ask("admin@pbs", "POST", "/config/offload", storestest.Form, "id=upl&"+place); status < 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %q", place, status, body, want)
		}
	}
	if n := len(w.Settings.State().OffloadJobs); n != 0 {
		t.Errorf("%d jobs were made", n)
	}
}

// Who runs a job must be allowed to read there and to back up here; who sees it, to
// look at both. Its digest guards against changes that cross.
func TestWhoMay(t *testing.T) {
	w, r := newWorld(t)
	w.AddUser(t, "half@pbs", "/datastore/main DatastoreReader")
	w.AddUser(t, "both@pbs", "/datastore/main DatastoreReader", "/datastore/cloud DatastoreBackup")
	w.AddUser(t, "looks@pbs", "/datastore DatastoreAudit")
	if status, body := w.Ask("admin@pbs", "POST", "/config/offload", storestest.Form, "id=upl&store=main&to=cloud&owner=both@pbs"); status != 200 {
		t.Fatal(status, body)
	}
	for who, want := range map[string]int{"half@pbs": 403, "looks@pbs": 403, "both@pbs": 200, "admin@pbs": 200} {
		if status, body := w.Ask(who, "POST", "/admin/offload/upl/run", storestest.Form, ""); status != want {
			t.Errorf("%s runs it: %d %s, want %d", who, status, body, want)
		}
	}
	if got := len(r.started); got != 2 {
		t.Errorf("%d runs were started: %v", got, r.started)
	}
	for who, want := range map[string]int{"half@pbs": 0, "looks@pbs": 1} {
		_, body := w.Ask(who, "GET", "/admin/offload", "", "")
		if got := strings.Count(body, `"id":"upl"`); got != want {
			t.Errorf("%s sees %d jobs, want %d: %s", who, got, want, body)
		}
	}
	if status, body := w.Ask("looks@pbs", "GET", "/holdfast/offload/upl/plan", "", ""); status != 200 || !strings.Contains(body, `"snapshots":7`) {
		t.Errorf("the plan: %d %s", status, body)
	}
	if status, _ := w.Ask("admin@pbs", "PUT", "/config/offload/upl", storestest.Form, "comment=x&digest="+strings.Repeat("0", 64)); status < 400 {
		t.Error("a change with an old digest is taken")
	}
}
