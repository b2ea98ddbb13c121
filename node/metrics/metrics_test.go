package metrics

import (
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/stores/storestest"
)

// withLost has a datastore that cannot be opened, beside others.
type withLost struct{ *storestest.World }

func (s withLost) Names() []string { return append(s.World.Names(), "lost") }

func (s withLost) Get(name string) (*catalog.Datastore, error) {
	if name == "lost" {
		return nil, errors.New("no such disk")
	}
	return s.World.Get(name)
}

// Cloud says that main has a bucket.
func (s withLost) Cloud(name string) (st tier.Stats, ok bool) {
	if name != "main" {
		return st, false
	}
	st.Bytes, st.Cache.Bound, st.Cache.Hits, st.ReadOnly = 7, 8, 9, "another node has it"
	st.Monthly = &tier.Bill{Amount: 1.5, Currency: "EUR"}
	return st, true
}

// served returns what a monitor reads of a node with one datastore, which has
// one backup and one task that has ended.
func served(t *testing.T, w *storestest.World, observe func(*Metrics)) string {
	t.Helper()
	if _, err := w.Tasks.Do(t.Context(), "verify", "main:host/a", "root@pam", func(context.Context, *jobs.Task) error { return nil }); err != nil {
		t.Fatal(err)
	}
	going, end := make(chan struct{}), make(chan struct{})
	running, err := w.Tasks.Start(t.Context(), "backup", "main:host/a", "root@pam", func(context.Context, *jobs.Task) error {
		close(going)
		<-end
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-going
	defer func() {
		close(end)
		if _, err := w.Tasks.Wait(t.Context(), running); err != nil {
			t.Error(err)
		}
	}()
	m, err := New(Config{
		Version: "v1", Name: "home", Site: "here", Stores: withLost{w}, Tasks: w.Tasks, Ready: func() error { return errors.New("not yet") },
		Sessions:    func(string) (backups, readers int) { return 3, 4 },
		Connections: func() (open, refused int) { return 5, 6 },
		Certificate: func() *x509.Certificate { return &x509.Certificate{NotAfter: time.Unix(7, 0)} },
		Bills: func() []Bill {
			return []Bill{{Client: "near", Requests: map[string]int64{"put": 5}, In: 6, Out: 7, Throttled: 1, Failed: 2, Known: true, Cost: 1.5, Forecast: 3, Budget: map[string]float64{"money": 0.75}}}
		},
		Health: func() map[string]Health {
			return map[string]Health{"": {time.Unix(8, 0), map[string]int{"critical": 2}}, "cloud": {time.Unix(9, 0), map[string]int{"note": 0}}}
		},
		Mesh: func() Mesh { return mesh },
	})
	if err != nil {
		t.Fatal(err)
	}
	observe(m)
	rec := httptest.NewRecorder()
	m.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

// mesh has one node that is well, and one that was never heard of.
var mesh = Mesh{
	Peers: []Peer{
		{Name: "dc", Site: "frankfurt", Up: true, Direct: true, RTT: 42 * time.Millisecond, Loss: 0.25, Heard: time.Unix(11, 0), Handshake: time.Unix(12, 0), Changes: 3, Lag: 5, Said: time.Unix(13, 0)},
		{Name: "new", Site: "oslo", Lag: -1},
	},
	Ledger: Ledger{Quorum: true, Voter: true, Applied: 88, Term: 9, Seen: time.Unix(14, 0), Diverged: true, Rejoins: 1},
	Guard:  Guard{BreakerOpen: true, Pending: 2, Blocks: 4},
	Claims: map[string]int{"self": 6},
	Pulls:  []Pull{{Job: "home-to-dc", Behind: 2, Since: time.Unix(1_700_000_000, 0)}, {Job: "even"}},
}

func TestFigures(t *testing.T) {
	w := storestest.New(t, "main")
	w.Back(t, "main", storestest.Backup{Snapshot: "host/a/2023-11-14T22:13:20Z", Owner: "root@pam", Files: []storestest.File{{Name: "a.img.fidx", Content: make([]byte, 5<<20)}}})
	text := served(t, w, func(m *Metrics) {
		m.Observe(http.MethodGet, "/backup", http.StatusSwitchingProtocols, 9*time.Hour)
		m.Observe(http.MethodGet, "/ping", http.StatusOK, 3*time.Millisecond)
		m.Observe("BREW", "/ping", http.StatusNotFound, time.Minute)
	})
	for _, want := range []string{
		`holdfast_ready 0`,
		`holdfast_build_info{name="home",site="here",version="v1"} 1`,
		`holdfast_connections 5`,
		`holdfast_connections_refused_total 6`,
		`holdfast_certificate_not_after_timestamp_seconds 7`,
		`holdfast_doctor_findings{severity="critical",store=""} 2`,
		`holdfast_s3_requests_total{class="put",endpoint="near"} 5`,
		`holdfast_s3_requests_failed_total{endpoint="near"} 2`,
		`holdfast_s3_bytes_total{direction="in",endpoint="near"} 6`,
		`holdfast_s3_month_cost_forecast{endpoint="near"} 3`,
		`holdfast_s3_budget_used_ratio{budget="money",endpoint="near"} 0.75`,
		`holdfast_doctor_findings{severity="note",store="cloud"} 0`,
		`holdfast_doctor_last_timestamp_seconds{store=""} 8`,
		`holdfast_sessions{kind="reader",store="main"} 4`,
		`holdfast_sessions_begun_total{kind="backup"} 1`,
		`holdfast_datastore_up{store="main"} 1`,
		`holdfast_datastore_up{store="lost"} 0`,
		`holdfast_datastore_chunks{store="main"} 2`,
		`holdfast_datastore_quarantined_chunks{store="main"} 0`,
		`holdfast_cloud_owned{store="main"} 0`,
		`holdfast_cloud_bytes{store="main"} 7`,
		`holdfast_cloud_cache_bound_bytes{store="main"} 8`,
		`holdfast_cloud_cache_hits_total{store="main"} 9`,
		`holdfast_cloud_monthly_cost{currency="EUR",store="main"} 1.5`,
		`holdfast_peer_up{peer="dc",site="frankfurt"} 1`,
		`holdfast_peer_up{peer="new",site="oslo"} 0`,
		`holdfast_peer_direct{peer="dc",site="frankfurt"} 1`,
		`holdfast_peer_rtt_seconds{peer="dc",site="frankfurt"} 0.042`,
		`holdfast_peer_loss_ratio{peer="dc",site="frankfurt"} 0.25`,
		`holdfast_peer_last_heard_timestamp_seconds{peer="dc",site="frankfurt"} 11`,
		`holdfast_peer_last_heard_timestamp_seconds{peer="new",site="oslo"} 0`,
		`holdfast_peer_handshake_timestamp_seconds{peer="dc",site="frankfurt"} 12`,
		`holdfast_peer_changes_total{peer="dc",site="frankfurt"} 3`,
		`holdfast_feed_lag_records{peer="dc",site="frankfurt"} 5`,
		`holdfast_feed_last_record_timestamp_seconds{peer="dc",site="frankfurt"} 13`,
		`holdfast_ledger_quorum 1`,
		`holdfast_ledger_leader 0`,
		`holdfast_ledger_voter 1`,
		`holdfast_ledger_index 88`,
		`holdfast_ledger_term 9`,
		`holdfast_ledger_leader_seen_timestamp_seconds 14`,
		`holdfast_ledger_hash_mismatch 1`,
		`holdfast_ledger_rejoins_total 1`,
		`holdfast_guard_breaker_open 1`,
		`holdfast_guard_pending_loosenings 2`,
		`holdfast_guard_blocks 4`,
		`holdfast_claims{owner="self"} 6`,
		`holdfast_claims{owner="others"} 0`,
		`holdfast_pull_behind_snapshots{job="home-to-dc"} 2`,
		`holdfast_pull_oldest_missing_timestamp_seconds{job="home-to-dc"} 1.7e+09`,
		`holdfast_pull_behind_snapshots{job="even"} 0`,
		`holdfast_pull_oldest_missing_timestamp_seconds{job="even"} 0`,
		`holdfast_tasks_running{store="main",type="backup"} 1`,
		`holdfast_http_request_duration_seconds_bucket{method="GET",path="/ping",status="200",le="0.001"} 0`,
		`holdfast_http_request_duration_seconds_bucket{method="GET",path="/ping",status="200",le="0.005"} 1`,
		`holdfast_http_request_duration_seconds_count{method="other",path="/ping",status="404"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %q", want)
		}
	}
	for _, not := range []string{`status="101"`, `BREW`, `holdfast_datastore_chunks{store="lost"}`, `holdfast_peer_rtt_seconds{peer="new"`, `holdfast_feed_lag_records{peer="new"`} {
		if strings.Contains(text, not) {
			t.Errorf("there is %q", not)
		}
	}
	if !regexp.MustCompile(`holdfast_task_last_end_timestamp_seconds\{state="ok",store="main",type="verify"\} [1-9]`).MatchString(text) {
		t.Error("when the last verification ended is not told")
	}
}

// The names and labels are a contract, so what docs/monitoring.md lists is what
// is served, no more and no less.
func TestDocumentedIsServed(t *testing.T) {
	text := served(t, storestest.New(t, "main"), func(m *Metrics) {
		m.Observe(http.MethodGet, "/reader", http.StatusSwitchingProtocols, time.Hour)
		m.Observe(http.MethodGet, "/ping", http.StatusOK, time.Millisecond)
	})
	name := regexp.MustCompile(`(?m)^(holdfast_[a-z_]+)(?:\{(.*)\})? `)
	label := regexp.MustCompile(`([a-z]+)="`)
	histogram := regexp.MustCompile(`_(bucket|sum|count)$`)
	got := map[string]string{}
	for _, m := range name.FindAllStringSubmatch(text, -1) {
		labels := map[string]bool{}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = l[1] != "le"
		}
		maps.DeleteFunc(labels, func(_ string, ours bool) bool { return !ours })
		got[histogram.ReplaceAllString(m[1], "")] = strings.Join(slices.Sorted(maps.Keys(labels)), " ")
	}
	doc, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.HasPrefix(cells[1], " `holdfast_") {
			continue
		}
		labels := strings.FieldsFunc(cells[2], func(c rune) bool { return c == ',' || c == ' ' })
		slices.Sort(labels)
		for _, n := range regexp.MustCompile("`(holdfast_[a-z_]+)`").FindAllStringSubmatch(cells[1], -1) {
			want[n[1]] = strings.Join(labels, " ")
		}
	}
	if len(want) < 15 {
		t.Fatalf("only %d names were found in the page", len(want))
	}
	for name, labels := range want {
		if is, ok := got[name]; !ok {
			t.Errorf("%s is documented, and not served", name)
		} else if is != labels {
			t.Errorf("%s has labels %q, documented are %q", name, is, labels)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is served, and not documented", name)
		}
	}
}
