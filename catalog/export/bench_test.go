package export

import (
	"context"
	"path"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// BenchmarkImport imports 4,000 chunks of 4 KiB: what it costs for each chunk
// beside reading and writing it.
func BenchmarkImport(b *testing.B) {
	src := b.TempDir()
	numbers := make([]int, 4000)
	for i := range numbers {
		numbers[i] = i
	}
	files, blobs := made(b, "vm/1/2026-01-01T00:00:00Z", numbers...)
	for name, data := range files {
		putFile(b, disk.OS{}, path.Join(src, "vm/1/2026-01-01T00:00:00Z", name), data)
	}
	putFile(b, disk.OS{}, path.Join(src, "vm/1/owner"), []byte("root@pam\n"))
	for _, c := range blobs {
		name := path.Join(src, chunksDir, chunkPath(c.Digest))
		putFile(b, disk.OS{}, name, c.Blob)
	}
	for b.Loop() {
		dir := filepath.Join(b.TempDir(), "store")
		if _, err := identity.Init(disk.OS{}, dir, 0); err != nil {
			b.Fatal(err)
		}
		d, err := catalog.Open(context.Background(), catalog.Config{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		r, err := ImportPBS(b.Context(), d, src, ImportOptions{})
		if err != nil || r.Chunks != 4000 {
			b.Fatalf("%+v, %v", r, err)
		}
		if err := d.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/4000, "µs/chunk")
}
