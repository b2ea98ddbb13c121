package rate

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// flow lets n streams take pieces through a bucket for a while, and returns
// how many bytes went through.
func flow(t *testing.T, b *Bucket, n int, long time.Duration) int64 {
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var bytes atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for b.Wait(ctx, piece) == nil {
				bytes.Add(piece)
			}
		})
	}
	wg.Wait()
	return bytes.Load()
}

func near(t *testing.T, what string, got int64, want, off float64) {
	t.Helper()
	if math.Abs(float64(got)-want) > off*want {
		t.Errorf("%s: %d bytes, want %.0f, give or take %.0f %%", what, got, want, 100*off)
	}
}

func TestRateHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mib = 1 << 20
		b := New(nil, Fixed(Limit{Rate: 20 * mib, Burst: mib}))
		near(t, "8 streams, 30 s, 20 MiB/s", flow(t, b, 8, 30*time.Second), 601*mib, 0.01)
		node := New(nil, Fixed(Limit{Rate: 10 * mib}))
		link := New(node, Fixed(Limit{}))
		job := New(link, Fixed(Limit{Rate: 50 * mib}))
		near(t, "the node's limit holds for the job", flow(t, job, 4, 10*time.Second), 110*mib, 0.02)
		if New(nil, Fixed(Limit{})).Wait(t.Context(), 1<<40) != nil {
			t.Error("no limit limits")
		}
	})
}

func TestLimitFollowsTheHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noon := time.Now().Add(10 * time.Second)
		b := New(nil, func(now time.Time) Limit {
			if now.Before(noon) {
				return Limit{Rate: 1 << 20, Burst: 1}
			}
			return Limit{Rate: 10 << 20, Burst: 1}
		})
		near(t, "before", flow(t, b, 2, 10*time.Second), 10<<20, 0.05)
		near(t, "after", flow(t, b, 2, 10*time.Second), 100<<20, 0.05)
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(nil, Fixed(Limit{Rate: 1}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := b.Wait(ctx, 1<<30); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("Wait = %v after %v", err, time.Since(start))
		}
	})
}

// Who waits under a limit is let through when it is raised, not when the old one
// would have.
func TestWaitFollowsTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		b := New(nil, func(now time.Time) Limit {
			if now.Sub(start) < 5*time.Second {
				return Limit{Rate: 100, Burst: 1}
			}
			return Limit{Rate: 1 << 20, Burst: 1}
		})
		if err := b.Wait(t.Context(), 64<<10); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 7*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
