package index

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// TestReadersSeeEveryWriteDuringFlushes has writers, readers and a flusher
// work at once: what a writer has written, any reader finds from then on.
func TestReadersSeeEveryWriteDuringFlushes(t *testing.T) {
	const writers, each = 3, 9_000
	x := openIndex(t, Config{FS: disk.OS{}, Dir: t.TempDir(), DeltaMax: 500, FanIn: 3})
	var done [writers]atomic.Uint64 // how many chunks each writer has finished
	digest := func(w int, i uint64) chunks.Digest { return synthetic(uint64(w)<<32 | i) }
	var work, others sync.WaitGroup
	stop := make(chan struct{})
	for w := range writers {
		work.Go(func() {
			for i := range uint64(each) {
				d := digest(w, i)
				x.InsertIfAbsent(d, Loc{Len: 1})
				if !x.Replace(d, Loc{Len: 1}, placeOf(i)) {
					t.Errorf("chunk %d of writer %d is not where it was put", i, w)
				}
				if i%5 == 4 && !x.Delete(digest(w, i-2), placeOf(i-2)) {
					t.Errorf("chunk %d of writer %d cannot be deleted", i-2, w)
				}
				done[w].Store(i + 1)
			}
		})
	}
	others.Go(func() { // the flusher
		for !stopped(stop) {
			if err := x.Flush(t.Context(), nil); err != nil {
				t.Error(err)
			}
		}
	})
	for r := range 2 {
		others.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(r), 2))
			for !stopped(stop) {
				readSome(t, x, rng, &done, digest)
			}
		})
	}
	others.Go(func() {
		for !stopped(stop) {
			all, failed := x.All(t.Context())
			for range all {
			}
			if err := errors.Join(failed(), x.Check(t.Context())); err != nil {
				t.Error(err)
			}
			runtime.GC() // unmaps old runs
		}
	})
	work.Wait()
	close(stop)
	others.Wait()
	flush(t, x, "")
	if want := writers * each * 4 / 5; x.Len() != want {
		t.Errorf("length is %d, want %d", x.Len(), want)
	}
	closeIndex(t, x)
}

func stopped(stop chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

func readSome(t *testing.T, x *Index, rng *rand.Rand, done *[3]atomic.Uint64, digest func(int, uint64) chunks.Digest) {
	w := rng.IntN(len(done))
	n := done[w].Load()
	if n < 10 {
		return
	}
	ds := make([]chunks.Digest, 100)
	is := make([]uint64, len(ds))
	for j := range ds {
		is[j] = rng.Uint64N(n - 5)
		ds[j] = digest(w, is[j])
	}
	check := func(j int, loc Loc, known bool) {
		deleted := is[j]%5 == 2
		if known == deleted || known && loc != placeOf(is[j]) {
			t.Errorf("chunk %d of %d gives %+v, %v", is[j], n, loc, known)
		}
	}
	x.LookupMany(ds, check)
	for j, d := range ds {
		loc, known := x.Lookup(d)
		check(j, loc, known)
	}
}

// TestOneInsertWins has many goroutines insert the same chunks at once.
func TestOneInsertWins(t *testing.T) {
	const workers, n = 4, 3000
	x := openIndex(t, Config{FS: disk.OS{}, Dir: t.TempDir(), DeltaMax: 400})
	var wins [n]atomic.Int32
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range uint64(n) {
				loc := Loc{Pack: uint32(w), Len: uint32(i)}
				old, inserted := x.InsertIfAbsent(synthetic(i), loc)
				if inserted {
					wins[i].Add(1)
				}
				if got, ok := x.Lookup(synthetic(i)); !ok || inserted && got != loc || !inserted && got != old {
					t.Errorf("chunk %d: inserted %v, old %+v, now %+v", i, inserted, old, got)
				}
				if w == 0 && i%500 == 0 {
					if err := x.Flush(t.Context(), nil); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	for i := range wins {
		if wins[i].Load() != 1 {
			t.Fatalf("chunk %d was inserted %d times", i, wins[i].Load())
		}
	}
	if x.Len() != n {
		t.Errorf("length is %d, want %d", x.Len(), n)
	}
	closeIndex(t, x)
}
