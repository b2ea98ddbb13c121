package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/api/host"
	"github.com/holdfast-mesh/holdfast/pbs/history"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

func newConfig(t *testing.T, w *storestest.World) host.Config {
	t.Helper()
	m := &history.Machine{}
	h, err := history.New(history.Config{File: filepath.Join(t.TempDir(), "figures"), Sample: host.Sample(m, w.Set, t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	return host.Config{
		Stores: w.Set, Tasks: w.Tasks, History: h, Machine: m, Root: t.TempDir(), Identity: strings.Repeat("ab", 16), Build: "test",
		GCStatus:    func(store string) (any, error) { return w.GCStatus(store) },
		Certificate: func() host.Certificate { return host.Certificate{File: "proxy.pem", Fingerprint: "aa:bb"} },
	}
}

func path(u jobs.UPID) string { return "/nodes/localhost/tasks/" + escaped(u.String()) }

// Whoever did not begin a task, looks after no datastore and may not look at
// the system does not know of it.
func TestTasksOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "store1")
	w.AddUser(t, "watch@pbs", "/system/tasks Audit")
	w.AddUser(t, "keeper@pbs", "/datastore/store1 DatastoreAdmin")
	do := func(typ, id, auth string) jobs.UPID {
		u, err := w.Tasks.Do(t.Context(), typ, id, auth, func(context.Context, *jobs.Task) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	own, tokens := do("backup", "store1:host/a", "backup@pbs"), do("backup", "store1:host/b", "backup@pbs!tok")
	admins, job := do("reader", "store1:host/a/1", "admin@pbs"), do("garbage_collection", "store1", "root@pam")
	for who, sees := range map[string]map[jobs.UPID]bool{
		"backup@pbs":     {own: true, tokens: true},
		"backup@pbs!tok": {tokens: true},
		"reader@pbs":     {},
		"keeper@pbs":     {job: true},
		"watch@pbs":      {own: true, tokens: true, admins: true, job: true},
		"admin@pbs":      {own: true, tokens: true, admins: true, job: true},
	} {
		_, list := w.Ask(who, "GET", "/nodes/localhost/tasks", "", "")
		for _, u := range []jobs.UPID{own, tokens, admins, job} {
			if got := strings.Contains(list, strings.ReplaceAll(u.String(), `\`, `\\`)); got != sees[u] {
				t.Errorf("%s: %s is in the list: %v", who, u, got)
			}
			want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[sees[u]]
			for _, what := range []string{"/status", "/log", "/log?download=1"} {
				if status, body := w.Ask(who, "GET", path(u)+what, "", ""); status != want {
					t.Errorf("%s: %s of %s: %d %s, want %d", who, what, u, status, body, want)
				}
			}
		}
	}
}

// A task is stopped by whoever began it or may change the system, within a
// second as far as the client is concerned, and for good.
func TestStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.AddUser(t, "watch@pbs", "/system Audit")
	u, err := w.Tasks.Start(t.Context(), "verify", "store1", "backup@pbs!tok", func(ctx context.Context, task *jobs.Task) error {
		task.Progress(0.5, "half of it")
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	if status, body := w.Ask("watch@pbs", "DELETE", path(u), "", ""); status != http.StatusForbidden {
		t.Errorf("whoever may only look: %d %s", status, body)
	}
	_, body := w.Ask("backup@pbs", "GET", path(u)+"/status", "", "")
	if !strings.Contains(body, `"status":"running"`) || !strings.Contains(body, `"user":"backup@pbs"`) || !strings.Contains(body, `"tokenid":"tok"`) || strings.Contains(body, "exitstatus") {
		t.Errorf("while it runs: %s", body)
	}
	if status, body := w.Ask("backup@pbs", "DELETE", path(u), "", ""); status != http.StatusOK || body != `{"data":null}` {
		t.Errorf("its owner: %d %s", status, body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if i, err := w.Tasks.Wait(ctx, u); err != nil || i.State != jobs.Failed {
		t.Fatalf("it ended as %v, %v", i.State, err)
	}
	if _, body := w.Ask("backup@pbs", "GET", path(u)+"/status", "", ""); !strings.Contains(body, `"status":"stopped"`) {
		t.Errorf("afterwards: %s", body)
	}
}

// A log comes in pages as the client polls, and as a file.
func TestLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u, err := w.Tasks.Do(t.Context(), "verify", "store1", "admin@pbs", func(_ context.Context, task *jobs.Task) error {
		task.Logf("first")
		task.Warnf("second")
		return errors.New("broken")
	})
	if err == nil {
		t.Fatal("it did not fail")
	}
	gone := "/nodes/localhost/tasks/UPID%3Ax%3A00000001%3A00000001%3A00000000%3A60000000%3Averify%3Astore1%3Aadmin%40pbs%3A"
	const noFile = "No such file or directory (os error 2)"
	for _, tt := range []struct {
		target string
		status int
		want   []string
	}{
		{path(u) + "/log?start=2&limit=1&test-status=true", 200, []string{`"n":2`, "second", `"total":3`, `"active":false`, `"success":1`}},
		{path(u) + "/log?start=9", 200, []string{`"data":[]`, `"total":3`}},
		{path(u) + "/log?limit=0", 200, []string{"first", "TASK ERROR: broken"}},
		{path(u) + "/log?download=1", 200, []string{"first\n", "TASK ERROR: broken\n"}},
		{path(u) + "/status", 200, []string{`"exitstatus":"broken"`}},
		{gone + "/log", 400, []string{noFile}},
		{gone + "/log?download=1", 400, []string{noFile}},
		{gone + "/status", 200, []string{`"exitstatus":"unknown"`}},
		{"/nodes/localhost/tasks/xx/log", 400, []string{"parameter verification failed - 'upid': value must be at least 36 characters long"}},
		{"/nodes/localhost/tasks/" + strings.Repeat("x", 40) + "/log", 400, []string{"'upid': "}},
		{"/nodes/localhost/tasks?since=4294967295&until=4294967295", 200, []string{`"total":0`}},
		{"/nodes/localhost/tasks?until=4000000000&statusfilter=error", 200, []string{`"total":1`}},
		{"/nodes/localhost/tasks?statusfilter=fine", 400, []string{"'statusfilter'"}},
	} {
		status, body := w.Ask("admin@pbs", "GET", tt.target, "", "")
		for _, want := range tt.want {
			if status != tt.status || !strings.Contains(body, want) {
				t.Errorf("%s: %d %s, want %d …%s…", tt.target, status, body, tt.status, want)
			}
		}
	}
	if h := w.Answer("admin@pbs", "GET", path(u)+"/log?download=1", "", "").Header(); !strings.Contains(h.Get("Content-Disposition"), "task-verify-") {
		t.Errorf("the file has the header %v", h)
	}
}

// Figures that were recorded are in the graphs, and how full a datastore is.
func TestFigures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "store1")
	cfg := newConfig(t, w)
	w.Serve(t, host.Endpoints(cfg)...)
	for ago := 14; ago >= 0; ago-- { // one more percent each half hour
		at := time.Now().Add(-time.Duration(ago) * 30 * time.Minute)
		cfg.History.Record(at, map[string]float64{"host/cpu": 0.25, "store/store1/total": 100, "store/store1/used": float64(64 - ago)})
	}
	var graph struct{ Data []map[string]float64 }
	last := func(target string) map[string]float64 {
		t.Helper()
		status, body := w.Ask("admin@pbs", "GET", target, "", "")
		if err := json.Unmarshal([]byte(body), &graph); status != 200 || err != nil || len(graph.Data) == 0 {
			t.Fatalf("%s: %d %.300s", target, status, body)
		}
		return graph.Data[len(graph.Data)-1]
	}
	if p := last("/nodes/localhost/rrd?timeframe=hour&cf=AVERAGE"); len(graph.Data) != 60 || p["cpu"] != 0.25 {
		t.Errorf("%d points, the last %v", len(graph.Data), p)
	}
	if p := last("/admin/datastore/store1/rrd?timeframe=day&cf=MAX"); p["total"] != 100 || p["used"] != 64 {
		t.Errorf("the last point is %v", p)
	}
	for _, query := range []string{"timeframe=eon", "cf=MEDIAN"} {
		if status, body := w.Ask("admin@pbs", "GET", "/nodes/localhost/rrd?"+query, "", ""); status != 400 {
			t.Errorf("%s: %d %.100s", query, status, body)
		}
	}
	var usage struct {
		Data []struct {
			History []*float64 `json:"history"`
			Start   int64      `json:"history-start"`
			Delta   int64      `json:"history-delta"`
			Full    int64      `json:"estimated-full-date"`
		}
	}
	_, body := w.Ask("admin@pbs", "GET", "/status/datastore-usage", "", "")
	if err := json.Unmarshal([]byte(body), &usage); err != nil || len(usage.Data) != 1 {
		t.Fatalf("%.300s, %v", body, err)
	}
	u := usage.Data[0]
	if left := time.Until(time.Unix(u.Full, 0)).Hours(); left < 17 || left > 19 { // 36 percent, 2 an hour
		t.Errorf("full in %.1f hours, want 18; %d values from %d by %d", left, len(u.History), u.Start, u.Delta)
	}
}
