package tier

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/lock"
)

// day names a snapshot of a day of January.
func dayOf(n int) string { return fmt.Sprintf("vm/100/2024-01-%02dT03:04:05Z", n) }

// The forecasts of five workloads, as nights and weeks bring them, are within 5 % of
// the requests by class, and of the bytes, that were counted: backups with offloads,
// collections, compaction, audits, and verifications, which read all there is.
func TestFiveWorkloads(t *testing.T) {
	for _, locked := range []bool{false, true} {
		t.Run(fmt.Sprint("locked=", locked), func(t *testing.T) {
			s := newSite(t)
			if locked {
				s.b = cloudtest.Lockable(t, s.proxy.URL, lock.Policy{Mode: lock.Governance, Days: 30})
			}
			cfg := s.config("home")
			s.create(cfg, true)
			tr, closed := s.open(cfg)
			content := image(1, 200*chunkSize)
			for night := 1; night <= 6; night++ { // of which each changes a tenth
				copy(content[night*20*chunkSize:], image(uint64(100+night), 20*chunkSize))
				mustBackup(t, tr, dayOf(night), content)
				s.compareOffload(fmt.Sprint("offload of night ", night), tr, OffloadOptions{})
			}
			s.compareAudit("audit", tr)
			forget(t, tr, dayOf(1), dayOf(2), dayOf(3))
			s.compareCollect("gc", tr)
			mustBackup(t, tr, dayOf(7), content)
			s.compareOffload("offload after gc, of nothing new", tr, OffloadOptions{})
			copy(content, image(200, 20*chunkSize))
			mustBackup(t, tr, dayOf(8), content)
			s.compareOffload("offload after gc", tr, OffloadOptions{})
			s.compareAudit("audit after that", tr)
			closed()
			tr, closed = s.open(cfg)
			mustBackup(t, tr, dayOf(9), append(image(300, 30*chunkSize), content...))
			s.compareOffload("offload after a start", tr, OffloadOptions{})
			closed()
			tr, closed = s.open(cfg)
			s.compareAudit("audit after a start", tr)
			forget(t, tr, dayOf(4), dayOf(5), dayOf(6), dayOf(7))
			s.compareCollect("compaction", tr)
			s.compareOffload("offload after compaction", tr, OffloadOptions{})
			s.compareCollect("gc after that", tr)
			mustBackup(t, tr, dayOf(10), append(image(300, 30*chunkSize), image(400, 60*chunkSize)...))
			s.compareOffload("offload, too young", tr, OffloadOptions{After: time.Hour})
			s.compareCollect("gc with new on the disk", tr)

			// It fails in the middle: what was packed waits, and is sent first.
			s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
				if r.Class == "put" {
					return &cloudtest.Fault{Status: 403, Code: "AccessDenied"}
				}
				return nil
			})
			if _, err := tr.Offload(t.Context(), OffloadOptions{}); err == nil {
				t.Error("it does not fail")
			}
			s.proxy.On(nil)
			s.compareOffload("offload after a failure", tr, OffloadOptions{})

			read, err := tr.ForecastRead(t.Context(), func(yield func(catalog.Namespace, catalog.Snapshot) bool) {
				for _, n := range []int{8, 9, 10} {
					if !yield("", snapshot(t, dayOf(n))) {
						return
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			s.compare("verify", read, func(ctx context.Context) error {
				_, err := verify.Run(ctx, tr.Datastore(), verify.Options{Depth: -1})
				return err
			})
			closed()
			tr, closed = s.open(cfg)
			for night := 11; night <= 31; night++ { // until small objects are written together
				copy(content[night%7*20*chunkSize:], image(uint64(500+night), 10*chunkSize))
				mustBackup(t, tr, dayOf(night), content)
				s.compareOffload(fmt.Sprint("offload of night ", night), tr, OffloadOptions{})
			}
			closed()
		})
	}
}

func (s *site) compareAudit(what string, tr *Tier) {
	s.t.Helper()
	s.compare(what, tr.ForecastAudit(), func(ctx context.Context) error { _, _, err := tr.Audit(ctx); return err })
}
