package export_test

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
	"github.com/holdfast-mesh/holdfast/pbs/api/export"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// A runner notes what it is asked. What runs is tested in the package exports of a
// node.
type runner struct {
	claimed, started []string
	synced           int
}

func (r *runner) Sync(context.Context) error { r.synced++; return nil }

func (r *runner) Start(id, auth string) (jobs.UPID, error) {
	r.started = append(r.started, id+" "+auth)
	return jobs.UPID{Node: "home", Type: "exportjob", ID: id, AuthID: auth}, nil
}

func (r *runner) Schedule(id string) (jobs.ScheduleStatus, error) {
	if id != "ran" {
		return jobs.ScheduleStatus{}, jobs.ErrNoJob
	}
	return jobs.ScheduleStatus{Next: time.Unix(1_800_000_000, 0), Last: &jobs.UPID{Node: "home"}, End: time.Unix(1_700_000_000, 0), State: "OK"}, nil
}

func (r *runner) Claim(j settings.ExportJob) error {
	if j.Path == "/nowhere" {
		return errors.New("/nowhere is no directory")
	}
	r.claimed = append(r.claimed, j.Path)
	return nil
}

func newWorld(t *testing.T) (*storestest.World, *runner) {
	w, r := storestest.New(t, "main"), &runner{}
	w.Serve(t, export.Endpoints(export.Config{Settings: w.Settings, Runner: r})...)
	w.AddUser(t, "admin@pbs", "/ Admin")
	return w, r
}

const place = "store=main&path=/mnt/usb"

// Every option is checked, kept and shown, and what may be set may be taken back.
func TestOptions(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t)
	for i, tt := range []struct{ option, shown, wrong string }{
		{"", "", ""},
		{"ns=a/b&max-depth=1", `"ns":"a/b"`, ""},
		{"max-depth=8", "", "'max-depth'"},
		{"group-filter=type:vm&group-filter=exclude:group:vm/1", `"group-filter":["type:vm","exclude:group:vm/1"]`, ""},
		{"group-filter=vm/100", "", "filter"},
		{"keep-last=1&keep-hourly=2&keep-daily=3&keep-weekly=4&keep-monthly=5&keep-yearly=6", `"keep-weekly":4`, ""},
		{"keep-last=-1", "", "'keep-last'"},
		{"schedule=sun 04:00", `"schedule":"sun 04:00"`, ""},
		{"schedule=sometimes", "", "'schedule'"},
		{"associated-key=k1&associated-key=k2", `["k1","k2"]`, ""},
		{"comment=to the safe", `"comment":"to the safe"`, ""},
		{"comment=" + strings.Repeat("x", 129), "", "'comment'"},
		{"disable=1", `"disable":true`, ""},
		{"path=usb", "", "path"},
		{"path=/nowhere", "", "is no directory"},
		{"store=none", "", "no such datastore 'none'"},
		{"newer-option=1", "", ""},
	} {
		id := fmt.Sprintf("job%d", i)
		q, err := url.ParseQuery(strings.ReplaceAll(tt.option, "+", "%2B"))
		if err != nil {
			t.Fatal(err)
		}
		for pair := range strings.SplitSeq(place, "&") {
			if name, value, _ := strings.Cut(pair, "="); !q.Has(name) {
				q.Set(name, value)
			}
		}
		status, body := w.Ask("admin@pbs", "POST", "/config/export", storestest.Form, "id="+id+"&"+q.Encode())
		if tt.wrong != "" {
			if status != 400 || !strings.Contains(body, tt.wrong) {
				t.Errorf("%s: %d %s, want …%s…", tt.option, status, body, tt.wrong)
			}
			continue
		}
		if status != 200 || len(r.claimed) == 0 {
			t.Errorf("%s: %d %s, marked %q", tt.option, status, body, r.claimed)
		}
		if shown := job(t, w, id); !strings.Contains(shown, tt.shown) {
			t.Errorf("%s is shown as %s", tt.option, shown)
		}
		del := url.Values{}
		for name := range q {
			if !strings.Contains(place, name+"=") && name != "newer-option" {
				del.Add("delete", name)
			}
		}
		w.Ask("admin@pbs", "PUT", "/config/export/"+id, storestest.Form, del.Encode())
		if want := `{"id":"` + id + `","store":"main","path":"/mnt/usb"}`; job(t, w, id) != want {
			t.Errorf("%s, taken back: %s", tt.option, job(t, w, id))
		}
	}
	if _, body := w.Ask("admin@pbs", "POST", "/config/export", storestest.Form, "id=job0&"+place); !strings.Contains(body, "already exists") {
		t.Errorf("once more: %s", body)
	}
	if _, body := w.Ask("admin@pbs", "PUT", "/config/export/job0", storestest.Form, "delete=store"); !strings.Contains(body, "delete") {
		t.Errorf("what must be there is taken back: %s", body)
	}
	marks := len(r.claimed)
	w.Ask("admin@pbs", "PUT", "/config/export/job0", storestest.Form, "comment=x")
	if len(r.claimed) != marks {
		t.Error("a directory is marked anew though it is the same")
	}
	w.Ask("admin@pbs", "PUT", "/config/export/job0", storestest.Form, "path=/mnt/other")
	if r.claimed[len(r.claimed)-1] != "/mnt/other" {
		t.Errorf("another directory: marked %q", r.claimed)
	}
}

