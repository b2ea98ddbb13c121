package gc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

var _ Store = (*pack.Store)(nil)

// largeChunk is the i-th of chunks so large that 26 of them fill a pack.
var largeChunk = func() func(int) chunktest.Chunk {
	var all [40]func() chunktest.Chunk
	for i := range all {
		all[i] = sync.OnceValue(func() chunktest.Chunk {
			return chunktest.Encode(chunktest.Random(uint64(i), 600<<10), chunks.EncodeOptions{})
		})
	}
	return func(i int) chunktest.Chunk { return all[i]() }
}()

// machine runs a real store and its collector on a disk that loses power.
type machine struct {
	mem   *disktest.Mem
	roots *memRoots
	rng   *rand.Rand
	names int
	freed int64
	lives int
}

// TestRealStoreLosesNothing runs backups, forgetting and collections on a
// store of packs, cuts the power at some call to the file system, and wants
// every published snapshot whole when the store opens again; several times
// over on the same disk.
func TestRealStoreLosesNothing(t *testing.T) {
	for i, off := range []disk.Abilities{{}, {Punch: true}, {Punch: true, Clone: true}} {
		t.Run(fmt.Sprintf("without %+v", off), func(t *testing.T) {
			seeds := uint64(4)
			if racing {
				seeds = 1
			}
			freed := int64(0)
			// How long a life is decides the scheduler as well: go on until
			// one was long enough to collect something.
			for seed := uint64(0); seed < seeds || freed == 0 && seed < 40; seed++ {
				m := &machine{mem: disktest.NewMem(), roots: &memRoots{}, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
				m.mem.Disable(off)
				if _, err := identity.Init(m.mem, "store", identity.MinPackBytes); err != nil {
					t.Fatal(err)
				}
				for range 6 {
					if err := m.live(); err != nil {
						t.Fatalf("seed %d, life %d: %v", seed, m.lives, err)
					}
				}
				freed += m.freed
			}
			t.Logf("%d MiB were given back", freed>>20)
			if freed == 0 {
				t.Error("no collection gave anything back: the test tests nothing")
			}
		})
	}
}

// What a backup that was given up has left in a pack that is still being written
// goes with the next collection, whether the process goes on or starts anew.
func TestWhatWasGivenUpIsCollected(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("after a start %v", again), func(t *testing.T) {
			ctx, mem := t.Context(), disktest.NewMem()
			if _, err := identity.Init(mem, "store", identity.MinPackBytes); err != nil {
				t.Fatal(err)
			}
			open := func() (*pack.Store, *Collector) {
				store, err := pack.Open(ctx, pack.Config{FS: mem, Dir: "store", Reserve: 1})
				if err != nil {
					t.Fatal(err)
				}
				c, err := New(Config{Store: store, Roots: &memRoots{}, FS: mem, Dir: "store/gc"})
				if err != nil {
					t.Fatal(err)
				}
				return store, c
			}
			store, c := open()
			s, err := c.Open("backup", "vm/100")
			if err != nil {
				t.Fatal(err)
			}
			var sent int64
			for i := range 5 {
				x := largeChunk(i)
				if _, err := s.Put(ctx, x.Digest, x.Blob); err != nil {
					t.Fatal(err)
				}
				sent += int64(len(x.Blob))
			}
			s.Abort()
			if again {
				if err := store.Close(); err != nil {
					t.Fatal(err)
				}
				store, c = open()
			}
			defer store.Close()
			r, err := c.Run(ctx, Options{})
			if err != nil || r.RemovedChunks != 5 || r.RemovedBytes < sent {
				t.Errorf("removed %d chunks, %d bytes of %d, %v", r.RemovedChunks, r.RemovedBytes, sent, err)
			}
			if packs := store.Packs(); len(packs) > 0 {
				t.Errorf("packs are left: %+v", packs)
			}
			x := largeChunk(1)
			if known, err := store.Put(ctx, x.Digest, x.Blob); known || err != nil {
				t.Errorf("put again: %v, %v", known, err)
			}
		})
	}
}

// live starts the machine, checks what is there, works, and cuts the power.
func (m *machine) live() error {
	ctx := context.Background()
	m.lives++
	store, err := pack.Open(ctx, pack.Config{FS: m.mem, Dir: "store", Reserve: 1})
	if err != nil {
		return err
	}
	c, err := New(Config{Store: store, Roots: m.roots, FS: m.mem, Dir: "store/gc"})
	if err != nil {
		return err
	}
	if err := m.check(ctx, store); err != nil {
		return err
	}
	m.mem.FailAt(m.mem.Ops()+20+m.rng.IntN(400), disktest.ErrCrashed)
	for !m.mem.Crashed() {
		if err := m.work(ctx, c); err != nil && !m.mem.Crashed() {
			return err
		}
	}
	store.Close() // fails; it lets go of goroutines and memory
	m.mem = m.mem.Crash(m.rng.Uint64())
	return nil
}

func (m *machine) check(ctx context.Context, store *pack.Store) error {
	for _, r := range m.roots.all {
		for _, d := range r.digests {
			b, err := store.Get(ctx, d, nil)
			if err == nil {
				err = b.Verify(d, nil)
			}
			if err != nil {
				return fmt.Errorf("snapshot %s: %w", r.id, err)
			}
			if _, ok := store.Lookup(d); !ok {
				return fmt.Errorf("snapshot %s: the store denies chunk %s", r.id, d.Short())
			}
		}
	}
	return nil
}

// work makes a snapshot while a collection runs, and forgets an old one.
func (m *machine) work(ctx context.Context, c *Collector) error {
	var collection sync.WaitGroup
	var failed error
	collection.Go(func() {
		var r Report
		r, failed = c.Run(ctx, Options{Urgent: true})
		m.freed += r.RemovedBytes
	})
	err := m.backup(ctx, c)
	collection.Wait()
	if n := len(m.roots.all); n > 2 {
		m.roots.forget(m.roots.all[m.rng.IntN(n)])
	}
	return errors.Join(err, failed)
}

func (m *machine) backup(ctx context.Context, c *Collector) error {
	s, err := c.Open("backup", "vm/100")
	if err != nil {
		return err
	}
	defer s.Abort()
	var ds []chunks.Digest
	for range 1 + m.rng.IntN(20) {
		x := largeChunk(m.rng.IntN(40))
		if _, err := s.Put(ctx, x.Digest, x.Blob); err != nil {
			return err
		}
		ds = append(ds, x.Digest)
	}
	return s.Finish(ctx, []Index{Seq(slices.Values(ds))}, func() error {
		m.names++
		m.roots.add(fmt.Sprintf("s%d", m.names), ds)
		return nil
	})
}
