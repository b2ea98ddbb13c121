package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
)

func allocated(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// limits compares the backup of image and tree with what the processor can do
// with the same bytes in memory: split, SHA-256, zstd, CRC, on all cores.
func (b *bench) limits(ctx context.Context) error {
	image, err := os.ReadFile(b.image(1))
	if err != nil {
		return err
	}
	limit := computeLimit(image)
	store := b.repository("image")
	if _, err := b.holdfast(ctx, store, "datastore", "init", store); err != nil {
		return err
	}
	settle()
	t, err := b.holdfast(ctx, store, "backup", "-q", "disk.img:"+b.image(1), "--backup-id", "image")
	if err != nil {
		return err
	}
	b.against("first backup of the image", t, limit, 0.8)
	b.atMost("peak memory of that backup", float64(t.rss)/(1<<20), 300, "MiB")
	if err := os.RemoveAll(store); err != nil {
		return err
	}
	tree, err := readTree(b.tree())
	if err != nil {
		return err
	}
	limit = computeLimit(tree)
	tree = nil
	runtime.GC()
	for _, state := range []struct {
		name string
		want float64
	}{{"warm", 0.8}, {"cold", 0.6}} {
		if _, err := b.holdfast(ctx, store, "datastore", "init", store); err != nil {
			return err
		}
		warm(b.tree())
		settle()
		if state.name == "cold" && !cold() {
			state.name = "cold (caches could not be dropped)"
		}
		t, err := b.holdfast(ctx, store, "backup", "-q", "tree.pxar:"+b.tree(), "--backup-id", "tree")
		if err != nil {
			return err
		}
		b.against("first backup of the tree, "+state.name, t, limit, state.want)
		if err := os.RemoveAll(store); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) against(what string, t timing, limit time.Duration, want float64) {
	r := limit.Seconds() / t.took.Seconds()
	b.row(what, t.took.Seconds(), limit.Seconds(), "s", "the processor's limit", r, fmt.Sprintf(">= %g", want), r >= want)
}

// readTree returns the content of all files of a tree, one after the other.
func readTree(dir string) (all []byte, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	})
	return all, err
}

// computeLimit splits, names and encodes data on all cores, each its part.
func computeLimit(data []byte) time.Duration {
	n := runtime.GOMAXPROCS(0)
	began := time.Now()
	var g errgroup.Group
	for i := range n {
		part := data[i*len(data)/n : (i+1)*len(data)/n]
		g.Go(func() error {
			scan, err := chunks.NewScanner(chunks.ArchiveAverage)
			if err != nil {
				return err
			}
			var buf []byte
			for len(part) > 0 {
				at := scan.Scan(part)
				if at == 0 {
					at = len(part)
				}
				_ = chunks.Sum(part[:at])
				if buf, err = chunks.Encode(buf[:0], part[:at], chunks.EncodeOptions{Compress: true}); err != nil {
					return err
				}
				part = part[at:]
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		panic(err) // of data that we made
	}
	return time.Since(began)
}

// readLimit reads all files, splits them and computes SHA-256 on all cores:
// the least that a backup of unchanged files must do.
func (b *bench) readLimit(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	pieces := make(chan []byte, 4)
	g, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for p := range pieces {
				_ = chunks.Sum(p)
			}
			return nil
		})
	}
	r, w := io.Pipe()
	g.Go(func() error { return w.CloseWithError(copyTree(w, b.tree())) })
	g.Go(func() error {
		defer close(pieces)
		split, err := chunks.NewSplitter(r, chunks.ArchiveAverage)
		if err != nil {
			return err
		}
		for {
			p, err := split.Next(nil)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			select {
			case pieces <- p.Data:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	err := g.Wait()
	return time.Since(began), err
}

func copyTree(w io.Writer, dir string) error {
	buf := make([]byte, 1<<20)
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{f}, buf)
		return err
	})
}

// makeSnapshots writes the directories of many small snapshots.
func (b *bench) makeSnapshots(store string) (n int, err error) {
	groups := max(1, int(1000*b.scale))
	blob, err := chunks.Encode(nil, []byte("cores: 2\n"), chunks.EncodeOptions{Compress: true})
	if err != nil {
		return 0, err
	}
	for g := range groups {
		group := naming.Group{Type: naming.VM, ID: fmt.Sprint(100 + g)}
		dir := filepath.Join(store, group.Path())
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return n, err
		}
		if err := os.WriteFile(filepath.Join(dir, "owner"), []byte("root@pam\n"), 0o644); err != nil {
			return n, err
		}
		for i := range 100 {
			s := naming.Snapshot{Group: group, Time: int64(1_700_000_000 + 86_400*i + g)}
			if err := writeSnapshot(store, s, blob); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

func writeSnapshot(store string, s naming.Snapshot, blob chunks.Blob) error {
	dir := filepath.Join(store, s.Path())
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	m := manifest.New(s)
	if err := m.Add(manifest.File{Name: "qemu-server.conf.blob", Size: uint64(len(blob)), Csum: chunks.Sum(blob)}); err != nil {
		return err
	}
	b, err := m.Blob()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "qemu-server.conf.blob"), blob, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, manifest.Name), b, 0o644)
}
