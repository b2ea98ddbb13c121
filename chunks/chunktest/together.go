package chunktest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// writers is the number of goroutines that use a store at once; more than it
// will have lanes.
const writers = 8

// concurrentDifferent lets goroutines put, read back and commit at once.
func concurrentDifferent(ctx context.Context, w chunks.Writer) error {
	all := make([][]Chunk, writers)
	g, gctx := errgroup.WithContext(ctx)
	for i := range all {
		all[i] = append(few(uint64(60+i), 40), Blob(uint64(70+i), 100_000))
		g.Go(func() error {
			for n, c := range all[i] {
				if err := putAll(gctx, w, c); err != nil {
					return err
				}
				if err := holds(gctx, w, c); err != nil {
					return err
				}
				if n%16 == i {
					if err := w.Commit(gctx); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, cs := range all {
		if err := holds(ctx, w, cs...); err != nil {
			return err
		}
	}
	return nil
}

// concurrentSame lets goroutines put the same chunks in different orders. A
// chunk is new to exactly one of them.
func concurrentSame(ctx context.Context, w chunks.Writer) error {
	cs := append(few(80, 60), Blob(81, 100_000))
	var fresh atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for i := range writers {
		g.Go(func() error {
			for n := range cs {
				c := cs[(n+i%2*len(cs)/2)%len(cs)]
				known, err := w.Put(gctx, c.Digest, c.Blob)
				if err != nil {
					return err
				}
				if !known {
					fresh.Add(1)
				}
				if err := holds(gctx, w, c); err != nil {
					return err
				}
			}
			return w.Commit(gctx)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if got := fresh.Load(); got != int64(len(cs)) {
		return fmt.Errorf("%d puts of %d chunks from %d goroutines said that the chunk was new, want one each", got, len(cs), writers)
	}
	return holds(ctx, w, cs...)
}

// cancelledHarmsNothing makes every call with a context that has ended. Each
// either does its work or fails with the context's error; the store goes on.
func cancelledHarmsNothing(ctx context.Context, w chunks.Writer) error {
	old, young := Blob(90, 1000), Blob(91, 1000)
	if err := putAll(ctx, w, old); err != nil {
		return err
	}
	if err := w.Commit(ctx); err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	errCommit := w.Commit(ended)
	_, errGet := w.Get(ended, old.Digest, nil)
	_, errMissing := w.Missing(ended, digests([]Chunk{old}))
	_, errPut := w.Put(ended, young.Digest, young.Blob)
	for call, err := range map[string]error{"Commit": errCommit, "Get": errGet, "Missing": errMissing, "Put": errPut} {
		if err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("%s with a cancelled context: %w", call, err)
		}
	}
	nothing := func(chunks.Digest, chunks.Blob, error) error { return nil }
	if err := chunks.GetMany(ended, w, digests([]Chunk{old}), nothing); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("GetMany with a cancelled context: error %v, want %v", err, context.Canceled)
	}
	if known, err := w.Put(ctx, young.Digest, young.Blob); err != nil || errPut == nil && !known {
		return fmt.Errorf("put after a cancelled put that returned error %v: known %v, error %v", errPut, known, err)
	}
	if err := w.Commit(ctx); err != nil {
		return fmt.Errorf("commit after a cancelled one: %w", err)
	}
	return holds(ctx, w, old, young)
}
