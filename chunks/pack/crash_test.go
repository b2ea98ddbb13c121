package pack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/roots"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

const storeDir = "/store"

// A history is a store with its collector and what was acknowledged to
// clients.
type history struct {
	fs      *disktest.Mem
	store   *pack.Store
	gc      *gc.Collector
	acked   map[string][]uint64 // finished snapshots, by name: seeds of their chunks
	pending string              // the snapshot being published or forgotten: may be there or not
	chunks  int                 // acknowledged in total
}

// open opens the store as a process does that has just started.
func (h *history) open(ctx context.Context) (err error) {
	h.store, err = pack.Open(ctx, pack.Config{FS: h.fs, Dir: storeDir, Lanes: 2, Readers: 2, Reserve: 1, Direct: disk.Always})
	if err != nil {
		return err
	}
	h.store.SetPackBytes(400 << 10)
	h.gc, err = gc.New(gc.Config{
		Store: h.store, Roots: roots.Roots{FS: h.fs, Dir: storeDir}, FS: h.fs, Dir: path.Join(storeDir, "gc"),
	})
	return err
}

func (h *history) close() error { return errors.Join(h.gc.Close(), h.store.Close()) }

// chunk makes the chunk of a seed: small ones, and some that begin on a block.
func chunk(seed uint64) chunktest.Chunk {
	if c, ok := made.Load(seed); ok {
		return c.(chunktest.Chunk)
	}
	size := 700 + int(seed%7)*1111
	if seed%3 == 0 {
		size = 66<<10 + int(seed%5)*4096
	}
	c := chunktest.Blob(seed, size)
	made.Store(seed, c)
	return c
}

var made sync.Map // chunks by seed: making them takes longer than storing them

func indexName(snapshot string) string { return path.Join(storeDir, "host", snapshot, "data.didx") }

// backup stores a snapshot of the chunks of seeds.
func (h *history) backup(ctx context.Context, name string, seeds ...uint64) error {
	s, err := h.gc.Open("backup", name)
	if err != nil {
		return err
	}
	defer s.Abort()
	var b chunks.DynamicBuilder
	var digests []chunks.Digest
	for _, seed := range seeds {
		c := chunk(seed)
		if _, err := s.Put(ctx, c.Digest, c.Blob); err != nil {
			return err
		}
		digests = append(digests, c.Digest)
		if err := b.Append(b.End()+int64(len(c.Blob)), c.Digest); err != nil {
			return err
		}
	}
	index, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		return err
	}
	h.pending = name
	needs := gc.Seq(func(yield func(chunks.Digest) bool) {
		for _, d := range digests {
			if !yield(d) {
				return
			}
		}
	})
	err = s.Finish(ctx, []gc.Index{needs}, func() error {
		if err := disk.MkdirAll(h.fs, path.Dir(indexName(name)), 0o700); err != nil {
			return err
		}
		return disk.WriteFileAtomic(h.fs, indexName(name), index.Bytes(), 0o600)
	})
	if err == nil {
		h.acked[name], h.pending = seeds, ""
		h.chunks += len(seeds)
	}
	return err
}

func (h *history) forget(name string) error {
	h.pending = name
	delete(h.acked, name)
	if err := h.fs.Remove(indexName(name)); err != nil {
		return err
	}
	if err := h.fs.SyncDir(path.Dir(indexName(name))); err != nil {
		return err
	}
	h.pending = ""
	return nil
}

func (h *history) collect(ctx context.Context) error {
	_, err := h.gc.Run(ctx, gc.Options{Urgent: true})
	return err
}

func span(from, to uint64) (seeds []uint64) {
	for s := from; s < to; s++ {
		seeds = append(seeds, s)
	}
	return seeds
}

