package prices

import (
	"math"
	"strings"
	"testing"
)

func TestProviders(t *testing.T) {
	for _, p := range Providers() {
		if p.Source == "" || len(p.Hosts) == 0 {
			t.Errorf("%s: no source or no hosts", p.ID)
		}
	}
	own := []Provider{{ID: "mine", Hosts: []string{"wasabisys.com"}, Date: "2026-01-01", Storage: 1}}
	for _, tt := range []struct{ host, class, want string }{
		{"s3.eu-west-1.amazonaws.com", "", "aws"},
		{"s3.eu-west-1.amazonaws.com:443", "INTELLIGENT_TIERING", "aws-it"},
		{"s3.eu-west-1.amazonaws.com", "GLACIER_IR", "aws"},
		{"amazonaws.com.evil.example", "", ""},
		{"notamazonaws.com", "", ""},
		{"s3.wasabisys.com", "", "mine"},
		{"fsn1.your-objectstorage.com", "", "hetzner"},
	} {
		if p, _ := Of(own, tt.host, tt.class); p.ID != tt.want {
			t.Errorf("provider of %s %s is %q, want %q", tt.host, tt.class, p.ID, tt.want)
		}
	}
}

// The store of s3.md §3.2: 2.06 TB in 34,000 packs, read back once a month.
func TestCost(t *testing.T) {
	const stored, packs = 2_060_000_000_000, 34_000
	month := Use{Requests: map[string]int64{"put": 12_700, "list": 148, "get": packs}, In: stored}
	for _, tt := range []struct {
		id       string
		req, out float64 // requests, egress
		storage  float64
	}{
		{"aws", 0.0635 + 0.00074 + 0.0136, 0.09 * 1960, 47.38},
		{"aws-it", 0.0635 + 0.00074 + 0.0136, 0.09 * 1960, 47.38 + 0.085},
		{"wasabi", 0, 0, 16.4594},
		{"r2", 0.05715 + 0.000666 + 0.01224, 0, 30.9},
		{"b2", 0.000592 + 0.0136, 0, 12.36},
	} {
		c := provider(t, tt.id).Monthly(stored, packs, month)
		for what, got := range map[string][2]float64{"requests": {c.Requests, tt.req}, "egress": {c.Egress, tt.out}, "storage": {c.Storage, tt.storage}} {
			if math.Abs(got[0]-got[1]) > 1e-6*max(1, got[1]) {
				t.Errorf("%s: %s cost %v, want %v", tt.id, what, got[0], got[1])
			}
		}
	}
	if got := provider(t, "wasabi").Monthly(1e9, 20, Use{}).Storage; math.Abs(got-7.99) > 1e-9 {
		t.Errorf("a gigabyte at wasabi costs %v, want the minimum of 1 TB, 7.99", got)
	}
}

func provider(t *testing.T, id string) Provider {
	t.Helper()
	for _, p := range Providers() {
		if p.ID == id {
			return p
		}
	}
	t.Fatalf("no provider %s", id)
	return Provider{}
}

func TestReadProvidersRefuses(t *testing.T) {
	for _, bad := range []string{
		`{}`, `[{"id":"","date":"2026-01-01"}]`, `[{"id":"a"}]`, `[{"id":"a","date":"2026-01-01","put":-1}]`,
		`[{"id":"a","date":"2026-01-01","egres":1}]`, `[{"id":"a","date":"2026-01-01"},{"id":"a","date":"2026-01-01"}]`,
	} {
		if _, err := ReadProviders(strings.NewReader(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func FuzzReadProviders(f *testing.F) {
	f.Add(string(builtIn))
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ReadProviders(strings.NewReader(text))
		for _, p := range list {
			if err == nil && p.Monthly(1e9, 1, Use{}).Total() < 0 {
				t.Errorf("%+v costs less than nothing", p)
			}
		}
	})
}
