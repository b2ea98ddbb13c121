package gc

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// orderly is a store whose digests say where they lie, so that a benchmark
// measures the collector and not the index.
type orderly struct {
	*twin
	packs int
}

const perPack = 64

func (o orderly) Lookup(d chunks.Digest) (pack.Ref, bool) {
	n := binary.LittleEndian.Uint32(d[:])
	return pack.Ref{Pack: n / perPack, Entry: n % perPack}, true
}

func (o orderly) LocateMany(ds []chunks.Digest, fn func(int, pack.Ref, bool)) {
	for i, d := range ds {
		ref, held := o.Lookup(d)
		fn(i, ref, held)
	}
}

func (o orderly) BeginEpoch(context.Context) (uint64, []pack.Info, error) {
	infos := make([]pack.Info, o.packs)
	for i := range infos {
		infos[i] = pack.Info{Number: uint32(i), Entries: perPack, Sealed: true}
	}
	return 1, infos, nil
}

func (o orderly) Condemn(s *pack.Set) int                            { return s.Len() }
func (o orderly) Condemned() *pack.Set                               { return &pack.Set{} }
func (o orderly) Measure(s *pack.Set) (map[uint32]pack.Usage, error) { return nil, nil }

// BenchmarkMark marks 180,000 of 200,000 chunks and sweeps; ns/chunk is per
// chunk marked. "looked up" reads the index of one snapshot, "cached" has the
// bitmaps of ten such snapshots.
func BenchmarkMark(b *testing.B) {
	const held, marked = 200_000, 180_000
	ds := make([]chunks.Digest, 0, marked)
	for n := range uint32(held) {
		if n%10 != 0 {
			var d chunks.Digest
			binary.LittleEndian.PutUint32(d[:], n)
			ds = append(ds, d)
		}
	}
	for _, row := range []struct {
		name   string
		roots  int
		cached bool
	}{{"looked up", 1, false}, {"cached", 10, true}} {
		b.Run(row.name, func(b *testing.B) {
			roots, fs := &memRoots{}, newFiles()
			for i := range row.roots {
				roots.add(string(rune('a'+i)), ds)
			}
			store := orderly{newTwin(perPack, canPunch), held / perPack}
			c, err := New(Config{Store: store, Roots: roots, FS: fs, Dir: "gc"})
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if !row.cached {
					store.generation++
				}
				r, err := c.Run(b.Context(), Options{})
				if err != nil || r.CondemnedChunks != held-marked {
					b.Fatalf("%+v, %v", r, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(marked*row.roots), "ns/chunk")
		})
	}
}

// BenchmarkPin is the price of "pin or miss" per digest, on top of a lookup.
func BenchmarkPin(b *testing.B) {
	store := orderly{newTwin(perPack, canPunch), 4096}
	c, err := New(Config{Store: store, Roots: &memRoots{}, FS: newFiles(), Dir: "gc"})
	if err != nil {
		b.Fatal(err)
	}
	s, err := c.Open("backup", "bench")
	if err != nil {
		b.Fatal(err)
	}
	ds := make([]chunks.Digest, 4096)
	for i := range ds {
		binary.LittleEndian.PutUint32(ds[i][:], uint32(i))
	}
	for b.Loop() {
		if _, err := s.Missing(b.Context(), ds); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(ds)), "ns/chunk")
}
