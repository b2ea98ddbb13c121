package rate

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTimetable(t *testing.T) {
	office := func(now time.Time) bool { return now.Hour() >= 8 && now.Hour() < 18 && now.Weekday() != time.Sunday }
	table := Timetable{Rows: []Row{
		{In: office, Limit: Limit{Rate: 20}},
		{In: func(now time.Time) bool { return now.Hour() == 3 }, Limit: Limit{Rate: 900}},
		{In: func(now time.Time) bool { return now.Hour() == 4 }},
	}, Else: Limit{Rate: 200}}
	for _, tt := range []struct {
		at   time.Time
		want int64
	}{
		{time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC), 20},
		{time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), 200}, // a Sunday
		{time.Date(2026, 11, 27, 20, 0, 0, 0, time.UTC), 200},
		{time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC), 200}, // never more than the limit above
		{time.Date(2026, 11, 27, 4, 0, 0, 0, time.UTC), 200},
	} {
		if got := table.At(tt.at).Rate; got != tt.want {
			t.Errorf("%s: %d, want %d", tt.at, got, tt.want)
		}
	}
}

// An uplink is a line with a long queue, as routers at home have.
type uplink struct {
	rate float64 // bytes a second

	mu   sync.Mutex
	free time.Time // when the queue is empty
}

// send queues bytes and returns how long they take to get through.
func (u *uplink) send(n int) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if u.free.Before(now) {
		u.free = now
	}
	u.free = u.free.Add(time.Duration(float64(n) / u.rate * float64(time.Second)))
	return u.free.Sub(now)
}

// Bulk that would fill an uplink leaves room for what must not be late, and
// still uses most of the line; when the line gets faster, so does the bulk.
func TestGuardKeepsTheLineUsable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 30 * time.Millisecond
		line := &uplink{rate: 1 << 20}
		g, err := NewGuard(GuardConfig{Ping: func(ctx context.Context) (time.Duration, error) {
			d := rtt + line.send(100)
			select {
			case <-time.After(d):
				return d, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		b := New(nil, g.Limit)
		wg.Go(func() { _ = g.Run(ctx) })
		time.Sleep(2 * time.Second) // before bulk begins, it learns what is usual
		var sent int64
		wg.Go(func() {
			for b.Wait(ctx, piece) == nil {
				g.Count(piece)
				sent += piece
				if d := line.send(piece); d > 4*time.Second { // the queue is full: TCP waits
					time.Sleep(d - 4*time.Second)
				}
			}
		})
		time.Sleep(60 * time.Second) // until it has settled
		before, late := sent, 0
		for range 120 {
			time.Sleep(time.Second)
			line.mu.Lock()
			if wait := time.Until(line.free); wait > 500*time.Millisecond {
				late++
			}
			line.mu.Unlock()
		}
		if share := float64(sent-before) / (120 * line.rate); share < 0.75 || late > 12 {
			t.Errorf("the bulk gets %.2f of the line, and in %d of 120 s others wait for more than 500 ms", share, late)
		}
		line.mu.Lock()
		line.rate *= 4
		line.mu.Unlock()
		time.Sleep(60 * time.Second)
		before = sent
		time.Sleep(60 * time.Second)
		if share := float64(sent-before) / (60 * line.rate); share < 0.7 {
			t.Errorf("of a line that got faster the bulk gets %.2f", share)
		}
		stop()
		wg.Wait()
	})
}

// A path that is longer from now on, as one by a relay is, is not the fault of the
// bulk: that goes on at its rate, and still gives way to others.
func TestGuardLearnsAnotherPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line, rtt := &uplink{rate: 1 << 20}, 20*time.Millisecond
		g, err := NewGuard(GuardConfig{Ping: func(ctx context.Context) (time.Duration, error) {
			d := rtt + line.send(100)
			time.Sleep(d)
			return d, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		b := New(nil, g.Limit)
		wg.Go(func() { _ = g.Run(ctx) })
		time.Sleep(2 * time.Second)
		var sent int64
		wg.Go(func() {
			for b.Wait(ctx, piece) == nil {
				g.Count(piece)
				sent += piece
				if d := line.send(piece); d > 4*time.Second {
					time.Sleep(d - 4*time.Second)
				}
			}
		})
		share := func(after time.Duration) float64 {
			time.Sleep(after)
			before := sent
			time.Sleep(time.Minute)
			return float64(sent-before) / (60 * line.rate)
		}
		if got := share(time.Minute); got < 0.5 {
			t.Errorf("on the path that it began with it gets %.2f of the line", got)
		}
		rtt = 400 * time.Millisecond
		if got := share(3 * time.Minute); got < 0.5 {
			t.Errorf("on a longer path it gets %.2f of the line", got)
		}
		rtt = 20 * time.Millisecond
		late := 0
		time.Sleep(time.Minute)
		for range 60 {
			time.Sleep(time.Second)
			line.mu.Lock()
			if time.Until(line.free) > 500*time.Millisecond {
				late++
			}
			line.mu.Unlock()
		}
		if late > 6 {
			t.Errorf("back on the short path others wait for more than 500 ms in %d of 60 s", late)
		}
		stop()
		wg.Wait()
	})
}

// The other end dies and comes back. That it did not answer says nothing of the
// line, and neither does a second in which hardly anything came.
func TestGuardForgivesWhoWasAway(t *testing.T) {
	g, err := NewGuard(GuardConfig{Ping: func(context.Context) (time.Duration, error) { return 0, nil }})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1e9, 0)
	step := func(rtt time.Duration, moved int) {
		now = now.Add(time.Second)
		g.Count(moved)
		g.step(rtt, now)
	}
	for range 10 {
		step(20*time.Millisecond, 6<<20)
	}
	for range 60 {
		step(longPing, 0)
	}
	if l := g.Limit(now); l.Rate != 0 {
		t.Errorf("a source that was away is held to %d bytes a second", l.Rate)
	}
	for range 30 { // now the line is full indeed
		step(2*time.Second, 1<<20)
	}
	step(20*time.Millisecond, 100)
	if l := g.Limit(now); l.Rate < g.cfg.Least {
		t.Errorf("after a second with 100 bytes it is held to %d a second", l.Rate)
	}
}
