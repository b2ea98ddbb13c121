package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// scrubSuite reads cold stores: one that does not compress against the disk,
// one of text against the processor.
func scrubSuite(ctx context.Context, b *bench) error {
	if err := b.scrubSpeed(ctx); err != nil {
		return err
	}
	return b.deepSpeed(ctx)
}

func (b *bench) scrubSpeed(ctx context.Context) error {
	dir, s, err := b.filled(ctx, b.scaled(2048), func(i int) chunktest.Chunk { return chunktest.Blob(uint64(i), 1<<20) })
	if err != nil {
		return err
	}
	defer s.Close()
	ours, theirs, err := paired(b.rounds(5), func() (float64, error) { return scrubOnce(ctx, s, pack.ScrubOptions{}) },
		func() (float64, error) { return readPacks(dir) })
	if err != nil {
		return err
	}
	cold := "cold"
	if !dropCaches() {
		cold = "not cold: that takes root"
	}
	b.atLeast("scrub, 1 MiB chunks, "+cold, ours, theirs, "MB/s", "sequential O_DIRECT reads", 0.8)
	return nil
}

func (b *bench) filled(ctx context.Context, n int, chunk func(int) chunktest.Chunk) (string, *pack.Store, error) {
	dir, err := b.sub("scrub")
	if err != nil {
		return "", nil, err
	}
	s, err := openNew(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	for i := range n {
		c := chunk(i)
		if _, err := s.Put(ctx, c.Digest, c.Blob); err != nil {
			return "", nil, err
		}
	}
	return dir, s, s.Commit(ctx)
}

func scrubOnce(ctx context.Context, s *pack.Store, opt pack.ScrubOptions) (mbps float64, err error) {
	settle()
	dropCaches()
	began := time.Now()
	r, err := s.Scrub(ctx, opt)
	if err != nil || len(r.Damaged) > 0 {
		return 0, fmt.Errorf("scrub: %w, %d damaged", err, len(r.Damaged))
	}
	return float64(r.Bytes) / time.Since(began).Seconds() / 1e6, nil
}

// readPacks reads the pack files one after another in 4 MiB pieces past the
// page cache, as many files at the same time as a scrub does.
func readPacks(dir string) (mbps float64, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "packs", "*", "*.hfpk"))
	if err != nil {
		return 0, err
	}
	settle()
	dropCaches()
	var g errgroup.Group
	g.SetLimit(max(4, 2*runtime.NumCPU()))
	var mu sync.Mutex
	var total int64
	began := time.Now()
	for _, name := range names {
		g.Go(func() error {
			f, err := disk.OS{}.OpenFile(name, os.O_RDONLY|disk.Direct, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			buf, off := disk.AlignedBuffer(4 << 20)[:4<<20], int64(0)
			for {
				n, err := f.ReadAt(buf, off)
				off += int64(n)
				if err != nil || n < len(buf) {
					break
				}
			}
			mu.Lock()
			total += off
			mu.Unlock()
			return nil
		})
	}
	err = g.Wait()
	return float64(total) / time.Since(began).Seconds() / 1e6, err
}

// deepSpeed compares content bytes a second with what the processors can
// decode and hash from memory.
func (b *bench) deepSpeed(ctx context.Context) error {
	const size = 1 << 20
	text := chunktest.Text(7, 64<<20)
	chunk := func(i int) chunktest.Chunk {
		plain := []byte(strings.Clone(string(text[(i%64)*size : (i%64+1)*size])))
		copy(plain, fmt.Sprint("chunk ", i))
		return chunktest.Encode(plain, chunks.EncodeOptions{Compress: true})
	}
	n := b.scaled(3000)
	_, s, err := b.filled(ctx, n, chunk)
	if err != nil {
		return err
	}
	defer s.Close()
	set := make([]chunktest.Chunk, 256)
	for i := range set {
		set[i] = chunk(i)
	}
	ours, theirs, err := paired(b.rounds(5), func() (float64, error) { return deepOnce(ctx, s, n*size) },
		func() (float64, error) { return verifyMemory(set, n, size) })
	if err != nil {
		return err
	}
	b.atLeast("deep verify, text, 1 MiB chunks, cold", ours, theirs, "MB/s of content", "unzstd + SHA-256 from memory", 0.85)
	return nil
}

func deepOnce(ctx context.Context, s *pack.Store, content int) (mbps float64, err error) {
	settle()
	dropCaches()
	began := time.Now()
	r, err := s.Scrub(ctx, pack.ScrubOptions{Deep: true})
	if err != nil || len(r.Damaged) > 0 {
		return 0, fmt.Errorf("deep verify: %w, %d damaged", err, len(r.Damaged))
	}
	return float64(content) / time.Since(began).Seconds() / 1e6, nil
}

func verifyMemory(set []chunktest.Chunk, n, size int) (mbps float64, err error) {
	settle()
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	began := time.Now()
	for i := range runtime.NumCPU() {
		g.Go(func() error {
			var plain []byte
			for j := i; j < n; j += runtime.NumCPU() {
				c := set[j%len(set)]
				var err error
				if plain, err = c.Blob.Decode(plain[:0], nil); err != nil {
					return err
				}
				if chunks.Sum(plain) != c.Digest {
					return fmt.Errorf("chunk %d is wrong", j)
				}
			}
			return nil
		})
	}
	err = g.Wait()
	return float64(n) * float64(size) / time.Since(began).Seconds() / 1e6, err
}
