package tier

import (
	"math"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
)

// What an operator says of prices counts for what a job and a month cost, and
// without it the name of the endpoint; of that of a test nobody knows any.
func TestOwnPricesCount(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	s.create(cfg, false)
	tr, done := s.open(cfg)
	mustBackup(t, tr, day1, image(1, 4*chunkSize))
	offload(t, tr, OffloadOptions{})
	if once, more := tr.Estimate(prices.Use{In: 1e9}, 1e9, 1); once != nil || more != nil || tr.Monthly() != nil {
		t.Errorf("prices of a test server: %+v, %+v, %+v", once, more, tr.Monthly())
	}
	stored := float64(tr.Stats().Bytes) / 1e9
	done()

	cfg.Provider = prices.Provider{ID: "own", Name: "own prices", Date: "2026-11-29", Currency: "EUR", Storage: 1000, Put: 2, Egress: 0.5}
	tr, _ = s.open(cfg)
	once, more := tr.Estimate(prices.Use{Requests: map[string]int64{"put": 500}, In: 4e9}, 2e9, 3)
	if once == nil || more == nil || once.Amount != 3 || more.Amount != 2000 || once.Provider != "own prices" || once.Currency != "EUR" || once.Date != "2026-11-29" {
		t.Errorf("estimate %+v, %+v", once, more)
	}
	if m := tr.Stats().Monthly; m == nil || stored == 0 || math.Abs(m.Amount-1000*stored) > 1e-9 {
		t.Errorf("a month of %v GB: %+v", stored, m)
	}
}
