//go:build linux && !386 && !arm && !mips && !mipsle

package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// counted counts the chunks that are read.
type counted struct {
	*chunktest.Memory
	gets atomic.Int64
}

func (c *counted) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	c.gets.Add(1)
	return c.Memory.Get(ctx, d, buf)
}

// stored cuts raw into chunks and returns them, and an index.
func stored(t testing.TB, raw []byte) (*counted, chunks.Index) {
	t.Helper()
	m := &counted{Memory: chunktest.NewMemory()}
	cut, err := chunks.NewSplitter(bytes.NewReader(raw), 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	var b chunks.DynamicBuilder
	_, err = chunks.Ingest(t.Context(), m, cut, chunks.IngestOptions{Encode: chunks.EncodeOptions{Compress: true}}, func(s chunks.Stored) error {
		return b.Append(s.Offset+int64(s.Size), s.Digest)
	})
	if err != nil {
		t.Fatal(err)
	}
	x, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return m, x
}

func reader(t testing.TB, src chunks.Source, x chunks.Index) *archive.Reader {
	t.Helper()
	r, err := archive.NewReader(context.Background(), src, x, nil, archive.ReaderOptions{Archive: "root.pxar.didx", Ahead: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestAFileIsReadWithoutTheOthers(t *testing.T) {
	var items []item
	for i := range 8 {
		items = append(items, item{path: fmt.Sprintf("%d/", i), mode: typeDir | 0o755})
		for j := range 4 {
			items = append(items, item{path: fmt.Sprintf("%d/%d", i, j), mode: typeFile | 0o644, content: random(uint64(8*i+j), 300<<10)})
		}
	}
	raw := build(t, items)
	src, x := stored(t, raw)
	m := show(t, Content{Flat: true, Parts: []Part{{Archive: archiveOf(t, reader(t, src, x), len(raw))}}}, Options{})
	got, err := os.ReadFile(filepath.Join(m.dir, "3/2"))
	if err != nil || !bytes.Equal(got, random(26, 300<<10)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if n := src.gets.Load(); n > int64(x.Len())/4 {
		t.Errorf("%d of %d chunks were read for one file of 32", n, x.Len())
	}
}

func TestAMissingChunkSparesTheRestOfTheFile(t *testing.T) {
	content := random(1, 2<<20)
	raw := build(t, []item{{path: "a", mode: typeFile | 0o644, content: content}, {path: "b", mode: typeFile | 0o644, content: []byte("sound")}})
	src, x := stored(t, raw)
	gone, _ := x.Find(int64(len(raw)) / 2)
	start, end := x.Range(gone)
	src.Forget(x.Digest(gone))
	var log bytes.Buffer
	m := show(t, Content{Flat: true, Parts: []Part{{Archive: archiveOf(t, reader(t, src, x), len(raw))}}},
		Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	f, err := os.Open(filepath.Join(m.dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := int64(bytes.Index(raw, content[:100])) // of the content in the archive
	for off := int64(0); off < int64(len(content)); off += 4096 {
		buf := make([]byte, 4096)
		_, err := f.ReadAt(buf, off)
		if hit := at+off < end && at+off+4096 > start; hit != errors.Is(err, syscall.EIO) {
			t.Fatalf("page at %d: %v; bytes %d to %d are lost", off, err, start-at, end-at)
		} else if !hit && (err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(buf, content[off:][:4096])) {
			t.Fatalf("page at %d: wrong content, %v", off, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(m.dir, "b")); err != nil || string(b) != "sound" {
		t.Errorf("the file beside it: %q, %v", b, err)
	}
	f.Close()
	m.end(t)
	if n := strings.Count(log.String(), "\n"); !strings.Contains(log.String(), "file=/a") || !strings.Contains(log.String(), x.Digest(gone).Short()) || n > 5 {
		t.Errorf("log has %d lines:\n%s", n, &log)
	}
}

func TestADirectoryThatIsDamagedListsTheRest(t *testing.T) {
	var items []item
	for i := range 50 {
		items = append(items, item{path: fmt.Sprintf("file-%02d", i), mode: typeFile | 0o644, content: random(uint64(i), 20<<10)})
	}
	raw := build(t, items)
	hole := int64(bytes.Index(raw, []byte("file-20")))
	m := show(t, Content{Flat: true, Parts: []Part{{Archive: archiveOf(t, broken{bytes.NewReader(raw), hole, hole + 1}, len(raw))}}}, Options{})
	entries, err := os.ReadDir(m.dir)
	if !errors.Is(err, syscall.EIO) || len(entries) < 40 || len(entries) >= 50 {
		t.Errorf("%d entries, %v; want most of 50, and EIO", len(entries), err)
	}
}

// BenchmarkImage reads an image from chunks in memory through the kernel, as
// one program does from the front to the back.
func BenchmarkImage(b *testing.B) {
	raw := chunktest.Text(1, 64<<20)
	src, x := stored(b, raw)
	r, err := archive.NewReader(context.Background(), src, x, nil, archive.ReaderOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		b.StopTimer()
		m := show(b, Content{Parts: []Part{{Name: "a.img", File: r, Size: int64(len(raw))}}}, Options{})
		f, err := os.Open(filepath.Join(m.dir, "a.img"))
		if err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, 1<<20)
		b.StartTimer()
		for err == nil {
			_, err = f.Read(buf)
		}
		b.StopTimer()
		f.Close()
		m.end(b)
		b.StartTimer()
	}
}
