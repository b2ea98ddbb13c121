package prices

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ByID finds a provider that is known here.
func ByID(id string) (Provider, bool) {
	for _, p := range known() {
		if p.ID == id {
			return p, true
		}
	}
	return Provider{}, false
}

// With returns p with what an operator knows better: "storage=0.006,egress=0".
// The names are those of providers.json.
func (p Provider) With(text string, now time.Time) (Provider, error) {
	if text == "" {
		return p, nil
	}
	fields := map[string]*float64{
		"storage": &p.Storage, "per-object": &p.PerObject, "put": &p.Put, "list": &p.List, "get": &p.Get, "egress": &p.Egress, "retrieval": &p.Retrieval,
		"free-egress-gb": &p.FreeEgressGB, "free-egress-ratio": &p.FreeEgressRatio, "minimum-gb": &p.MinimumGB, "requests-per-second": &p.Requests,
	}
	untold := []string{"egress", "get", "list", "put", "storage"} // what is billed nearly everywhere
	err := pairs(text, func(name, value string) error {
		untold = slices.DeleteFunc(untold, func(n string) bool { return n == name })
		if name == "currency" {
			if len(value) != 3 || strings.ToUpper(value) != value {
				return fmt.Errorf("currency %q, want three capitals", value)
			}
			p.Currency = value
			return nil
		}
		n, err := amount(value)
		switch field := fields[name]; {
		case err != nil:
			return err
		case name == "minimum-days" && n > 3650:
			return fmt.Errorf("minimum-days=%s, want at most 3650", value)
		case name == "minimum-days":
			p.MinimumDays = int(n)
		case field == nil:
			return fmt.Errorf("there is no price %q", name)
		default:
			*field = n
		}
		return nil
	})
	if p.Name == "" {
		if p.ID, p.Name = "own", "own prices"; len(untold) > 0 {
			p.Name += " (" + strings.Join(untold, ", ") + " not told: they count as 0)"
		}
	} else {
		p.Name += " with own prices"
	}
	p.Date = now.UTC().Format(time.DateOnly)
	return p, err
}

// pairs reads "name=value,name=value".
func pairs(text string, set func(name, value string) error) error {
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || seen[name] {
			return fmt.Errorf("%q is no NAME=VALUE, or is there twice", part)
		}
		seen[name] = true
		if err := set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func amount(text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 || n > 1e15 || math.IsNaN(n) {
		return 0, fmt.Errorf("%q is no amount", text)
	}
	return n, nil
}
