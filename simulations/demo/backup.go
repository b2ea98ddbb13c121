package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// withStore opens the store and its collector for the time of fn.
func withStore(ctx context.Context, dir string, fn func(*pack.Store, *gc.Collector) error) error {
	s, err := pack.Open(ctx, pack.Config{Dir: dir})
	if err != nil {
		return err
	}
	c, err := gc.New(gc.Config{Store: s, Roots: catalog.Roots{FS: disk.OS{}, Dir: dir}, FS: disk.OS{}, Dir: filepath.Join(dir, "gc")})
	if err != nil {
		return errors.Join(err, s.Close())
	}
	return errors.Join(fn(s, c), c.Close(), s.Close())
}

// A snapshot is a tree and an image at one time.
func (d *demo) snapshot(name string) string { return filepath.Join(d.store, "host", "demo", name) }

// backup stores tree and image as the snapshot name.
func (d *demo) backup(ctx context.Context, name string, key *chunks.Key) (total chunks.IngestStats, err error) {
	began := time.Now()
	err = withStore(ctx, d.store, func(_ *pack.Store, c *gc.Collector) error {
		s, err := c.Open("backup", name)
		if err != nil {
			return err
		}
		defer s.Abort()
		enc := chunks.EncodeOptions{Compress: true, Key: key}
		tree, t, err := d.storeTree(ctx, s, enc)
		if err != nil {
			return err
		}
		image, i, err := d.storeImage(ctx, s, enc)
		if err != nil {
			return err
		}
		total = chunks.IngestStats{
			Chunks: t.Chunks + i.Chunks, NewChunks: t.NewChunks + i.NewChunks, Bytes: t.Bytes + i.Bytes,
			NewBytes: t.NewBytes + i.NewBytes, StoredBytes: t.StoredBytes + i.StoredBytes,
		}
		return s.Finish(ctx, []gc.Index{all{tree}, all{image}}, func() error { return d.publish(name, tree, image) })
	})
	took := time.Since(began)
	fmt.Printf("  %s in %d chunks, %d of them new: %s stored; %.1f s, %.0f MB/s\n", size(total.Bytes), total.Chunks,
		total.NewChunks, size(total.StoredBytes), took.Seconds(), float64(total.Bytes)/took.Seconds()/1e6)
	return total, err
}

// all makes an index one that a session can check.
type all struct{ chunks.Index }

func (a all) Digests(ctx context.Context, fn func([]chunks.Digest) error) error {
	return gc.Seq(func(yield func(chunks.Digest) bool) {
		for _, d := range a.All() {
			if !yield(d) {
				return
			}
		}
	}).Digests(ctx, fn)
}

// publish makes the index files of a snapshot durable.
func (d *demo) publish(name string, tree, image chunks.Index) error {
	if err := disk.MkdirAll(disk.OS{}, d.snapshot(name), 0o700); err != nil {
		return err
	}
	return errors.Join(
		disk.WriteFileAtomic(disk.OS{}, filepath.Join(d.snapshot(name), "tree.tar.didx"), tree.Bytes(), 0o600),
		disk.WriteFileAtomic(disk.OS{}, filepath.Join(d.snapshot(name), "disk.img.fidx"), image.Bytes(), 0o600))
}

// storeTree stores the tree as a tar stream.
func (d *demo) storeTree(ctx context.Context, w chunks.Writer, enc chunks.EncodeOptions) (chunks.Index, chunks.IngestStats, error) {
	cmd := exec.CommandContext(ctx, "tar", "--sort=name", "-C", d.tree(), "-cf", "-", ".")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, chunks.IngestStats{}, err
	}
	if err := cmd.Start(); err != nil {
		return nil, chunks.IngestStats{}, err
	}
	src, err := chunks.NewSplitter(out, chunks.ArchiveAverage)
	if err != nil {
		return nil, chunks.IngestStats{}, err
	}
	var b chunks.DynamicBuilder
	stats, err := chunks.Ingest(ctx, w, src, chunks.IngestOptions{Encode: enc}, func(p chunks.Stored) error {
		return b.Append(p.Offset+int64(p.Size), p.Digest)
	})
	if err = errors.Join(err, cmd.Wait()); err != nil {
		return nil, stats, err
	}
	index, err := b.Finish(chunks.NewUUID(), time.Now())
	return index, stats, err
}

func (d *demo) storeImage(ctx context.Context, w chunks.Writer, enc chunks.EncodeOptions) (chunks.Index, chunks.IngestStats, error) {
	f, err := os.Open(d.image())
	if err != nil {
		return nil, chunks.IngestStats{}, err
	}
	defer f.Close()
	src, err := chunks.NewFixedSplitter(f, imageBytes, chunks.SlotSize)
	if err != nil {
		return nil, chunks.IngestStats{}, err
	}
	b, err := chunks.NewFixedBuilder(imageBytes, chunks.SlotSize)
	if err != nil {
		return nil, chunks.IngestStats{}, err
	}
	stats, err := chunks.Ingest(ctx, w, src, chunks.IngestOptions{Encode: enc}, func(p chunks.Stored) error {
		return b.Put(p.Offset, int64(p.Size), p.Digest)
	})
	if err != nil {
		return nil, stats, err
	}
	index, err := b.Finish(chunks.NewUUID(), time.Now())
	return index, stats, err
}

// restoreFile writes the content of an index file of a snapshot and returns
// its SHA-256.
func (d *demo) restoreFile(ctx context.Context, s *pack.Store, name string, key *chunks.Key, to io.Writer) ([32]byte, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return [32]byte{}, err
	}
	index, err := chunks.ParseIndex(b)
	if err != nil {
		return [32]byte{}, err
	}
	sum := sha256.New()
	out := io.MultiWriter(to, sum)
	var blob chunks.Blob
	var plain []byte
	for i, digest := range index.All() {
		if blob, err = s.Get(ctx, digest, blob); err != nil {
			return [32]byte{}, err
		}
		if plain, err = blob.Decode(plain[:0], key); err != nil {
			return [32]byte{}, fmt.Errorf("chunk %d of %s: %w", i, name, err)
		}
		if _, err := out.Write(plain); err != nil {
			return [32]byte{}, err
		}
	}
	return [32]byte(sum.Sum(nil)), nil
}
