package index

import (
	"encoding/binary"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// synthetic returns the digest of chunk i: the output of splitmix64
// (Steele et al., 2014), as even as a SHA-256 and a hundred times cheaper.
func synthetic(i uint64) (d chunks.Digest) {
	s := i * 4
	for w := range 4 {
		s++
		z := s * 0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		binary.LittleEndian.PutUint64(d[8*w:], z^z>>31)
	}
	return d
}

// placeOf returns where the tests put chunk i.
func placeOf(i uint64) Loc {
	return Loc{Pack: uint32(i >> 6), Entry: uint32(i & 63), Off: uint32(i), Len: uint32(i%4096) + 1}
}

// records yields the chunks [from, to).
func records(from, to uint64) iter.Seq2[chunks.Digest, Loc] {
	return func(yield func(chunks.Digest, Loc) bool) {
		for i := from; i < to; i++ {
			if !yield(synthetic(i), placeOf(i)) {
				return
			}
		}
	}
}

// shuffled maps 0, 1, 2, ... to numbers below n in random order.
func shuffled(i, n uint64) uint64 { return (i * 0x9e3779b97f4a7c15 >> 20) % n }

func benchConfig(dir string) Config { return Config{FS: disk.OS{}, Dir: dir} }

func noState() ([]byte, error) { return nil, nil }

// built returns an index of n chunks in one run.
func built(tb testing.TB, n uint64) (*Index, Config) {
	tb.Helper()
	cfg := benchConfig(tb.TempDir())
	x, err := Rebuild(tb.Context(), cfg, records(0, n), nil, noState)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = x.Close() })
	return x, cfg
}

var sizes = []struct {
	name string
	n    uint64
}{{"200k", 200_000}, {"1M", 1_000_000}, {"10M", 10_000_000}}

func BenchmarkLookup(b *testing.B) {
	for _, size := range sizes {
		x, _ := built(b, size.n)
		benchLookups(b, size.name, x, size.n)
	}
}

// BenchmarkLookupTiers has 10 million chunks in more runs than a store that
// grows comes to have, and a full delta.
func BenchmarkLookupTiers(b *testing.B) {
	next := uint64(8_900_000)
	x, _ := built(b, next)
	for _, size := range []uint64{970_000, 105_000, 12_500} {
		for range size {
			x.Insert(synthetic(next), placeOf(next))
			next++
		}
		if err := x.Flush(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
	for ; !x.NeedsFlush(); next++ {
		x.Insert(synthetic(next), placeOf(next))
	}
	benchLookups(b, fmt.Sprintf("10M,runs=%d", x.Runs()), x, next)
}

func benchLookups(b *testing.B, name string, x *Index, n uint64) {
	b.Run(name+"/hit", func(b *testing.B) {
		b.ReportAllocs()
		for i := uint64(0); b.Loop(); i++ {
			if _, ok := x.Lookup(synthetic(shuffled(i, n))); !ok {
				b.Fatal("lost")
			}
		}
	})
	b.Run(name+"/miss", func(b *testing.B) {
		b.ReportAllocs()
		for i := n; b.Loop(); i++ {
			if _, ok := x.Lookup(synthetic(i)); ok {
				b.Fatal("found")
			}
		}
	})
	b.Run(name+"/many", func(b *testing.B) {
		b.ReportAllocs()
		ds := make([]chunks.Digest, 4096)
		for i := uint64(0); b.Loop(); {
			for j := range ds {
				ds[j] = synthetic(shuffled(i, n))
				i++
			}
			x.LookupMany(ds, func(_ int, _ Loc, ok bool) {
				if !ok {
					b.Fatal("lost")
				}
			})
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(ds)), "ns/lookup")
	})
}

func BenchmarkOpen(b *testing.B) {
	for _, size := range sizes {
		_, cfg := built(b, size.n)
		b.Run(size.name, func(b *testing.B) {
			for b.Loop() {
				x, err := Open(cfg)
				if err != nil {
					b.Fatal(err)
				}
				if err := x.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRebuild(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			cfg := benchConfig(b.TempDir())
			for b.Loop() {
				x, err := Rebuild(b.Context(), cfg, records(0, size.n), nil, noState)
				if err != nil {
					b.Fatal(err)
				}
				if err := x.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/rebuild")
		})
	}
}

func BenchmarkAll(b *testing.B) {
	x, _ := built(b, 10_000_000)
	for b.Loop() {
		var total uint64
		all, failed := x.All(b.Context())
		for _, loc := range all {
			total += uint64(loc.Len)
		}
		if failed() != nil || total == 0 {
			b.Fatal(failed())
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	x, _ := built(b, 10_000_000)
	for b.Loop() {
		if err := x.Check(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIngest fills an index from empty, as a store does: insert if
// absent, flush when asked to. The heap is measured with both tables full.
func BenchmarkIngest(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		x, err := Open(benchConfig(b.TempDir()))
		if err != nil {
			b.Fatal(err)
		}
		var flushing time.Duration
		for i := range uint64(n) {
			x.InsertIfAbsent(synthetic(i), placeOf(i))
			if x.NeedsFlush() && i < n-1 {
				began := time.Now()
				if err := x.Flush(b.Context(), nil); err != nil {
					b.Fatal(err)
				}
				flushing += time.Since(began)
			}
		}
		b.ReportMetric(flushing.Seconds(), "s-flushing")
		_ = x.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/insert")
}

// BenchmarkHeap measures the heap by the runtime's own account, with the delta
// at its limit twice: once frozen, as during a flush, and once filled again.
func BenchmarkHeap(b *testing.B) {
	for _, size := range sizes[1:] {
		b.Run(size.name, func(b *testing.B) {
			for b.Loop() {
				before := heapInUse()
				x, _ := built(b, size.n)
				fill := func(from uint64) {
					for i := from; !x.NeedsFlush(); i++ {
						x.Insert(synthetic(i), placeOf(i))
					}
				}
				fill(size.n)
				recs, _ := x.freeze()
				fill(2 * size.n)
				b.ReportMetric(float64(heapInUse()-before)/float64(size.n), "B/chunk")
				b.ReportMetric(float64(x.Heap())/float64(size.n), "B/chunk-estimated")
				runtime.KeepAlive(recs)
			}
		})
	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkInsertParallel inserts new digests from all processors at once.
func BenchmarkInsertParallel(b *testing.B) {
	x, err := Open(benchConfig(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	var mu sync.Mutex
	var worker uint64
	b.RunParallel(func(pb *testing.PB) {
		mu.Lock()
		worker++
		i := worker << 40
		mu.Unlock()
		for pb.Next() {
			x.InsertIfAbsent(synthetic(i), placeOf(i))
			i++
		}
	})
	_ = x.Close()
}
