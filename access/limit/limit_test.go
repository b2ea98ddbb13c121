package limit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// guess lets n logins fail at now and returns how many were looked at.
func guess(l *Limiter, n int, now time.Time, who func(i int) Login) (looked int) {
	for i := range n {
		if l.Take(who(i), now) {
			looked++
		}
	}
	return looked
}

func TestFailuresAreLimited(t *testing.T) {
	now := time.Unix(1e9, 0)
	tests := []struct {
		name   string
		who    func(i int) Login
		looked int // of 1000 at once
		hourly int // in the hour after, one try a second
	}{
		{"one address guesses one password", func(int) Login { return Login{"192.0.2.1", "a@pbs"} }, 10, 120},
		{"one address tries many users", func(i int) Login { return Login{"192.0.2.1", fmt.Sprint(i, "@pbs")} }, 50, 720},
		{"many addresses guess one password", func(i int) Login { return Login{fmt.Sprint("192.0.2.", i), "a@pbs"} }, 100, 720},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := New()
			if got := guess(l, 1000, now, tt.who); got != tt.looked {
				t.Errorf("%d were looked at, want %d", got, tt.looked)
			}
			later := 0
			for s := range 3600 {
				later += guess(l, 1, now.Add(time.Duration(s+1)*time.Second), func(int) Login { return tt.who(1000 + s) })
			}
			if later != tt.hourly {
				t.Errorf("%d were looked at in the hour after, want %d", later, tt.hourly)
			}
		})
	}
}

func TestNobodyIsLockedOutByOthers(t *testing.T) {
	now := time.Unix(1e9, 0)
	victim := Login{"192.0.2.1", "backup@pbs"}
	l := New()
	l.Remember(victim, now)
	attack := func(i int) Login { return Login{fmt.Sprint("198.51.100.", i), victim.User} }
	guess(l, 1000, now, attack)
	if l.Take(attack(2000), now) {
		t.Fatal("the attack is not limited")
	}
	if !l.Take(victim, now) {
		t.Error("who has logged in before from his address is locked out")
	}
	l.GiveBack(victim, now)
	guess(l, 1000, now, func(i int) Login { return Login{victim.Source, fmt.Sprint(i, "@pbs")} })
	if !l.Take(victim, now) {
		t.Error("who shares an address with somebody who guesses is locked out")
	}
	if l.Take(Login{victim.Source, "other@pbs"}, now) {
		t.Error("a stranger at that address is not limited")
	}
	l.GiveBack(victim, now)
	if now := now.Add(knownFor - time.Minute); guess(l, 1000, now, attack) == 0 || !l.Take(victim, now) {
		t.Error("forgotten too early")
	}
	if now := now.Add(-time.Hour); l.pairs.left(attack(0), now) < 0 {
		t.Error("a clock that is set back takes what was left")
	}
	if now := now.Add(knownFor + time.Minute); guess(l, 1000, now, attack) == 0 || l.Take(victim, now) {
		t.Error("remembered for ever")
	}
}

func TestGoodLoginsAreNotCounted(t *testing.T) {
	l, now, who := New(), time.Unix(1e9, 0), Login{"192.0.2.1", "a@pbs"}
	for range 1000 {
		if !l.Take(who, now) {
			t.Fatal("a good login was refused")
		}
		l.GiveBack(who, now)
	}
	if n := len(l.pairs.of) + len(l.sources.of) + len(l.users.of); n != 0 {
		t.Errorf("%d counts are left", n)
	}
}

func TestTablesAreBounded(t *testing.T) {
	l, now := New(), time.Unix(1e9, 0)
	for i := range 2*maxCounts + 1 {
		who := Login{fmt.Sprint("s", i), fmt.Sprint("u", i)}
		l.Take(who, now)
		l.Remember(who, now)
	}
	for name, n := range map[string]int{"pairs": len(l.pairs.of), "sources": len(l.sources.of), "users": len(l.users.of), "known": len(l.known)} {
		if n > maxCounts || n < maxCounts/2 {
			t.Errorf("%s has %d entries", name, n)
		}
	}
	later := now.Add(knownFor)
	for i := range maxCounts {
		l.Take(Login{fmt.Sprint("t", i), fmt.Sprint("v", i)}, later)
	}
	if n := len(l.pairs.of); n > maxCounts {
		t.Errorf("after the old ones were of no use: %d", n)
	}
}

func TestSource(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7":                     "192.0.2.7",
		"192.0.2.7:4711":                "192.0.2.7",
		"::ffff:192.0.2.7":              "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:4711":   "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff:ffff::1":     "2001:db8:1:2::/64",
		"[fe80::1%eth0]:4711":           "fe80::/64",
		"@":                             "",
		"":                              "",
		"host.example:1":                "",
		"192.0.2.7:4711:1 DROP TABLE 1": "",
	} {
		if got := Source(remote); got != want {
			t.Errorf("%q is %q, want %q", remote, got, want)
		}
	}
}

func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		time.Sleep(time.Second)
		Hold(t.Context(), start, 3*time.Second)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("held until %s after the start", d)
		}
		Hold(t.Context(), start, time.Second)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("a delay that is over took %s", d-3*time.Second)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		Hold(ctx, start, time.Hour)
		if d := time.Since(start); d != 4*time.Second {
			t.Errorf("who has gone is held until %s", d)
		}
	})
}

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(2, 3)
		var running, most, done, full atomic.Int64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				err := q.Do(t.Context(), func() {
					for n := running.Add(1); ; {
						if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
							break
						}
					}
					time.Sleep(time.Second)
					running.Add(-1)
				})
				switch {
				case err == nil:
					done.Add(1)
				case errors.Is(err, ErrFull):
					full.Add(1)
				}
			})
		}
		start := time.Now()
		wg.Wait()
		if most.Load() != 2 || done.Load() != 5 || full.Load() != 5 || time.Since(start) != 3*time.Second {
			t.Errorf("%d at once, %d done, %d refused, %s", most.Load(), done.Load(), full.Load(), time.Since(start))
		}
	})
}

func TestQueueStopsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(1, 1)
		release := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := q.Do(t.Context(), func() { <-release }); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := q.Do(ctx, func() { t.Error("it ran") }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		close(release)
		wg.Wait()
		if err := q.Do(t.Context(), func() {}); err != nil {
			t.Errorf("the place was not given back: %v", err)
		}
	})
}

func FuzzSource(f *testing.F) {
	f.Add("192.0.2.7:4711")
	f.Add("[fe80::1%eth0]:1")
	f.Fuzz(func(t *testing.T, s string) {
		if got := Source(s); len(got) > 45 {
			t.Errorf("%q is %q", s, got)
		}
	})
}
