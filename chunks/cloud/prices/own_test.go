package prices

import (
	"testing"
	"time"
)

func TestOwnPrices(t *testing.T) {
	aws, _ := ByID("aws")
	now := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	p, err := aws.With("storage=0.01, egress=0,minimum-days=30,currency=EUR", now)
	if err != nil || p.Storage != 0.01 || p.Egress != 0 || p.Put != aws.Put || p.MinimumDays != 30 || p.Currency != "EUR" || p.Date != "2026-11-29" {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := (Provider{}).With("storage=1", now); err != nil || p.ID != "own" {
		t.Errorf("without a provider: %+v, %v", p, err)
	}
	if p, err := aws.With("", now); err != nil || p.Name != aws.Name {
		t.Errorf("nothing better known: %+v, %v", p, err)
	}
	for _, bad := range []string{"x", "storage", "storage=-1", "storage=NaN", "storage=1,storage=2", "price=1", "currency=euro", "storage=1,"} {
		if _, err := aws.With(bad, now); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestBudget(t *testing.T) {
	b, err := ParseBudget("money=20,egress-gb=100,action=stop")
	if err != nil || b != (Budget{Money: 20, EgressGB: 100, Action: Stop}) {
		t.Fatalf("%+v, %v", b, err)
	}
	use := func(gb int64) Use { return Use{In: gb * 1e9} }
	for _, tt := range []struct {
		name       string
		used, will int64 // GB
		cost, bill float64
		over, near string
	}{
		{"far from it", 10, 30, 5, 10, "", ""},
		{"four fifths", 80, 90, 5, 10, "", "egress-gb"},
		{"will be over", 10, 30, 5, 21, "", "money"},
		{"used up", 100, 130, 20, 21, "money egress-gb", "money egress-gb"},
	} {
		var over, near string
		for _, l := range b.Lines(use(tt.used), use(tt.will), Cost{Storage: tt.cost}, Cost{Storage: tt.bill}) {
			for sum, is := range map[*string]bool{&over: l.Over(), &near: l.Near()} {
				if is && *sum != "" {
					*sum += " "
				}
				if is {
					*sum += l.What
				}
			}
		}
		if over != tt.over || near != tt.near {
			t.Errorf("%s: over %q, near %q, want %q and %q", tt.name, over, near, tt.over, tt.near)
		}
	}
	if b, err := ParseBudget(""); err != nil || b.Lines(use(1e6), use(1e6), Cost{}, Cost{}) != nil {
		t.Errorf("no budget: %+v, %v", b, err)
	}
	for _, bad := range []string{"money", "money=x", "action=explode", "beer=3", "money=1,money=2"} {
		if _, err := ParseBudget(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// A budget of 0 read like "spend nothing", and bounded nothing.
func TestABudgetOfNothing(t *testing.T) {
	for text, ok := range map[string]bool{
		"": true, "money=20,action=stop": true, "money=0": false, "requests=5,egress-gb=0.0": false, "requests=0,money=3": false, "beer=3": false, "action=stop": false, "action=warn": true,
	} {
		if err := CheckBudget(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzOwn(f *testing.F) {
	f.Add("storage=0.006,currency=EUR")
	f.Add("money=20,requests=3,action=slow")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := (Provider{}).With(text, time.Time{}); err == nil && text != "" && p.check() != nil {
			t.Errorf("%q became %+v", text, p)
		}
		if b, err := ParseBudget(text); err == nil && (b.Money < 0 || b.Action == "") {
			t.Errorf("%q became %+v", text, b)
		}
	})
}
