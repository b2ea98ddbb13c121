package tier

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bucket"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// near tells whether a forecast is within 5 %, or, of bytes, within what a few small
// objects are long.
func near(forecast, fact, few int64) bool {
	off := max(forecast-fact, fact-forecast)
	return off <= few || 20*off <= fact
}

// compare wants what was counted by the work, and by who stands between it and the
// store, to be what was said before.
func (s *site) compare(what string, said prices.Use, work func(context.Context) error) {
	t := s.t
	t.Helper()
	s.proxy.Reset()
	ctx, meter := bucket.Metered(t.Context())
	if err := work(ctx); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	made := meter.Requests()
	in, out := meter.Bytes()
	t.Logf("%-22s said %v, %7d bytes in, %8d out; made %v, %7d in, %8d out", what, said.Requests, said.In, said.Out, made, in, out)
	for class, n := range s.proxy.Counts() {
		if int64(n) != made[class] {
			t.Errorf("%s: the store was asked %d %s, counted were %d", what, n, class, made[class])
		}
	}
	all := maps.Clone(said.Requests)
	maps.Copy(all, made)
	for class := range all {
		if !near(said.Requests[class], made[class], 0) {
			t.Errorf("%s: %d %s were said, %d made", what, said.Requests[class], class, made[class])
		}
	}
	if !near(said.In, in, 512) || !near(said.Out, out, 512) {
		t.Errorf("%s: said were %d bytes in and %d out, counted %d and %d", what, said.In, said.Out, in, out)
	}
}

func (s *site) compareOffload(what string, tr *Tier, opt OffloadOptions) {
	s.t.Helper()
	said, err := tr.ForecastOffload(s.t.Context(), opt)
	if err != nil {
		s.t.Fatal(err)
	}
	s.compare(what, said, func(ctx context.Context) error { _, err := tr.Offload(ctx, opt); return err })
}

// What work is going to ask of the store is said before, from what is known here.
func TestForecasts(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		t.Run(fmt.Sprint("encrypted=", encrypt), func(t *testing.T) {
			s := newSite(t)
			cfg := s.config("home")
			s.create(cfg, encrypt)
			tr, close := s.open(cfg)
			content := image(1, 160*chunkSize)
			mustBackup(t, tr, day1, content)
			s.compareOffload("first offload", tr, OffloadOptions{})
			// Of more than three small objects an audit reads some, which take turns.
			s.compare("audit", tr.ForecastAudit(), func(ctx context.Context) error { _, _, err := tr.Audit(ctx); return err })
			mustBackup(t, tr, day2, slices.Concat(content[10*chunkSize:40*chunkSize], image(2, 80*chunkSize), content[43*chunkSize:60*chunkSize], content[100*chunkSize:123*chunkSize]))
			s.compareOffload("offload", tr, OffloadOptions{})
			s.compareOffload("nothing to offload", tr, OffloadOptions{})
			mustBackup(t, tr, day3, image(3, 8*chunkSize))
			s.compareOffload("too young to offload", tr, OffloadOptions{After: time.Hour})

			read, err := tr.ForecastRead(t.Context(), func(yield func(catalog.Namespace, catalog.Snapshot) bool) {
				for _, text := range []string{day3, day2, day1} {
					yield("", snapshot(t, text))
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			s.compare("verify", read, func(ctx context.Context) error {
				_, err := verify.Run(ctx, tr.Datastore(), verify.Options{Depth: -1})
				return err
			})
			s.compare("refresh", tr.ForecastRefresh(), func(ctx context.Context) error { _, err := tr.Refresh(ctx); return err })

			close()
			tr, _ = s.open(cfg)
			forget(t, tr, day1)
			s.compareCollect("gc after a start", tr)
			s.compareOffload("what was brought home", tr, OffloadOptions{})
			s.compareCollect("gc after that", tr)
			forget(t, tr, day2, day3)
			s.compareCollect("gc of all", tr)
			s.compareCollect("gc of nothing", tr)

			mustBackup(t, tr, day1, image(4, 8*chunkSize))
			if err := tr.Datastore().Forget(t.Context(), "", snapshot(t, day1)); err != nil {
				t.Fatal(err)
			}
			s.compareOffload("what no snapshot needs", tr, OffloadOptions{}) // it stays on the disk as well
			s.compareOffload("again", tr, OffloadOptions{})
		})
	}
}

func (s *site) compareCollect(what string, tr *Tier) {
	s.t.Helper()
	r, err := tr.Collect(s.t.Context(), gc.Options{DryRun: true})
	if err != nil {
		s.t.Fatal(err)
	}
	said, err := tr.ForecastCollect(s.t.Context(), r.Plan)
	if err != nil {
		s.t.Fatal(err)
	}
	s.compare(what, said, func(ctx context.Context) error { _, err := tr.Collect(ctx, gc.Options{}); return err })
}

// forget removes snapshots for good.
func forget(t *testing.T, tr *Tier, all ...string) {
	t.Helper()
	for _, text := range all {
		if err := tr.Datastore().Forget(t.Context(), "", snapshot(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tr.Datastore().EmptyTrash(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}

// What is billed anyway stays until the provider's minimum duration is over: a pack
// that nothing needs is not deleted before, nor rewritten, and the doctor is told.
func TestGarbageStaysWhileItIsBilled(t *testing.T) {
	for _, days := range []int{0, 90} {
		s := newSite(t)
		cfg := s.config("home")
		cfg.Provider = prices.Provider{ID: "x", Name: "X", Date: "2026-11-29", Storage: 0.008, MinimumDays: days}
		s.create(cfg, false)
		tr, _ := s.open(cfg)
		content := image(1, 40*chunkSize)
		mustBackup(t, tr, day1, content)
		offload(t, tr, OffloadOptions{})
		mustBackup(t, tr, day2, image(2, 8*chunkSize)) // a pack that dies as a whole
		offload(t, tr, OffloadOptions{})
		mustBackup(t, tr, day3, content[:10*chunkSize])
		offload(t, tr, OffloadOptions{})
		forget(t, tr, day1, day2)
		s.compareCollect(fmt.Sprint("minimum of days: ", days), tr)
		s.proxy.Reset()
		s.compareCollect("again", tr)
		st, deleted := tr.Stats(), s.proxy.Counts()["delete"]
		young := int64(0)
		if err := tr.Garbage(func(bytes int64, age time.Duration) {
			if age < time.Hour {
				young += bytes
			}
		}); err != nil {
			t.Fatal(err)
		}
		if days == 0 && (st.Buried != 0 && st.Held.After(time.Now()) || young != 0) {
			t.Errorf("without a minimum: %+v, %d bytes of garbage, %d deletions", st.Stats, young, deleted)
		}
		if until := time.Now().AddDate(0, 0, days); days > 0 && (st.Buried == 0 || st.Held.Before(until.Add(-time.Hour)) || young == 0 || deleted != 0) {
			t.Errorf("with one: %d packs stay until %s, %d bytes of garbage, %d deletions", st.Buried, st.Held, young, deleted)
		}
	}
}
