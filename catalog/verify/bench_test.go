package verify

import (
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// filled returns a datastore with one image of 64 chunks of 2 MiB.
func filled(b *testing.B) (w *world, bytes int64) {
	b.Helper()
	w = newWorld(b)
	a := arch{name: "disk.pxar.didx", mode: manifest.None}
	for i := range 64 {
		c := chunktest.Encode(chunktest.Text(uint64(i), 2<<20), chunks.EncodeOptions{Compress: true})
		a.chunks, bytes = append(a.chunks, c), bytes+int64(len(c.Blob))
		a.sizes = append(a.sizes, 2<<20)
	}
	w.backup(snap(b, "vm/100", 1), nil, a)
	w.reopen()
	return w, bytes
}

// BenchmarkVerify counts stored bytes, as the benchmark of the scrub beside it,
// which decodes the same chunks and knows nothing of snapshots.
func BenchmarkVerify(b *testing.B) {
	w, bytes := filled(b)
	b.SetBytes(bytes)
	for b.Loop() {
		if r := w.verify(Options{}); r.OK != 1 {
			b.Fatalf("report %+v", r)
		}
	}
}

func BenchmarkDeepScrub(b *testing.B) {
	w, bytes := filled(b)
	b.SetBytes(bytes)
	for b.Loop() {
		if _, err := w.Local().Scrub(b.Context(), pack.ScrubOptions{Deep: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkScan looks at an index of which every chunk is known, as most are
// when many snapshots are verified.
func BenchmarkScan(b *testing.B) {
	w, _ := filled(b)
	v, err := New(w.Datastore, Options{})
	w.must(err)
	if _, err := v.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if r, err := v.Run(b.Context()); err != nil || r.Chunks != 0 {
			b.Fatalf("report %+v, %v", r, err)
		}
	}
}
