package guard

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// The floors of all scopes above a snapshot hold, by the guard's own idea of the
// time.
func TestFloorsOfScopes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		g := open(t, dir)
		must(t, g.Raise("op", Floor{Scope: "main", MinAge: 3600}), g.Raise("op", Floor{Scope: "main/a", MinCopies: 2}),
			g.Raise("op", Floor{Scope: "main/a/b", LockUntil: time.Now().Add(48 * time.Hour).Unix()}))
		old, young := time.Now().Add(-2*time.Hour), time.Now().Add(-time.Minute)
		for _, tt := range []struct {
			store, ns string
			taken     time.Time
			copies    int
			may       bool
		}{
			{"main", "", old, 0, true}, {"main", "", young, 9, false}, {"main", "c", young, 0, false}, {"other", "", young, 0, true}, {"main2", "a", young, 0, true},
			{"main", "a", old, 1, false}, {"main", "a", old, 2, true}, {"main", "ab", old, 0, true}, {"main", "a/b", old, 9, false}, {"main", "a/c", old, 2, true},
		} {
			err := g.MayForget(tt.store, tt.ns, tt.taken, func() int { return tt.copies })
			if (err == nil) != tt.may || err != nil && !errors.Is(err, ErrHeld) {
				t.Errorf("%s/%s, %s old, %d copies: %v", tt.store, tt.ns, time.Since(tt.taken), tt.copies, err)
			}
		}
		time.Sleep(49 * time.Hour)
		must(t, g.MayForget("main", "a/b", old, func() int { return 2 }))
		if n := len(g.Floors()); n != 3 {
			t.Errorf("%d floors", n)
		}
		must(t, g.Close())
	})
}

func TestMass(t *testing.T) {
	many := func(n int, l Loss) (all []Loss) {
		for range n {
			all = append(all, l)
		}
		return all
	}
	for _, tt := range []struct {
		name   string
		groups []Loss
		mass   bool
	}{
		{"nothing", nil, false}, {"a day of ten guests", many(10, Loss{15, 0}), false}, {"one old guest goes", append(many(9, Loss{14, 0}), Loss{14, 14}), false},
		{"all of a small store", []Loss{{10, 10}}, false}, {"half of a large store", many(10, Loss{14, 7}), true}, {"the first prune of a large store", many(3, Loss{100, 93}), true},
		{"five of ten guests", append(many(5, Loss{100, 0}), many(5, Loss{2, 2})...), true}, {"a fifth of all", many(20, Loss{10, 2}), false},
	} {
		if why := Mass(tt.groups); (why != "") != tt.mass {
			t.Errorf("%s: %q", tt.name, why)
		}
	}
}

// Operators may have the trash emptied for a day, without a quorum.
func TestSweepIsAllowedForADay(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		g, c := open(t, dir), chain(t, 1)
		sweep := func(r *Request) { r.Sweep = true }
		if both := request(1, func(r *Request) { sweep(r); unblock(r) }, 1, 2); g.Ask(c, public(10), both) == nil {
			t.Error("a request for two things is taken")
		}
		must(t, g.Ask(c, public(10), request(2, sweep, 1, 2)), g.Settle())
		if !g.MaySweep() {
			t.Error("the trash may not be emptied")
		}
		time.Sleep(SweepTime + time.Minute)
		if g.MaySweep() {
			t.Error("it may be emptied for ever")
		}
		must(t, g.Trip("node", "half of main"), g.CloseBreaker("op", "was me"))
		if g.Tripped() != "" || time.Since(g.Looked()) > time.Minute {
			t.Errorf("%q, looked at %s", g.Tripped(), g.Looked())
		}
		must(t, g.Close())
	})
}
