package gc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// crowd is a site at which many work at once. A snapshot that a goroutine
// holds is not forgotten by another.
type crowd struct {
	*site

	mu sync.Mutex

	snapshots []*memRoot
}

// TestManyAtOnce lets backups, restores, forgetting and collections run at the
// same time, and wants every snapshot whole whenever somebody looks.
func TestManyAtOnce(t *testing.T) {
	for _, can := range []pack.Abilities{{Punch: true}, {}, {Clone: true}} {
		t.Run(fmt.Sprintf("%+v", can), func(t *testing.T) {
			c := &crowd{site: newSite(t, 5, can)}
			ctx, cancel := context.WithCancel(t.Context())
			var workers, collector sync.WaitGroup
			for id := range uint64(4) {
				workers.Go(func() {
					if err := c.work(ctx, id); err != nil {
						t.Errorf("worker %d: %v", id, err)
					}
				})
			}
			runs, removed := 0, int64(0)
			collector.Go(func() {
				for ; ctx.Err() == nil; runs++ {
					r, err := c.Run(ctx, Options{Urgent: true})
					removed += r.RemovedChunks
					if err != nil && ctx.Err() == nil {
						t.Error(err)
						return
					}
				}
			})
			workers.Wait()
			cancel()
			collector.Wait()
			c.end(t)
			t.Logf("%d collections, %d chunks removed", runs, removed)
			if removed == 0 {
				t.Error("nothing was ever removed: the test tests nothing")
			}
		})
	}
}

// work makes, reads and forgets snapshots of a few chunks that all share.
func (c *crowd) work(ctx context.Context, id uint64) error {
	rng := rand.New(rand.NewPCG(id, 1))
	rounds := 400
	if racing {
		rounds = 100
	}
	for i := range rounds {
		var all []int
		for range 1 + rng.IntN(4) {
			all = append(all, rng.IntN(100))
		}
		if err := c.makeSnapshot(ctx, fmt.Sprintf("%d-%d", id, i), all, rng); err != nil {
			return err
		}
		if err := c.readOne(ctx, rng); err != nil {
			return err
		}
		c.forgetOne(rng)
	}
	return nil
}

func (c *crowd) makeSnapshot(ctx context.Context, name string, all []int, rng *rand.Rand) error {
	s, err := c.Open("backup", name)
	if err != nil {
		return err
	}
	defer s.Abort()
	for _, i := range all {
		if rng.IntN(2) == 0 && s.Known(chunk(i).Digest) {
			continue
		}
		if _, err := s.Put(ctx, chunk(i).Digest, chunk(i).Blob); err != nil {
			return err
		}
	}
	if rng.IntN(3) == 0 {
		if err := s.Commit(ctx); err != nil {
			return err
		}
	}
	if rng.IntN(8) == 0 {
		return nil // aborted
	}
	return s.Finish(ctx, index(all...), func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.snapshots = append(c.snapshots, c.roots.add(name, digestsOf(all...)))
		return nil
	})
}

// readOne restores a snapshot, which may be forgotten meanwhile.
func (c *crowd) readOne(ctx context.Context, rng *rand.Rand) error {
	s, err := c.Open("restore", "somebody")
	if err != nil {
		return err
	}
	defer s.Abort()
	c.mu.Lock()
	if len(c.snapshots) == 0 {
		c.mu.Unlock()
		return nil
	}
	r := c.snapshots[rng.IntN(len(c.snapshots))]
	missing, err := s.Missing(ctx, r.digests)
	c.mu.Unlock() // from here on only the pins hold it
	if err != nil || len(missing) > 0 {
		return fmt.Errorf("snapshot %s lacks %d chunks: %w", r.id, len(missing), err)
	}
	return chunks.GetMany(ctx, s, r.digests, func(d chunks.Digest, b chunks.Blob, err error) error {
		if err == nil && b.Verify(d, nil) != nil {
			err = errors.New("its bytes are wrong")
		}
		if err != nil {
			return fmt.Errorf("snapshot %s, chunk %s: %w", r.id, d.Short(), err)
		}
		return nil
	})
}

func (c *crowd) forgetOne(rng *rand.Rand) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.snapshots); n > 3 {
		i := rng.IntN(n)
		c.roots.forget(c.snapshots[i])
		c.snapshots = append(c.snapshots[:i], c.snapshots[i+1:]...)
	}
}

// end checks that one more collection leaves exactly what is needed.
func (c *crowd) end(t *testing.T) {
	c.ok(c.store.Commit(context.Background()))
	c.collect(Options{Urgent: true})
	want := map[chunks.Digest]bool{}
	for _, r := range c.snapshots {
		for _, d := range r.digests {
			want[d] = true
		}
	}
	got := c.store.liveDigests()
	if len(got) != len(want) {
		t.Errorf("%d entries live, want %d", len(got), len(want))
	}
	for _, d := range got {
		if !want[d] {
			t.Errorf("chunk %s lives and nobody needs it", d.Short())
		}
	}
}
