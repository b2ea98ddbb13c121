package prices

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Provider is what a store charges and allows. Prices are list prices before
// tax; zero means free, or not known, as Source says.
type Provider struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Hosts    []string `json:"hosts"`              // ends of the names of its endpoints
	Class    string   `json:"class,omitempty"`    // of storage; "": what the bucket has by default
	Date     string   `json:"date"`               // of the prices, YYYY-MM-DD
	Source   string   `json:"source"`             // where they are from, and what they leave out
	Currency string   `json:"currency,omitempty"` // default USD

	Storage   float64 `json:"storage,omitempty"`    // per GB and month
	PerObject float64 `json:"per-object,omitempty"` // per 1,000 objects and month
	Put       float64 `json:"put,omitempty"`        // per 1,000 requests
	List      float64 `json:"list,omitempty"`       // per 1,000 requests
	Get       float64 `json:"get,omitempty"`        // per 1,000 requests; HEAD too
	Egress    float64 `json:"egress,omitempty"`     // per GB that leaves, beyond what is free
	Retrieval float64 `json:"retrieval,omitempty"`  // per GB that is read, wherever it goes

	FreeEgressGB    float64 `json:"free-egress-gb,omitempty"`    // a month
	FreeEgressRatio float64 `json:"free-egress-ratio,omitempty"` // a month, of what is stored
	MinimumDays     int     `json:"minimum-days,omitempty"`      // every object is billed for at least so long
	MinimumGB       float64 `json:"minimum-gb,omitempty"`        // at least so much is billed

	Requests        float64 `json:"requests-per-second,omitempty"` // more are refused
	Conns           int     `json:"connections,omitempty"`
	DeniedMeansSlow bool    `json:"denied-means-slow,omitempty"` // it says 403 when it means 429
}

//go:embed providers.json
var builtIn []byte

var known = sync.OnceValue(func() []Provider {
	list, err := ReadProviders(bytes.NewReader(builtIn))
	if err != nil {
		panic(err) // a test reads the file
	}
	return list
})

// Providers are those that are known here.
func Providers() []Provider { return slices.Clone(known()) }

// ReadProviders reads a list of providers of at most 1 MiB, as in
// providers.json: what an operator knows better than we do.
func ReadProviders(r io.Reader) (list []Provider, err error) {
	dec := json.NewDecoder(io.LimitReader(r, 1<<20))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&list); err != nil {
		return nil, fmt.Errorf("list of providers: %w", err)
	}
	seen := map[string]bool{}
	for i, p := range list {
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("list of providers: entry %d (%q): %w", i+1, p.ID, err)
		}
		if seen[p.ID] {
			return nil, fmt.Errorf("list of providers: %q is there twice", p.ID)
		}
		seen[p.ID] = true
	}
	return list, nil
}

func (p Provider) check() error {
	if p.ID == "" {
		return fmt.Errorf("it has no id")
	}
	if _, err := time.Parse(time.DateOnly, p.Date); err != nil {
		return fmt.Errorf("its prices have no date: %w", err)
	}
	for _, n := range []float64{p.Storage, p.PerObject, p.Put, p.List, p.Get, p.Egress, p.Retrieval, p.FreeEgressGB,
		p.FreeEgressRatio, p.MinimumGB, p.Requests, float64(p.MinimumDays), float64(p.Conns)} {
		if n < 0 {
			return fmt.Errorf("a number is negative")
		}
	}
	return nil
}

// Of finds the provider of an endpoint by its host and the class of storage
// that is used there. Entries of own come before those that are known here.
func Of(own []Provider, host, class string) (Provider, bool) {
	host, _, _ = strings.Cut(host, ":")
	for _, want := range []string{class, ""} {
		for _, p := range slices.Concat(own, known()) {
			at := slices.ContainsFunc(p.Hosts, func(h string) bool { return host == h || strings.HasSuffix(host, "."+h) })
			if at && p.Class == want {
				return p, true
			}
		}
	}
	return Provider{}, false
}

// Prices are what decides about compaction.
func (p Provider) Prices() List {
	return List{
		Storage: p.Storage, Put: p.Put / 1000, Get: p.Get / 1000, Egress: p.Egress + p.Retrieval,
		Minimum: time.Duration(p.MinimumDays) * 24 * time.Hour,
	}
}

// A Use is what was done with a bucket, or is going to be.
type Use struct {
	Requests map[string]int64 `json:"requests"` // by class: put, get, head, list, delete
	In       int64            `json:"bytes-in"` // read from the bucket
	Out      int64            `json:"bytes-out"`
}

// A Cost is money, in the provider's currency.
type Cost struct {
	Requests float64 `json:"requests"`
	Egress   float64 `json:"egress"`
	Storage  float64 `json:"storage"` // a month
}

// Total is the sum.
func (c Cost) Total() float64 { return c.Requests + c.Egress + c.Storage }

// Once is what a Use costs when nothing of what is free is left.
func (p Provider) Once(u Use) Cost {
	n := func(class string) float64 { return float64(u.Requests[class]) / 1000 }
	return Cost{
		Requests: n("put")*p.Put + n("list")*p.List + (n("get")+n("head"))*p.Get,
		Egress:   gb(u.In) * (p.Egress + p.Retrieval),
	}
}

// Monthly is what it costs to keep bytes in so many objects for a month in
// which u is done.
func (p Provider) Monthly(stored, objects int64, u Use) Cost {
	c := p.Once(u)
	free := p.FreeEgressGB + p.FreeEgressRatio*gb(stored)
	c.Egress = max(0, gb(u.In)-free)*p.Egress + gb(u.In)*p.Retrieval
	c.Storage = max(gb(stored), p.MinimumGB)*p.Storage + float64(objects)/1000*p.PerObject
	return c
}

// Unit is the currency.
func (p Provider) Unit() string {
	if p.Currency == "" {
		return "USD"
	}
	return p.Currency
}

// Money writes an amount for people.
func (p Provider) Money(amount float64) string {
	currency := p.Unit()
	if amount > 0 && amount < 0.01 {
		return "less than 0.01 " + currency
	}
	return fmt.Sprintf("%.2f %s", amount, currency)
}

func gb(n int64) float64 { return float64(n) / 1e9 }
