package usage

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/prices"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// The newest runs outlive a restart, with forecast and fact, and what both cost by
// the prices of that day.
func TestRunsOutliveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "runs.json")
	runs, err := OpenRuns(disk.OS{}, file)
	if err != nil {
		t.Fatal(err)
	}
	p := prices.Provider{ID: "x", Name: "X", Date: "2026-11-29", Put: 5, Egress: 0.1}
	for i := range keepRuns + 3 {
		r := Run{Task: fmt.Sprint(i), Forecast: &prices.Use{Requests: map[string]int64{"put": 100}}, Made: prices.Use{Requests: map[string]int64{"put": 200}, In: 1e9}}
		if i == 0 {
			r.Forecast = nil
		}
		if err := runs.Add(r.Priced(p)); err != nil {
			t.Fatal(err)
		}
	}
	if runs, err = OpenRuns(disk.OS{}, file); err != nil {
		t.Fatal(err)
	}
	all := runs.List(func(Run) bool { return true })
	if len(all) != keepRuns || all[0].Task != fmt.Sprint(keepRuns+2) || all[keepRuns-1].Task != "3" {
		t.Errorf("%d runs, from %s to %s", len(all), all[0].Task, all[len(all)-1].Task)
	}
	if r := all[0]; r.ForecastCost != 0.5 || r.Cost != 1.1 || r.Currency != "USD" || r.PricesOf != "2026-11-29" {
		t.Errorf("what it costs: %+v", r)
	}
	if some := runs.List(func(r Run) bool { return r.Task == "7" }); len(some) != 1 {
		t.Errorf("one of them: %+v", some)
	}
	if r := (Run{}).Priced(prices.Provider{}); r.Provider != "" || r.Cost != 0 {
		t.Errorf("nobody's prices: %+v", r)
	}
}

func FuzzRuns(f *testing.F) {
	f.Add([]byte(`[{"upid":"UPID:a","forecast":{"requests":{"put":1}},"made":{}}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if list, err := parseRuns(body); err == nil && len(list) > keepRuns {
			t.Errorf("%d runs", len(list))
		}
	})
}
