package setup_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/api/content"
	"github.com/holdfast-mesh/holdfast/pbs/api/setup"
	"github.com/holdfast-mesh/holdfast/pbs/api/sync"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// A recorded is a request and what a real server answered to it.
type recorded struct {
	File, Who, Method, Target, Body, Type string

	Status int
	Answer *string
}

// Requests of a real client against a real server are answered in the same
// way: status, text of errors, shape and content of data. What differs on
// purpose stands in the table of differences.
func TestRecordedRequests(t *testing.T) {
	all := readRecorded(t)
	var runs gosync.WaitGroup
	for _, run := range []struct {
		files string // prefixes, in order, of one server
		state func(*testing.T, *storestest.World)
	}{
		{"11 13 14 15", empty},
		{"40 41 42 60 61 62 63 64 65", afterBackups},
		{"70-perm-reader", pruned}, {"70-perm-backup", pruned}, {"70-perm-audit", owned}, {"70-perm-noacc", owned}, {"71", owned},
		{"100", configured}, {"101", checked}, {"102", checked},
		{"103-api-permissions-audit", commented}, {"103-api-permissions-backup", commented},
		{"103-api-permissions-noacc", commented}, {"103-api-permissions-reader", commented},
	} {
		runs.Go(func() { // side by side: refusals take half a second and more
			t.Run(run.files, func(t *testing.T) {
				w := newWorld(t)
				run.state(t, w)
				n := 0
				for _, p := range strings.Fields(run.files) {
					for _, r := range all {
						if strings.HasPrefix(r.File, p+"-") || r.File == p {
							replay(t, w, r)
							n++
						}
					}
				}
				if n == 0 {
					t.Error("nothing was recorded")
				}
			})
		})
	}
	runs.Wait()
}

