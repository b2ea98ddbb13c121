package replication_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/replication"
	"github.com/holdfast-mesh/holdfast/replication/plan"
	"github.com/holdfast-mesh/holdfast/replication/wire"
)

// passes runs a job that removes what vanished once a day, and returns the
// report of the last day.
func passes(t *testing.T, dc *site, src replication.Source, j replication.Job, log *taskLog, days int, signed func(wire.Snapshot) bool) replication.Report {
	t.Helper()
	now := time.Date(2026, 3, 1, 5, 0, 0, 0, time.UTC)
	p, err := replication.New(replication.Config{
		Local: dc.d, Sources: []replication.Source{src}, Printf: log.printf, Now: func() time.Time { return now },
		Pruned: func(_ context.Context, s wire.Snapshot) (*replication.Prune, error) {
			if !signed(s) {
				return nil, nil
			}
			return &replication.Prune{At: now, Why: "keep-last 1"}, nil
		},
	})
	must(t, err)
	var report replication.Report
	for range days {
		report, err = p.Run(t.Context(), j)
		must(t, err)
		now = now.Add(24 * time.Hour)
	}
	return report
}

// What vanished goes, to the trash, if its source signed that it pruned it, it
// was absent for days, and nobody here wants it kept.
func TestVanishedGoesByTheRules(t *testing.T) {
	const all = "vm/1 ct/1"
	for _, tt := range []struct {
		name    string
		days    int
		signed  string // groups of which the source signed the prunes
		filters []string
		guard   catalog.Guard
		floor   retention.Keep
		prepare func(*testing.T, *site)
		gone    string // groups of which the oldest snapshot goes
		why     string // part of the log
	}{
		{name: "three passes over two days", days: 3, signed: all, gone: all, why: "delete vanished snapshot copies:vm/1/"},
		{name: "two passes", days: 2, signed: all, why: "it was absent in 2 complete passes"},
		{name: "unsigned", days: 5, signed: "ct/1", gone: "ct/1", why: "has not signed that it pruned it"},
		{name: "a filter leaves a group out", days: 3, signed: all, filters: []string{"type:vm"}, gone: "vm/1"},
		{name: "so does an exclusion", days: 3, signed: all, filters: []string{"type:vm", "type:ct", "exclude:group:vm/1"}, gone: "ct/1"},
		{name: "the guard keeps a group", days: 3, signed: all, guard: catalog.Guard{Frozen: filters(t, "group:vm/1")}, gone: "ct/1", why: "frozen"},
		{name: "the guard keeps all for years", days: 3, signed: all, guard: catalog.Guard{MinRetention: catalog.Duration(50 * 365 * 24 * time.Hour)}, why: "it is kept for"},
		{name: "the retention of this site", days: 3, signed: all, floor: retention.Keep{Last: 2}, why: "the retention of this site keeps it: keep-last"},
		{name: "a retention that does not need it", days: 3, signed: all, floor: retention.Keep{Last: 1}, gone: all},
		{name: "protected", days: 3, signed: all, gone: "ct/1", why: "it is protected", prepare: func(t *testing.T, dc *site) {
			must(t, dc.d.SetProtected("copies", at("vm/1", 0), true))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home, dc := newSite(t, "home"), newSite(t, "dc")
			for day := range 2 {
				home.backUp("", at("vm/1", day), owner, 1)
				home.backUp("", at("ct/1", day), owner, 1)
			}
			l := home.serve(nil)
			defer l.close()
			src := home.source(l, nil)
			_, err := puller(t, dc, &taskLog{}, src).Run(t.Context(), job(plan.Options{To: "copies"}))
			must(t, err)
			dc.backUp("beside", at("vm/1", 0), owner, 1)
			dc.backUp("copies", at("host/mine", 0), "bob@pbs", 1)
			for _, g := range strings.Fields(all) {
				must(t, home.d.Forget(t.Context(), "", at(g, 0)))
			}
			must(t, dc.d.SetGuard(tt.guard))
			if tt.prepare != nil {
				tt.prepare(t, dc)
			}
			j := job(plan.Options{To: "copies", RemoveVanished: true, Filters: filters(t, tt.filters...)})
			if !tt.floor.IsZero() {
				j.Floor = func(naming.Namespace) []retention.Keep { return []retention.Keep{tt.floor} }
			}
			log := &taskLog{}
			passes(t, dc, src, j, log, tt.days, func(s wire.Snapshot) bool {
				return s.Namespace == "" && strings.Contains(tt.signed, s.Group.String()) && s.Time == at("vm/1", 0).Time
			})
			want := len(strings.Fields(tt.gone))
			trash, err := dc.d.Trash()
			if err != nil || len(trash) != want || !strings.Contains(log.String(), tt.why) {
				t.Fatalf("the trash has %v (%v), want the oldest of %q, because %q:\n%s", trash, err, tt.gone, tt.why, log)
			}
			for _, x := range trash {
				if x.Namespace != "copies" || !strings.Contains(tt.gone, x.Snapshot.Group.String()) || x.Snapshot.Time != at("vm/1", 0).Time {
					t.Errorf("%+v is in the trash", x)
				}
				must(t, dc.d.Undo(t.Context(), x.Namespace, x.Snapshot)) // it can be taken back
			}
			for _, s := range []struct {
				ns naming.Namespace
				g  string
			}{{"beside", "vm/1"}, {"copies", "host/mine"}} {
				if list, _ := dc.d.Snapshots(t.Context(), s.ns, group(s.g)); len(list) != 1 {
					t.Errorf("%s of %q was touched, which is none of the job's business", s.g, s.ns)
				}
			}
		})
	}
}

// Whoever empties the source does not empty its copies, even if everything is
// signed.
func TestVanishedIsBounded(t *testing.T) {
	home, dc := newSite(t, "home"), newSite(t, "dc")
	for g := range 8 {
		for day := range 5 {
			home.backUp("", at(fmt.Sprintf("vm/%d", g+1), day), owner, 1)
		}
	}
	l := home.serve(nil)
	defer l.close()
	src := home.source(l, nil)
	_, err := puller(t, dc, &taskLog{}, src).Run(t.Context(), job(plan.Options{}))
	must(t, err)
	for g := range 8 {
		_, err := home.d.ForgetGroup(t.Context(), "", group(fmt.Sprintf("vm/%d", g+1)))
		must(t, err)
	}
	log := &taskLog{}
	report := passes(t, dc, src, job(plan.Options{RemoveVanished: true}), log, 3, func(wire.Snapshot) bool { return true })
	if report.Removed != 4 || report.Kept != 36 || !strings.Contains(log.String(), "more vanished than one pass may remove") {
		t.Errorf("of 40 snapshots a tenth may go: %+v\n%s", report, log)
	}
}
