package host_test

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
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/api/host"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// A recorded is a request and what a real server answered to it.
type recorded struct {
	File, Who, Method, Target string

	Status int
	Answer *string
}

// A difference is one that is meant: another status, or part of the answer.
type difference struct {
	why    string
	status int // 0: the same
	text   string
}

const hasEnded = "the task that is asked for has ended already"

// differences are the requests that we answer in another way than the server of
// the recordings. Keys are as the test names requests.
var differences = map[string]difference{
	"GET /nodes":           {why: "monitors ask for it, and the recorded build refused everybody", status: 200, text: `{"data":[{"node":"localhost"}]}`},
	"GET /nodes/localhost": {why: "there is more below it", text: `{"subdir":"tasks"}`},

	"GET /nodes/localhost/tasks/garbage_collection/log?limit=500&start=1&test-status=true":  {why: hasEnded, text: `"active":false`},
	"GET /nodes/localhost/tasks/garbage_collection/log?limit=500&start=17&test-status=true": {why: hasEnded, text: `"active":false`},
	"GET /nodes/localhost/tasks/garbage_collection/log?limit=500&start=41&test-status=true": {why: hasEnded, text: `"active":false`},
}

// Requests of a real client against a real server are answered in the same way:
// status, texts of errors, shape and content of data. What differs on purpose
// stands in the table of differences.
func TestRecordedRequests(t *testing.T) {
	all := readRecorded(t)
	w := newWorld(t, "src", "store1")
	ours := happened(t, w, all)
	used := map[string]bool{}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, r := range all {
		asked.Go(func() { // side by side, since refusals take half a second
			key, target := r.Method+" "+strings.TrimPrefix(r.Target, "/api2/json"), r.Target
			if then, upid := upidIn(r.Target); upid != "" {
				if now, ok := ours[upid]; ok {
					key, target = strings.Replace(key, then, now.Type, 1), strings.Replace(target, then, escaped(now.String()), 1)
				}
			}
			status, body := w.Ask(r.Who, r.Method, target, "", "")
			d, differs := differences[key]
			mu.Lock()
			used[key] = true
			mu.Unlock()
			switch {
			case differs:
				if want := cmp.Or(d.status, r.Status); status != want || !strings.Contains(body, d.text) {
					t.Errorf("%s: %s %s: %d %.300s, want %d …%s… (%s)", r.File, r.Who, key, status, body, want, d.text, d.why)
				}
			case status != r.Status:
				t.Errorf("%s: %s %s: status %d, want %d: %.300s", r.File, r.Who, key, status, r.Status, body)
			case r.Answer != nil:
				if got, want := normal(body), normal(*r.Answer); got != want {
					t.Errorf("%s: %s %s:\n got  %s\n want %s", r.File, r.Who, key, got, want)
				}
			}
		})
	}
	asked.Wait()
	for key := range differences {
		if !used[key] {
			t.Errorf("the difference %q is of a request that was not recorded", key)
		}
	}
}

// escaped writes a UPID as clients do in a path: all but letters and digits.
func escaped(upid string) string {
	return notPlain.ReplaceAllStringFunc(upid, func(c string) string { return fmt.Sprintf("%%%02X", c[0]) })
}

var notPlain = regexp.MustCompile("[^A-Za-z0-9]")

// upidIn finds the UPID that a target names.
func upidIn(target string) (escaped, upid string) {
	escaped = inPath.FindString(target)
	upid, _ = url.PathUnescape(escaped) // what was recorded can be read
	return escaped, upid
}

var inPath = regexp.MustCompile("UPID%3A[^/?]*")