// run is the scripted history: backups that share chunks, forgets, garbage
// collections that condemn and reclaim, chunks that come back, a clean stop
// and a start.
func (h *history) run(ctx context.Context) error {
	steps := []func() error{
		func() error { _, err := identity.Init(h.fs, storeDir, 0); return err },
		func() error { return h.open(ctx) },
		func() error { return h.backup(ctx, "a", span(0, 12)...) },
		func() error { return h.backup(ctx, "b", span(6, 24)...) },
		func() error { return h.forget("a") },
		func() error { return h.collect(ctx) },
		func() error { return h.backup(ctx, "c", append(span(0, 4), span(20, 30)...)...) },
		h.close,
		func() error { return h.open(ctx) },
		func() error { return h.forget("b") },
		func() error { return h.backup(ctx, "d", append(span(10, 16), span(30, 36)...)...) },
		func() error { return h.collect(ctx) },
		func() error { return h.collect(ctx) },
		func() error { return h.backup(ctx, "e", span(4, 9)...) },
		h.close,
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// check opens the store after a crash, without any help, and looks at
// everything that was acknowledged.
func (h *history) check(ctx context.Context) error {
	if _, err := h.fs.Stat(path.Join(storeDir, identity.File)); errors.Is(err, os.ErrNotExist) && len(h.acked) == 0 {
		_, err := identity.Init(h.fs, storeDir, 0) // crashed in Init, which may be repeated
		if err != nil {
			return err
		}
	}
	if err := h.open(ctx); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := h.verify(ctx); err != nil {
		return fmt.Errorf("after opening: %w", err)
	}
	if err := h.collect(ctx); err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	if err := h.verify(ctx); err != nil {
		return fmt.Errorf("after a collection: %w", err)
	}
	if err := h.backup(ctx, "after", append(span(0, 8), span(40, 44)...)...); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	report, err := h.store.Scrub(ctx, pack.ScrubOptions{Deep: true})
	if err != nil || len(report.Damaged) > 0 {
		return fmt.Errorf("scrub: %w, %+v", err, report.Damaged)
	}
	if err := h.close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := h.open(ctx); err != nil {
		return fmt.Errorf("open again: %w", err)
	}
	if err := h.verify(ctx); err != nil {
		return fmt.Errorf("after a clean stop: %w", err)
	}
	return h.close()
}

// verify compares every acknowledged snapshot, and the one that may or may
// not be there if it is.
func (h *history) verify(ctx context.Context) error {
	for name, seeds := range h.acked {
		b, err := disk.ReadFile(h.fs, indexName(name), 1<<20)
		if err != nil {
			return fmt.Errorf("snapshot %s: %w", name, err)
		}
		index, err := chunks.ParseIndex(b)
		if err != nil || index.Len() != len(seeds) {
			return fmt.Errorf("snapshot %s has a bad index: %w", name, err)
		}
		for i, seed := range seeds {
			got, err := h.store.Get(ctx, index.Digest(i), nil)
			if err != nil {
				return fmt.Errorf("snapshot %s: %w", name, err)
			}
			if !bytes.Equal(got, chunk(seed).Blob) {
				return fmt.Errorf("snapshot %s: chunk %d came back different", name, i)
			}
		}
	}
	return nil
}

// A crash at every write, sync, rename, hole and cloned range of a scripted
// history, and at a random moment of the recovery after it, loses no
// acknowledged chunk and needs no hand.
func TestCrashAnywhere(t *testing.T) {
	for _, tt := range []struct {
		name    string
		without disk.Abilities
	}{
		{"punching holes", disk.Abilities{}},
		{"sharing blocks", disk.Abilities{Punch: true}},
		{"copying", disk.Abilities{Punch: true, Clone: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			total := runCrashing(t, tt.without, 0).fs.Ops()
			step, seeds, crashes, acked := 1, uint64(1), 0, 0
			switch {
			case raceEnabled:
				step = 11
			case os.Getenv("HOLDFAST_SOAK") != "":
				seeds = 50
			}
			making := makingOps(t)
			for at := 1; at <= total; at += step {
				if at < making-40 {
					at += 25 // one directory after the other
				}
				for seed := range seeds {
					h := runCrashing(t, tt.without, at)
					crashes++
					acked += h.chunks
					checkCrashed(t, h, at, seed+uint64(at%2), tt.without)
					if t.Failed() {
						return
					}
				}
			}
			t.Logf("%d crashes at %d operations, %d acknowledged chunks, 0 lost, 0 needed a hand", crashes, total, acked)
		})
	}
}

// makingOps returns how many operations it takes to make a store.
func makingOps(t *testing.T) int {
	fs := disktest.NewMem()
	if _, err := identity.Init(fs, storeDir, 0); err != nil {
		t.Fatal(err)
	}
	return fs.Ops()
}

// runCrashing runs the history until the operation at, or to its end.
func runCrashing(t *testing.T, without disk.Abilities, at int) *history {
	t.Helper()
	h := &history{fs: disktest.NewMem(), acked: map[string][]uint64{}}
	h.fs.Disable(without)
	if at > 0 {
		h.fs.FailAt(at, disktest.ErrCrashed)
	}
	err := h.run(t.Context())
	// After the crash any call may fail in any way; before it none may.
	_, crashed := h.fs.Stat("/")
	if err != nil && !errors.Is(crashed, disktest.ErrCrashed) {
		t.Fatalf("before operation %d of the history: %v", at, err)
	}
	return h
}

// checkCrashed lets the power come back, cuts it again during the recovery,
// and then looks.
func checkCrashed(t *testing.T, h *history, at int, seed uint64, without disk.Abilities) {
	t.Helper()
	crashed := h.fs
	switch seed {
	case 0:
		h.fs = crashed.CrashLosing()
	case 1:
		h.fs = crashed.CrashKeeping()
	default:
		h.fs = crashed.Crash(seed)
		h.fs.Disable(without)
		h.fs.FailAt(1+rand.New(rand.NewPCG(seed, uint64(at))).IntN(60), disktest.ErrCrashed)
		if err := h.open(t.Context()); err == nil {
			h.collect(t.Context()) // may meet the end of the world or not
		}
		h.fs = h.fs.Crash(seed)
	}
	h.fs.Disable(without)
	if err := h.check(t.Context()); err != nil {
		t.Errorf("crash at operation %d, seed %d: %v", at, seed, err)
	}
}