func job(t *testing.T, w *storestest.World, id string) string {
	t.Helper()
	_, body := w.Ask("admin@pbs", "GET", "/config/export/"+id, "", "")
	var answer struct{ Data json.RawMessage }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return body
	}
	return string(answer.Data)
}

// Who makes, changes, runs or removes a job writes on this machine what was in a
// datastore: that takes two privileges, and those of its keys. A digest guards changes.
func TestWhoMay(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t)
	for name, grants := range map[string]string{
		"none": "", "reads": "/datastore/main DatastoreReader", "system": "/system Admin",
		"both": "/datastore/main DatastoreReader,/system Admin",
	} {
		var list []string
		if grants != "" {
			list = strings.Split(grants, ",")
		}
		w.AddUser(t, access.AuthID(name+"@pbs"), list...)
	}
	for name, may := range map[string]bool{"none": false, "reads": false, "system": false, "both": true} {
		who := name + "@pbs"
		want := 403
		if may {
			want = 200
		}
		if status, body := w.Ask(who, "POST", "/config/export", storestest.Form, "id="+name+"&"+place); status != want {
			t.Errorf("%s makes a job: %d %s", name, status, body)
		}
		w.Ask("admin@pbs", "POST", "/config/export", storestest.Form, "id=of-"+name+"&"+place)
		for _, call := range []string{"POST /admin/export/of-" + name + "/run", "PUT /config/export/of-" + name + "?comment=x", "DELETE /config/export/of-" + name} {
			method, path, _ := strings.Cut(call, " ")
			started := len(r.started)
			if status, body := w.Ask(who, method, path, "", ""); status != want || !may && len(r.started) > started {
				t.Errorf("%s: %s: %d %s", name, call, status, body)
			}
		}
	}
	for name, sees := range map[string]bool{"none": false, "reads": true, "system": false} {
		if _, body := w.Ask(name+"@pbs", "GET", "/config/export", "", ""); strings.Contains(body, "of-none") != sees {
			t.Errorf("%s sees %s", name, body)
		}
		if status, _ := w.Ask(name+"@pbs", "GET", "/config/export/of-none", "", ""); (status == 200) != sees {
			t.Errorf("%s looks at a job: %d", name, status)
		}
	}
	if _, body := w.Ask("admin@pbs", "PUT", "/config/export/of-none?comment=y&digest="+strings.Repeat("0", 64), "", ""); !strings.Contains(body, settings.ErrModified.Error()) {
		t.Errorf("with an old digest: %s", body)
	}
	w.Ask("admin@pbs", "POST", "/config/export", storestest.Form, "id=ran&"+place)
	if _, body := w.Ask("admin@pbs", "GET", "/admin/export?store=main", "", ""); !strings.Contains(body, `"next-run":1800000000`) || !strings.Contains(body, `"last-run-state":"OK"`) || !strings.Contains(body, `"id":"both"`) {
		t.Errorf("how jobs stand: %s", body)
	}
	if _, body := w.Ask("admin@pbs", "DELETE", "/config/export/nothing", "", ""); !strings.Contains(body, "no such export job 'nothing'") {
		t.Errorf("of no job: %s", body)
	}
}