func readRecorded(t *testing.T) (all []recorded) {
	t.Helper()
	b, err := os.ReadFile("testdata/recorded.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		var r recorded
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// newWorld returns datastores, accounts and tasks with our endpoints.
func newWorld(t *testing.T, names ...string) *storestest.World {
	t.Helper()
	w := storestest.New(t, names...)
	w.Serve(t, host.Endpoints(newConfig(t, w))...)
	w.AddUser(t, "admin@pbs", "/ Admin")
	w.AddUser(t, "admin@pbs!tok", "/ Admin")
	w.AddUser(t, "reader@pbs", "/datastore DatastoreReader")
	w.AddUser(t, "backup@pbs", "/datastore DatastoreBackup")
	w.AddUser(t, "backup@pbs!tok", "/datastore DatastoreBackup")
	w.AddUser(t, "audit@pbs", "/datastore/store1 DatastoreAudit")
	w.AddUser(t, "noacc@pbs", "/datastore/store1 NoAccess")
	return w
}

// happened does the tasks that the recordings show, with their logs, and
// returns them by what they were called there.
func happened(t *testing.T, w *storestest.World, all []recorded) map[string]jobs.UPID {
	t.Helper()
	type task struct {
		UPID, Status string
	}
	then, logs := []task{}, map[string][]string{}
	for _, r := range all {
		if r.Answer == nil {
			continue
		}
		var list struct{ Data []task }
		if json.Unmarshal([]byte(*r.Answer), &list) == nil && strings.Contains(r.Target, "/tasks?") {
			for _, x := range list.Data {
				if !slices.Contains(then, x) {
					then = append(then, x)
				}
			}
		}
		if id, text, ok := recordedLog(r); ok {
			logs[id] = text
		}
	}
	slices.SortFunc(then, func(a, b task) int { return cmp.Compare(taskID(t, a.UPID), taskID(t, b.UPID)) })
	ours := map[string]jobs.UPID{}
	add := func(typ, id, auth, status string, log []string) jobs.UPID {
		u, err := w.Tasks.Do(t.Context(), typ, id, auth, func(_ context.Context, task *jobs.Task) error {
			for _, l := range log {
				task.Logf("%s", l)
			}
			if status != "OK" {
				return errors.New(status)
			}
			return nil
		})
		if err != nil && status == "OK" {
			t.Fatal(err)
		}
		return u
	}
	for range 3 { // older ones, of which no list shows more than their number
		add("backup", "store1:host/own-backup", "backup@pbs!tok", "OK", nil)
		add("reader", "src:host/n1/6553F100", "admin@pbs", "connection error: not connected", nil)
	}
	gc := "UPID:pbs3:00004CE0:000C74B1:00000042:6B00FD97:garbage_collection:store1:admin@pbs:"
	ours[gc] = add("garbage_collection", "store1", "admin@pbs", "OK", slices.Repeat([]string{"x"}, 60))
	for _, x := range then {
		u, err := jobs.ParseUPID(x.UPID)
		if err != nil {
			t.Fatal(err)
		}
		ours[x.UPID] = add(u.Type, u.ID, u.AuthID, x.Status, logs[x.UPID])
	}
	return ours
}

// recordedLog returns the lines of a task, if all of them were recorded.
func recordedLog(r recorded) (upid string, lines []string, ok bool) {
	if !strings.HasSuffix(r.Target, "/log?download=1") {
		return "", nil, false
	}
	_, upid = upidIn(r.Target)
	for l := range strings.Lines(*r.Answer) {
		if text := strings.TrimSuffix(stamp.ReplaceAllString(l, ""), "\n"); text != "TASK OK" {
			lines = append(lines, text)
		}
	}
	return upid, lines, true
}

func taskID(t *testing.T, upid string) uint64 {
	u, err := jobs.ParseUPID(upid)
	if err != nil {
		t.Fatal(err)
	}
	return u.TaskID
}

// stamp is the time that a line of a log begins with.
var stamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d): `)

// measured are members whose values hang on this machine and this moment.
var measured = []string{
	"upid", "pid", "pstart", "starttime", "endtime", "avail", "used", "release", "version", "repoid",
	"disk-bytes", "disk-chunks", "index-data-bytes", "index-file-count", "pending-bytes", "pending-chunks",
}

// newer are members that newer servers add.
var newer = []string{"mount-status", "backend-type", "history", "history-start", "history-delta", "estimated-full-date"}

// normal brings an answer into one form.
func normal(text string) string {
	text = stamp.ReplaceAllString(text, "TIME ")
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	if m, ok := v.(map[string]any); ok {
		// Of a list that goes on, a real server only says that it does; we say
		// how long it is.
		list, _ := m["data"].([]any)
		if total, ok := m["total"].(float64); ok && int(total) > len(list) {
			m["total"] = "more"
		}
	}
	b, _ := json.Marshal(walk(v))
	return string(b)
}

func walk(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = walk(v[i])
		}
		slices.SortStableFunc(v, func(a, b any) int { return cmp.Compare(storeOf(a), storeOf(b)) })
	case map[string]any:
		_, space := v["avail"]
		for name, value := range v {
			switch {
			case slices.Contains(newer, name):
				delete(v, name)
			case slices.Contains(measured, name), space && name == "total":
				v[name] = "measured"
			default:
				v[name] = walk(value)
			}
		}
	}
	return v
}

// storeOf returns the datastore that an item of a list is about: those come in
// any order.
func storeOf(v any) string {
	m, _ := v.(map[string]any)
	store, _ := m["store"].(string)
	return store
}
