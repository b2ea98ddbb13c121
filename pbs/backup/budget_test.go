package backup

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// plenty is a pool that never ends.
func plenty() *pool {
	p := &pool{}
	p.left.Store(1 << 40)
	return p
}

// Sessions share what is above their own limits, and give it back. One chunk
// each is let in all the same.
func TestBudgetsShareAPool(t *testing.T) {
	p := &pool{}
	p.left.Store(150)
	greedy, honest := newBudget(100, p), newBudget(100, p)
	all := []*reservation{mustReserve(t, greedy, 100), mustReserve(t, greedy, 100), mustReserve(t, greedy, 50)}
	if _, err := greedy.reserve(t.Context(), 1); !errors.Is(err, errMemory) {
		t.Errorf("above what there is for all: %v", err)
	}
	all = append(all, mustReserve(t, honest, 100)) // its own
	if _, err := honest.reserve(t.Context(), 1); !errors.Is(err, errMemory) {
		t.Errorf("above its own, of a pool that is empty: %v", err)
	}
	alone := newBudget(10, p)
	all = append(all, mustReserve(t, alone, 70))
	for _, r := range all {
		r.release()
	}
	if left := p.left.Load(); left != 150 || greedy.held+honest.held+alone.held != 0 {
		t.Errorf("%d are left of 150", left)
	}
}

func mustReserve(t *testing.T, b *budget, n int64) *reservation {
	t.Helper()
	r, err := b.reserve(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Chunks wait for one that is complete, and not for those that are arriving:
// these may need the very window that the waiting ones fill.
func TestBudgetWaitsOnlyForWhatIsComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100, plenty())
		first := mustReserve(t, b, 60)
		second := mustReserve(t, b, 60) // above the limit, for the first may need it
		first.arrived()
		var let atomic.Int32
		for range 2 {
			go func() {
				mustReserve(t, b, 60)
				let.Add(1)
			}()
		}
		synctest.Wait()
		if let.Load() != 0 {
			t.Fatalf("%d were let in while a complete chunk was being stored", let.Load())
		}
		first.release()
		synctest.Wait()
		if let.Load() != 2 {
			t.Fatalf("%d were let in when all others were arriving, want 2", let.Load())
		}
		second.release()
		if b.held != 120 || b.complete != 0 {
			t.Errorf("%d bytes, %d complete at the end", b.held, b.complete)
		}
	})
}

func TestBudgetHasALastLimit(t *testing.T) {
	b := newBudget(100, plenty())
	for range interleaved {
		mustReserve(t, b, 100)
	}
	if _, err := b.reserve(t.Context(), 1); !errors.Is(err, errMemory) {
		t.Errorf("one more byte: %v", err)
	}
}

// One chunk alone always fits, whatever the limit.
func TestBudgetLetsOneChunkIn(t *testing.T) {
	b := newBudget(10, plenty())
	r := mustReserve(t, b, 1000)
	r.arrived()
	r.release()
	if b.held != 0 || b.complete != 0 {
		t.Errorf("%d bytes, %d complete at the end", b.held, b.complete)
	}
}

func TestBudgetEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100, plenty())
		mustReserve(t, b, 100).arrived()
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("the client has gone")
		go func() {
			synctest.Wait()
			cancel(gone)
		}()
		if _, err := b.reserve(ctx, 1); !errors.Is(err, gone) {
			t.Errorf("%v, want that the client has gone", err)
		}
	})
}