func readRecorded(t *testing.T) (all []recorded) {
	b, err := os.ReadFile("testdata/recorded.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r recorded
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// replay sends a request and compares the answers.
func replay(t *testing.T, w *storestest.World, r recorded) {
	t.Helper()
	if r.Status == 101 {
		u, _ := url.Parse(r.Target)
		q := u.Query()
		var at int64
		fmt.Sscan(q.Get("backup-time"), &at)
		b := small("", q.Get("backup-type")+"/"+q.Get("backup-id"), at, r.Who)
		if g, err := naming.ParseGroup(q.Get("backup-type") + "/" + q.Get("backup-id")); err == nil {
			if d, err := w.Get("store1"); err == nil {
				if owner, err := d.Owner("", g); err == nil {
					b.Owner = owner
				}
			}
		}
		w.Back(t, "store1", b)
		return
	}
	target := r.Target
	if i := strings.Index(target, "/api2"); i > 0 {
		target = target[i:]
	}
	status, body := w.Ask(r.Who, r.Method, target, r.Type, r.Body)
	await(t, w, body)
	key := strings.TrimSpace(r.Method + " " + strings.TrimPrefix(target, "/api2/json") + " " + r.Body)
	d, differs := differences[key]
	if differs && (d.who == "" || d.who == r.Who) {
		if want := cmp.Or(d.status, r.Status); status != want || !strings.Contains(body, d.text) {
			t.Errorf("%s: %s %s: %d %.300s, want %d …%s… (%s)", r.File, r.Who, key, status, body, want, d.text, d.why)
		}
		return
	}
	if status != r.Status {
		t.Errorf("%s: %s %s: status %d, want %d\n got %.300s", r.File, r.Who, key, status, r.Status, body)
		return
	}
	if r.Answer == nil {
		return
	}
	if got, want := normal(body), normal(*r.Answer); got != want {
		t.Errorf("%s: %s %s:\n got  %s\n want %s", r.File, r.Who, key, got, want)
	}
}

// await waits for the task that an answer names.
func await(t *testing.T, w *storestest.World, body string) {
	t.Helper()
	var answer struct{ Data string }
	if json.Unmarshal([]byte(body), &answer) != nil || !strings.HasPrefix(answer.Data, "UPID:") {
		return
	}
	u, err := jobs.ParseUPID(answer.Data)
	if err == nil {
		_, err = w.Tasks.Wait(t.Context(), u)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A difference is one that is meant.
type difference struct {
	why    string
	who    string // only for this caller
	status int    // 0: the same
	text   string // part of the answer
}

// variable are numbers and names that differ from run to run, or that hang on
// how compression packs a manifest.
var variable = regexp.MustCompile(`UPID:[^"]*:"`)

// normal brings an answer into one form: members and lists sorted, what is
// variable replaced, and without members that newer servers add.
func normal(text string) string {
	text = variable.ReplaceAllString(text, `UPID"`)
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		lines := strings.Split(text, "\n")
		slices.Sort(lines[1:]) // parameters are named in any order
		return strings.Join(lines, "\n")
	}
	b, _ := json.Marshal(walk(v))
	return string(b)
}

// measured are members whose values hang on this machine, this moment, or how
// chunks are kept.
var measured = map[string]bool{
	"avail": true, "used": true, "total": true, "digest": true, "fingerprint": true, "next-run": true,
	"last-run-endtime": true, "duration": true,
	"disk-bytes": true, "disk-chunks": true, "index-data-bytes": true, "index-file-count": true, "pending-bytes": true, "pending-chunks": true,
}

// newer are members that PBS 4 adds.
var newer = map[string]bool{"mount-status": true, "backend-type": true}

func walk(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = walk(v[i])
		}
		slices.SortFunc(v, func(a, b any) int { return cmp.Compare(sortKey(a), sortKey(b)) })
	case map[string]any:
		for name, value := range v {
			switch {
			case newer[name]:
				delete(v, name)
			case measured[name]:
				v[name] = "measured"
			default:
				v[name] = walk(value)
			}
		}
		if v["filename"] == "index.json.blob" {
			v["size"] = "measured"
		}
		if _, ok := v["files"]; ok && v["size"] != nil {
			v["size"] = "measured" // has that of the manifest in it
		}
	}
	return v
}

func sortKey(v any) string { b, _ := json.Marshal(v); return string(b) }

func newWorld(t *testing.T) *storestest.World {
	w := storestest.New(t, "src", "store1")
	w.Serve(t, slices.Concat(
		content.Endpoints(content.Config{Stores: w.Set, Accounts: w.Accounts}),
		setup.Endpoints(setup.Config{Settings: w.Settings, Stores: w.Set}),
		sync.Endpoints(sync.Config{Settings: w.Settings, Runner: idle{w}}),
	)...)
	w.AddUser(t, "admin@pbs", "/ Admin")
	w.AddUser(t, "admin@pbs!tok", "/ Admin")
	w.AddUser(t, "reader@pbs", "/datastore/store1 DatastoreReader", "/datastore/src DatastoreReader")
	w.AddUser(t, "backup@pbs", "/datastore/store1 DatastoreBackup", "/datastore/src DatastoreBackup")
	w.AddUser(t, "backup@pbs!tok", "/datastore/store1 DatastoreBackup")
	w.AddUser(t, "audit@pbs", "/datastore/store1 DatastoreAudit")
	w.AddUser(t, "noacc@pbs", "/datastore/store1 NoAccess")
	return w
}

// idle has the schedules of sync jobs, which package pulls of a node has else,
// and runs none.
type idle struct{ *storestest.World }

func (i idle) Sync(context.Context) error {
	for _, j := range i.Settings.State().SyncJobs {
		never := func(context.Context, *jobs.Task) error { return errors.New("nothing runs here") }
		if err := i.Scheduler.Put(jobs.Schedule{Name: j.ID, Event: j.Schedule, Type: "syncjob", ID: j.ID, Auth: "root@pam", Work: never}); err != nil {
			return err
		}
	}
	return nil
}

func (i idle) Start(id, auth string) (jobs.UPID, error)        { return i.Scheduler.Trigger(id, auth) }
func (i idle) Schedule(id string) (jobs.ScheduleStatus, error) { return i.Scheduler.Status(id) }
func (i idle) Plan(context.Context, string) (any, error)       { return nil, errors.New("nothing runs here") }
func (i idle) Known(string) error                              { return nil }

func empty(*testing.T, *storestest.World) {}

const t0 = 1700000000 // of the first backup; the others follow by the hour

// full is a backup like those of the recordings, of the same length.
func full(ns catalog.Namespace, group string, at int64, key *chunks.Key) storestest.Backup {
	root, list := 231424, 250
	if at > t0 {
		root, list = 231554, 269
	}
	b := small(ns, group, at, "admin@pbs")
	b.Key = key
	b.Files = []storestest.File{
		{Name: "root.pxar.didx", Content: make([]byte, root)},
		{Name: "disk.img.fidx", Content: make([]byte, 8488608)},
		b.Files[0],
		{Name: "catalog.pcat1.didx", Content: make([]byte, list)},
	}
	return b
}

// tiny is one as in the namespaces.
func tiny(ns catalog.Namespace) storestest.Backup {
	b := small(ns, "host/g1", t0, "admin@pbs")
	b.Files = []storestest.File{
		{Name: "root.pxar.didx", Content: make([]byte, 215)}, b.Files[0], {Name: "catalog.pcat1.didx", Content: make([]byte, 46)},
	}
	return b
}

// small has one small file, which takes 64 bytes.
func small(ns catalog.Namespace, group string, at int64, owner string) storestest.Backup {
	return storestest.Backup{
		Namespace: ns, Snapshot: group + "/" + naming.FormatTime(at), Owner: owner,
		Files: []storestest.File{{Name: "etc.conf.blob", Content: bytes.Repeat([]byte{'x'}, 52)}},
	}
}

// key is that of the encrypted backups.
var key = chunks.NewKey([chunks.KeySize]byte{7})

// afterBackups is the state after the backups of the recordings 20 to 35.
func afterBackups(t *testing.T, w *storestest.World) {
	namespaces(t, w, "a", "a/b")
	for i := range int64(3) {
		w.Back(t, "store1", full("", "host/g1", t0+3600*i, nil))
	}
	for i := range int64(2) {
		w.Back(t, "store1", full("", "host/g2", t0+3600*i, key))
	}
	w.Back(t, "store1", tiny("a"))
	w.Back(t, "store1", tiny("a/b"))
	d, err := w.Get("store1")
	if err == nil {
		var log chunks.Blob
		if log, err = chunks.Encode(nil, []byte("log"), chunks.EncodeOptions{}); err == nil {
			err = d.AddLog("", naming.Snapshot{Group: naming.Group{Type: naming.Host, ID: "g1"}, Time: t0}, log)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func namespaces(t *testing.T, w *storestest.World, list ...catalog.Namespace) {
	d, err := w.Get("store1")
	if err != nil {
		t.Fatal(err)
	}
	for _, ns := range list {
		if err := d.CreateNamespace(ns); err != nil {
			t.Fatal(err)
		}
	}
}

// pruned is the state after that, when all was removed that the recordings 61
// to 65 removed.
func pruned(t *testing.T, w *storestest.World) {
	namespaces(t, w, "a")
	w.Back(t, "store1", full("", "host/g1", t0+7200, nil))
	w.Back(t, "store1", full("", "host/g2", t0, key))
	w.Back(t, "store1", full("", "host/g2", t0+3600, key))
	w.Back(t, "store1", tiny("a"))
}

// owned has what backup@pbs backed up as well.
func owned(t *testing.T, w *storestest.World) {
	pruned(t, w)
	w.Back(t, "store1", small("", "host/own-backup", t0, "backup@pbs"))
}

// configured has what backup@pbs backed up as well, and jobs.
func configured(t *testing.T, w *storestest.World) {
	pruned(t, w)
	for i := range int64(4) {
		w.Back(t, "store1", small("", "host/own-backup", t0+3600*i, "admin@pbs"))
	}
	ask(t, w, "PUT", "/admin/datastore/store1/notes?backup-type=host&backup-id=own-backup&backup-time=1700000000&notes=mine", "")
	ask(t, w, "POST", "/admin/datastore/store1/gc", "")
	verified, thirty := true, 30
	err := w.Settings.Update(t.Context(), func(s *settings.State) error {
		s.PruneJobs = []settings.PruneJob{{ID: "prune1", Store: "store1", Schedule: "daily", Keep: retention.Keep{Last: 3, Weekly: 2}}}
		s.SyncJobs = []settings.SyncJob{{ID: "sync1", Store: "store1", Remote: "remote1", RemoteStore: "src", Schedule: "hourly", Comment: "c"}}
		s.VerifyJobs = []settings.VerifyJob{{ID: "verify1", Store: "store1", Schedule: "sat 18:15", IgnoreVerified: &verified, OutdatedAfter: &thirty}}
		return nil
	})
	if err == nil {
		err = errors.Join(w.Sync(t.Context()), idle{w}.Sync(t.Context()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// checked is the state after a verification as well.
func checked(t *testing.T, w *storestest.World) {
	configured(t, w)
	ask(t, w, "POST", "/admin/datastore/store1/verify", "")
}

// commented is the state after the recordings 102.
func commented(t *testing.T, w *storestest.World) {
	checked(t, w)
	ask(t, w, "PUT", "/config/datastore/store1", "comment=hello")
}

// ask sends a request of the administrator, and waits for what it begins.
func ask(t *testing.T, w *storestest.World, method, target, body string) {
	t.Helper()
	status, answer := w.Ask("admin@pbs", method, target, storestest.Form, body)
	if status != 200 {
		t.Fatalf("%s %s: %d %s", method, target, status, answer)
	}
	await(t, w, answer)
}

func (idle) Standing(string) (int, time.Time, bool) { return 0, time.Time{}, false }
