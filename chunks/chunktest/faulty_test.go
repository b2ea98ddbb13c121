package chunktest

import (
	"context"
	"errors"
	"math/bits"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

func TestFaults(t *testing.T) {
	for _, row := range []struct {
		what                string
		fault               Fault
		put, commit, get    error
		held                int
		surviving, flipbits int
	}{
		{"a fault of no kind fails the call", Fault{On: Put}, ErrInjected, nil, chunks.ErrMissing, 0, 0, 0},
		{"a full disk at Put", Fault{On: Put, Err: chunks.ErrNoSpace}, chunks.ErrNoSpace, nil, chunks.ErrMissing, 0, 0, 0},
		{"a put that is lost", Fault{On: Put, Drop: true}, nil, nil, chunks.ErrMissing, 0, 0, 0},
		{"a commit that fails", Fault{On: Commit}, nil, ErrInjected, nil, 1, 0, 0},
		{"a commit that lies", Fault{On: Commit, Drop: true}, nil, nil, nil, 1, 0, 0},
		{"a read that fails", Fault{On: Get, Err: chunks.ErrCorrupt}, nil, nil, chunks.ErrCorrupt, 1, 1, 0},
		{"a read that finds nothing", Fault{On: Get, Drop: true}, nil, nil, chunks.ErrMissing, 1, 1, 0},
		{"a bit that flips", Fault{On: Get, Flip: true}, nil, nil, nil, 1, 1, 1},
		{"the second of any calls", Fault{Nth: 2}, nil, ErrInjected, nil, 1, 0, 0},
		{"the second read of one", Fault{On: Get, Nth: 2}, nil, nil, nil, 1, 1, 0},
		{"a fault with hardly a chance", Fault{Chance: 1e-12}, nil, nil, nil, 1, 1, 0},
	} {
		t.Run(row.what, func(t *testing.T) {
			m, c := NewMemory(), Blob(1, 1000)
			f := NewFaulty(m, 7, row.fault)
			_, put := f.Put(t.Context(), c.Digest, c.Blob)
			commit := f.Commit(t.Context())
			got, get := f.Get(t.Context(), c.Digest, nil)
			if !errors.Is(put, row.put) || !errors.Is(commit, row.commit) || !errors.Is(get, row.get) {
				t.Errorf("put %v, commit %v, get %v; want %v, %v, %v", put, commit, get, row.put, row.commit, row.get)
			}
			if m.Len() != row.held {
				t.Errorf("%d chunks held, want %d", m.Len(), row.held)
			}
			if m.Crash(); m.Len() != row.surviving {
				t.Errorf("%d chunks survive a crash, want %d", m.Len(), row.surviving)
			}
			if get == nil && differentBits(got, c.Blob) != row.flipbits {
				t.Errorf("%d bits differ, want %d", differentBits(got, c.Blob), row.flipbits)
			}
		})
	}
}

func differentBits(a, b []byte) (n int) {
	for i := range min(len(a), len(b)) {
		n += bits.OnesCount8(a[i] ^ b[i])
	}
	return n
}

func TestFaultyLookup(t *testing.T) {
	d := []chunks.Digest{chunks.Sum(nil)}
	lying := NewFaulty(NewMemory(), 1, Fault{On: Missing, Drop: true})
	if missing, err := lying.Missing(t.Context(), d); err != nil || missing != nil {
		t.Errorf("a lookup that lies returned %v, %v", missing, err)
	}
	failing := NewFaulty(NewMemory(), 1, Fault{On: Missing})
	if _, err := failing.Missing(t.Context(), d); !errors.Is(err, ErrInjected) {
		t.Errorf("a lookup that fails returned error %v", err)
	}
}

func TestFaultsInBatches(t *testing.T) {
	m, cs := NewMemory(), few(1, 100)
	if err := putAll(t.Context(), m, cs...); err != nil {
		t.Fatal(err)
	}
	f := NewFaulty(m, 1,
		Fault{On: Get, Nth: 5, Err: chunks.ErrCorrupt}, Fault{On: Get, Nth: 9, Drop: true}, Fault{On: Get, Chance: 0.2, Flip: true})
	seen := newTally()
	if err := f.GetMany(t.Context(), digests(cs), seen.count); err != nil {
		t.Fatal(err)
	}
	if len(seen.failed) != f.Struck() || f.Struck() < 10 || f.Struck() > 40 {
		t.Errorf("%d chunks failed, %d faults struck, want the same and about 22", len(seen.failed), f.Struck())
	}
	f.Heal()
	if err := holds(t.Context(), f, cs...); err != nil {
		t.Errorf("after Heal: %v", err)
	}
}

func TestChancesFollowTheSeed(t *testing.T) {
	history := func(seed uint64) (s string) {
		f := NewFaulty(NewMemory(), seed, Fault{Chance: 0.5})
		for range 64 {
			if f.Commit(t.Context()) == nil {
				s += "."
			} else {
				s += "x"
			}
		}
		return s
	}
	first, again, other := history(1), history(1), history(2)
	if first != again || first == other {
		t.Errorf("seed 1: %s, again %s, seed 2: %s", first, again, other)
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFaulty(NewMemory(), 1, Fault{On: Commit, Delay: time.Hour})
		start := time.Now()
		if err := f.Commit(t.Context()); err != nil || time.Since(start) != time.Hour {
			t.Errorf("a slow commit took %s and returned %v", time.Since(start), err)
		}
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.Commit(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("a slow commit with a deadline took %s and returned %v", time.Since(start), err)
		}
	})
}
