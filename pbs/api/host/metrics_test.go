package host_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/api/host"
)

// Who collects figures from several servers gets those that it may know: the
// newest, or those since it last asked, and none older than half an hour.
func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "store1", "store2")
	w.AddUser(t, "half@pbs", "/datastore/store2 DatastoreAudit")
	w.AddUser(t, "none@pbs")
	cfg := newConfig(t, w)
	w.Serve(t, host.Endpoints(cfg)...)
	now := time.Now().Truncate(time.Minute)
	for ago := 40; ago >= 0; ago-- {
		cfg.History.Record(now.Add(-time.Duration(ago)*time.Minute), map[string]float64{
			"host/cpu": float64(ago), "host/netin": 7, "store/store1/total": 100, "store/store1/used": 1, "store/store2/total": 200,
		})
	}
	type point struct {
		ID, Metric, Type string
		Timestamp        int64
		Value            float64
	}
	ask := func(who, query string) []point {
		t.Helper()
		var answer struct{ Data struct{ Data []point } }
		status, body := w.Ask(who, "GET", "/status/metrics"+query, "", "")
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 || answer.Data.Data == nil {
			t.Fatalf("%s, %s: %d %.300s", who, query, status, body)
		}
		return answer.Data.Data
	}
	got := fmt.Sprint(ask("admin@pbs", ""))
	at := now.Unix()
	want := fmt.Sprint([]point{
		{"datastore/store1", "disk_total", "gauge", at, 100}, {"datastore/store1", "disk_used", "gauge", at, 1},
		{"datastore/store2", "disk_total", "gauge", at, 200},
		{"host", "cpu_current", "gauge", at, 0}, {"host", "net_in", "gauge", at, 7},
	})
	if got != want {
		t.Errorf("of now:\n%s, want\n%s", got, want)
	}
	if got := ask("half@pbs", ""); len(got) != 1 || got[0].ID != "datastore/store2" {
		t.Errorf("who may know of one datastore gets %v", got)
	}
	if got := ask("none@pbs", "?history=1"); len(got) != 0 {
		t.Errorf("who may know nothing gets %v", got)
	}
	all := ask("admin@pbs", "?history=1")
	if n := len(all) / 5; n < 29 || n > 31 || all[0].Timestamp >= all[len(all)-1].Timestamp {
		t.Errorf("%d moments from %d to %d", n, all[0].Timestamp, all[len(all)-1].Timestamp)
	}
	since := ask("admin@pbs", fmt.Sprint("?history=1&start-time=", now.Add(-3*time.Minute).Unix()))
	if len(since) != 3*5 {
		t.Errorf("since three minutes ago: %v", since)
	}
	if got := ask("admin@pbs", fmt.Sprint("?start-time=", at)); len(got) != 0 {
		t.Errorf("nothing is newer than the newest, but %v", got)
	}
	if status, _ := w.Ask("admin@pbs", "GET", "/status/metrics?start-time=x", "", ""); status != 400 {
		t.Errorf("a time that is none: %d", status)
	}
}
