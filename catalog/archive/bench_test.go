package archive

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// nowhere is a target and sink that keeps nothing, so that what is measured is
// this package and those below it.
type nowhere struct{ known bool }

func (n nowhere) Open(context.Context, string, int64) (Sink, error)           { return n, nil }
func (nowhere) PutBlob(context.Context, string, chunks.Blob) error            { return nil }
func (nowhere) Append(context.Context, chunks.Stored) error                   { return nil }
func (nowhere) Close(context.Context, chunks.Index) error                     { return nil }
func (nowhere) String() string                                                { return "nowhere" }
func (nowhere) Commit(context.Context) error                                  { return nil }
func (n nowhere) Known(chunks.Digest) bool                                    { return n.known }
func (nowhere) Put(context.Context, chunks.Digest, chunks.Blob) (bool, error) { return false, nil }
func (nowhere) Get(context.Context, chunks.Digest, []byte) (chunks.Blob, error) {
	return nil, chunks.ErrMissing
}
func (nowhere) Missing(_ context.Context, want []chunks.Digest) ([]chunks.Digest, error) {
	return want, nil
}

// benchSize is how much is backed up: enough for all buffers to be in use.
const benchSize = 192 << 20

var benchData = sync.OnceValue(func() []byte {
	b := make([]byte, 0, benchSize)
	for seed := uint64(0); len(b) < benchSize; seed += 2 {
		b = append(b, chunktest.Text(seed, 3<<20)...)
		b = append(b, chunktest.Random(seed+1, 1<<20)...)
	}
	return b
})

// BenchmarkCeiling is what the others are measured against: the same bytes,
// from memory, cut, hashed, compressed and summed on all cores.
func BenchmarkCeiling(b *testing.B) {
	data := benchData()
	for _, work := range []string{"all", "known", "fixed"} {
		b.Run(work, func(b *testing.B) {
			b.SetBytes(benchSize)
			for b.Loop() {
				ceiling(b, data, work)
			}
		})
	}
}

func ceiling(b *testing.B, data []byte, work string) {
	pieces := make(chan []byte, runtime.GOMAXPROCS(0))
	var g errgroup.Group
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for p := range pieces {
				chunks.Sum(p)
				if work == "known" {
					continue
				}
				buf := chunks.GetBuffer(len(p))
				blob, err := chunks.Encode(buf.Bytes, p, chunks.EncodeOptions{Compress: true})
				if err != nil {
					return err
				}
				crc32.ChecksumIEEE(blob)
				buf.Free()
			}
			return nil
		})
	}
	scan, err := chunks.NewScanner(chunks.ArchiveAverage)
	if err != nil {
		b.Fatal(err)
	}
	for len(data) > 0 {
		n := min(chunks.SlotSize, len(data))
		if work != "fixed" {
			if n = scan.Scan(data[:min(len(data), scan.Max())]); n == 0 {
				n = len(data)
			}
		}
		pieces <- data[:n]
		data = data[n:]
	}
	close(pieces)
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

func benchBackup(b *testing.B, target Target, s Source) {
	b.SetBytes(benchSize)
	for b.Loop() {
		if _, _, err := Backup(b.Context(), Config{Target: target, Snapshot: testSnapshot, Sources: []Source{s}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBackupImage(b *testing.B) {
	path := writeFile(b, benchData())
	for _, known := range []bool{false, true} {
		b.Run(fmt.Sprintf("known=%v", known), func(b *testing.B) {
			benchBackup(b, nowhere{known}, Source{"disk.img", Image, path})
		})
	}
}

// benchTree is benchData as files of 16 KiB, but for a third of it, which is
// one file.
func benchTree(b *testing.B) string {
	dir, data := b.TempDir(), benchData()
	if err := os.WriteFile(filepath.Join(dir, "large"), data[:benchSize/3], 0o644); err != nil {
		b.Fatal(err)
	}
	data = data[benchSize/3:]
	for i := 0; len(data) > 0; i++ {
		sub := filepath.Join(dir, fmt.Sprint(i/100))
		if i%100 == 0 {
			if err := os.Mkdir(sub, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		n := min(16<<10, len(data))
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), data[:n], 0o644); err != nil {
			b.Fatal(err)
		}
		data = data[n:]
	}
	return dir
}

func BenchmarkBackupTree(b *testing.B) {
	dir := benchTree(b)
	for _, known := range []bool{false, true} {
		b.Run(fmt.Sprintf("known=%v", known), func(b *testing.B) {
			benchBackup(b, nowhere{known}, Source{"root.pxar", Tree, dir})
		})
	}
}

func BenchmarkRestore(b *testing.B) {
	v := newVault()
	v.backup(b, Config{Sources: []Source{{"disk.img", Image, writeFile(b, benchData())}, {"root.pxar", Tree, benchTree(b)}}})
	s := Open(v, Options{Overwrite: true})
	b.Run("image", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "disk")
		b.SetBytes(benchSize)
		for b.Loop() {
			if err := s.Save(b.Context(), "disk.img.fidx", path); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stream", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			if err := s.Stream(b.Context(), "root.pxar.didx", io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tree", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			to := filepath.Join(b.TempDir(), "to")
			if _, err := s.RestoreTree(b.Context(), "root.pxar.didx", to, tree.ExtractOptions{}); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := os.RemoveAll(to); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

func BenchmarkReader(b *testing.B) {
	mem := chunktest.NewMemory()
	x := putDynamic(b, mem, benchData(), chunks.ArchiveAverage, chunks.EncodeOptions{Compress: true})
	b.SetBytes(benchSize)
	for b.Loop() {
		r, err := NewReader(b.Context(), mem, x, nil, ReaderOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.NewSectionReader(r, 0, r.Size()), make([]byte, 1<<20)); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}
