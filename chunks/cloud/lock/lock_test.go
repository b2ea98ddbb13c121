package lock

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Policy{
		"": {}, "off": {}, "governance:60d": {Governance, 60}, "compliance:7d": {Compliance, 7}, "governance:3650": {Governance, 3650},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q is written as %q, read as %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"on", "governance", "governance:", "governance:6d", "compliance:3651d", "GOVERNANCE:60d", "governance:60h", "legal:60d", ":60d", "governance:-60d"} {
		if p, err := Parse(text); err == nil {
			t.Errorf("%q is taken for %+v", text, p)
		}
	}
}

// A lock is never shorter than it says, and at most a day longer.
func TestUntil(t *testing.T) {
	p := Policy{Governance, 60}
	for _, at := range []time.Time{
		time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 29, 23, 59, 59, 0, time.UTC), time.Date(2026, 3, 29, 1, 30, 0, 0, time.FixedZone("CET", 3600)),
	} {
		until := p.Until(at)
		if d := until.Sub(at); d < 60*day || d > 61*day {
			t.Errorf("locked at %s until %s: %s", at, until, d)
		}
	}
	if !(Policy{}).Held(time.Now(), time.Now()).IsZero() || (Policy{}).Due(time.Now(), time.Time{}) {
		t.Error("without a policy something is held, or due")
	}
}

// Whatever happens, and however late the renewals are within half of the time, an
// object that is needed is locked; and Held says for how long exactly.
func TestNothingIsEverFree(t *testing.T) {
	p, began := Policy{Compliance, 60}, time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	created := []time.Time{began, began.Add(29 * day), began.Add(31 * day), began.Add(200 * day)}
	until := make([]time.Time, len(created))
	renewed, rounds := began, 0
	for now := began; now.Before(began.Add(400 * day)); now = now.Add(7 * day) { // a weekly garbage collection
		for i, c := range created {
			if now.Before(c) {
				continue
			}
			if until[i].IsZero() {
				until[i] = p.Until(c)
			}
			if !now.Before(until[i].Add(-20 * day)) {
				t.Fatalf("on day %d object %d is locked only until %s", int(now.Sub(began)/day), i, until[i])
			}
		}
		if p.Due(now, renewed) {
			renewed, rounds = now, rounds+1
			for i, c := range created {
				if !c.After(now) {
					until[i] = p.Until(now)
				}
			}
		}
		for i, c := range created {
			if !now.Before(c) && !p.Held(c, renewed).Equal(until[i]) {
				t.Fatalf("on day %d object %d is said to be held until %s, is until %s", int(now.Sub(began)/day), i, p.Held(c, renewed), until[i])
			}
		}
	}
	if rounds < 10 || rounds > 14 {
		t.Errorf("%d renewals in 400 days, want one about every 30", rounds)
	}
}

type shelf struct {
	mu    sync.Mutex
	until map[string]time.Time
	bad   string
}

func (s *shelf) Retain(_ context.Context, key string, _ Policy, until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key == s.bad {
		return errors.New("denied")
	}
	s.until[key] = until
	return nil
}

func TestRenew(t *testing.T) {
	p, s, now := Policy{Governance, 30}, &shelf{until: map[string]time.Time{}}, time.Now()
	var keys []string
	for i := range 100 {
		keys = append(keys, string(rune('a'+i)))
	}
	if n, err := p.renew(t.Context(), s, now, keys); n != 100 || err != nil || len(s.until) != 100 || !s.until["a"].Equal(p.Until(now)) {
		t.Errorf("%d, %v; %d are locked, the first until %s", n, err, len(s.until), s.until["a"])
	}
	s.bad = "c"
	if n, err := p.renew(t.Context(), s, now, keys); n == 100 || err == nil {
		t.Errorf("one is denied: %d, %v", n, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := p.renew(ended, s, now, keys[:2]); !errors.Is(err, context.Canceled) {
		t.Errorf("it was cancelled: %v", err)
	}
}

// Locks are renewed at once when there were none, then when half of their time is
// over; and what failed is due still.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, asked := &shelf{until: map[string]time.Time{}}, 0
		keys := func() []string { asked++; return []string{"a", "b"} }
		p, last := Policy{Governance, 60}, time.Time{}
		keep := func(want bool) {
			t.Helper()
			before, n := last, asked
			var err error
			if last, err = p.Keep(t.Context(), s, last, keys); err != nil {
				t.Fatal(err)
			}
			if did := asked > n; did != want || did == last.Equal(before) {
				t.Errorf("renewed: %t, want %t; %s after %s", did, want, last, before)
			}
		}
		keep(true)
		keep(false)
		time.Sleep(29 * day)
		keep(false)
		time.Sleep(2 * day)
		keep(true)
		if !s.until["b"].Equal(p.Until(time.Now())) {
			t.Errorf("locked until %s", s.until["b"])
		}
		time.Sleep(40 * day)
		s.bad = "b"
		if at, err := p.Keep(t.Context(), s, last, keys); err == nil || !at.Equal(last) {
			t.Errorf("one was denied: %s, %v", at, err)
		}
		if at, err := (Policy{}).Keep(t.Context(), s, last, keys); err != nil || !at.IsZero() {
			t.Errorf("nothing is locked any more: %s, %v", at, err)
		}
	})
}
