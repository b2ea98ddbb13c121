package cache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

func open(t testing.TB, cfg Config) *Cache {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// onDisk returns what the files of a cache occupy, in blocks, and how many
// they are.
func onDisk(t testing.TB, dir string) (bytes int64, files int) {
	t.Helper()
	err := filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return nil // it went while we looked
		}
		bytes += disk.Allocated(disk.OS{}, name)
		files++
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return bytes, files
}

func TestRoundTripAndReopen(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Config{Dir: dir, Bound: 4 << 20})
	var cs []chunktest.Chunk
	for i := range uint64(20) {
		k := chunktest.Blob(i, 50_000)
		c.Put(k.Digest, k.Blob)
		cs = append(cs, k)
	}
	for range 2 {
		for _, k := range cs {
			if b, ok := c.Get(k.Digest, nil); !ok || !bytes.Equal(b, k.Blob) {
				t.Fatalf("chunk %s: %t", k.Digest.Short(), ok)
			}
		}
		if _, ok := c.Get(chunks.Digest{}, nil); ok {
			t.Error("what was never put is there")
		}
		if _, err := Open(Config{Dir: dir, Bound: 4 << 20}); err == nil {
			t.Error("the directory was opened twice")
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c = open(t, Config{Dir: dir, Bound: 4 << 20})
	}
}

// At no moment do the files take more blocks than the bound, also with 64 at
// work, pins, and a bound that changes.
func TestNeverOverTheBound(t *testing.T) {
	const bound = 8 << 20
	c := open(t, Config{Bound: bound})
	var most atomic.Int64
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			n, files := onDisk(t, c.cfg.Dir)
			most.Store(max(most.Load(), n))
			if files > bound>>24+64 {
				t.Errorf("%d files", files)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for range 15 {
				k := chunktest.Blob(rng.Uint64N(300), 1000+rng.IntN(200_000))
				if _, ok := c.Get(k.Digest, nil); !ok {
					c.Put(k.Digest, k.Blob)
				}
			}
			if w%8 == 0 {
				_ = c.Pin(fmt.Sprint(w), chunktest.Random(uint64(w), 100_000))
			}
		})
	}
	wg.Wait()
	close(stop)
	<-watched
	if most.Load() > bound || most.Load() < bound/2 {
		t.Errorf("the files took up to %d bytes of %d", most.Load(), bound)
	}
	for _, smaller := range []int64{6 << 20, 4 << 20} {
		if err := c.Resize(smaller); err != nil {
			t.Fatal(err)
		}
		if n, _ := onDisk(t, c.cfg.Dir); n > smaller || c.Stats().Used > smaller {
			t.Errorf("after a resize to %d the files take %d", smaller, n)
		}
	}
	if err := c.Resize(1 << 20); err == nil && c.Stats().Pinned > 256<<10 {
		t.Error("a bound below four times of what is pinned was accepted")
	}
}

// A scan of everything must not push out what people use: the trace is that
// of browsing, restores, and verifies that were not bypassed.
func TestBetterThanLRU(t *testing.T) {
	const universe, size, share = 3000, 2000, 12
	trace := traceOf(universe, 60_000)
	bound := int64(universe*(size+headSize)/share) + 40*fileCost
	c := open(t, Config{Bound: max(bound, minBound), Segment: 16 << 10})
	room := 0
	hits := 0
	body := chunktest.Random(1, size)
	for _, id := range trace {
		d := chunks.Sum(fmt.Append(nil, id))
		if _, ok := c.Get(d, nil); ok {
			hits++
			continue
		}
		c.Put(d, body)
		room = max(room, c.Stats().Chunks)
	}
	lru := simulateLRU(trace, room)
	ratio := float64(hits) / float64(lru)
	t.Logf("%d of %d reads hit, LRU with the same room (%d chunks) %d: %.2f times", hits, len(trace), room, lru, ratio)
	if ratio < 1.2 {
		t.Errorf("only %.2f times as good as LRU, want 1.2", ratio)
	}
}

// traceOf makes reads: 80 % skewed browsing, 15 % restores of a tenth of
// everything, 5 % verifies of everything.
func traceOf(universe, n int) (trace []int) {
	rng := rand.New(rand.NewPCG(7, 7))
	zipf := rand.NewZipf(rng, 1.1, 20, uint64(universe-1))
	perm := rng.Perm(universe)
	for len(trace) < n {
		for range universe {
			trace = append(trace, perm[zipf.Uint64()])
		}
		for range 2 {
			from := rng.IntN(universe)
			for i := range universe / 10 {
				trace = append(trace, (from+i)%universe)
			}
		}
		if rng.IntN(4) == 0 {
			for i := range universe {
				trace = append(trace, i)
			}
		}
	}
	return trace
}

func simulateLRU(trace []int, room int) (hits int) {
	last := map[int]int{}
	type use struct{ id, at int }
	var order []use
	held := map[int]bool{}
	for at, id := range trace {
		if held[id] {
			hits++
		}
		held[id], last[id] = true, at
		order = append(order, use{id, at})
		for len(held) > room {
			u := order[0]
			order = order[1:]
			if last[u.id] == u.at {
				delete(held, u.id)
			}
		}
	}
	return hits
}

// Damage, a torn end and foreign files cost a miss and no more.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Config{Dir: dir, Bound: 4 << 20})
	k, last := chunktest.Blob(1, 50_000), chunktest.Blob(2, 50_000)
	c.Put(k.Digest, k.Blob)
	c.Put(last.Digest, last.Blob)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	b[1000] ^= 1
	for name, content := range map[string][]byte{names[0]: b[:len(b)-10], filepath.Join(dir, "x.seg"): b, filepath.Join(dir, "y"): b} {
		if err := os.WriteFile(name, content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	c = open(t, Config{Dir: dir, Bound: 4 << 20})
	for _, d := range []chunks.Digest{k.Digest, last.Digest} {
		if _, ok := c.Get(d, nil); ok {
			t.Error("a damaged chunk was handed out")
		}
	}
	c.Put(k.Digest, k.Blob)
	if b, ok := c.Get(k.Digest, nil); !ok || !bytes.Equal(b, k.Blob) {
		t.Error("put again, and not there")
	}
}

// A disk that is full, or gone, makes the cache smaller; nothing fails.
func TestFullDisk(t *testing.T) {
	fsys := &full{}
	c := open(t, Config{Bound: 4 << 20, FS: fsys})
	before := chunktest.Blob(0, 1000)
	c.Put(before.Digest, before.Blob)
	fsys.full.Store(true)
	for i := range uint64(30) {
		k := chunktest.Blob(1+i, 100_000)
		c.Put(k.Digest, k.Blob)
		if _, ok := c.Get(k.Digest, nil); ok {
			t.Fatal("a full disk took a chunk")
		}
	}
	fsys.full.Store(false)
	k := chunktest.Blob(100, 1000)
	c.Put(k.Digest, k.Blob)
	if b, ok := c.Get(k.Digest, nil); !ok || !bytes.Equal(b, k.Blob) {
		t.Error("with room again, and it takes nothing")
	}
	if n, used := c.Stats().Files, c.Stats().Used; n > 3 || used > 4<<20 {
		t.Errorf("%d files, %d bytes", n, used)
	}
}

func TestPins(t *testing.T) {
	dir := t.TempDir()
	c := open(t, Config{Dir: dir, Bound: 4 << 20})
	if err := c.Pin("root", []byte("r")); err != nil {
		t.Fatal(err)
	}
	if err := c.Pin("index", make([]byte, 900<<10)); err != nil {
		t.Fatal(err)
	}
	if err := c.Pin("too much", make([]byte, 200<<10)); err == nil {
		t.Error("more than a quarter was pinned")
	}
	for i := range uint64(100) { // does not push the pins out
		k := chunktest.Blob(i, 100_000)
		c.Put(k.Digest, k.Blob)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open(t, Config{Dir: dir, Bound: 4 << 20})
	if b, ok := c.Pinned("root", 10); !ok || string(b) != "r" {
		t.Error("the pin is gone")
	}
	if err := c.Unpin("index"); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Pinned("index", 1<<20); ok || c.Stats().Pinned > 64<<10 {
		t.Errorf("unpinned, and there: %+v", c.Stats())
	}
	for i := range 30 {
		if err := c.Pin(fmt.Sprint(i), nil); err != nil {
			return
		}
	}
	t.Error("thirty files were pinned")
}

// FuzzSegment: a file of any content is loaded without harm.
func FuzzSegment(f *testing.F) {
	f.Add([]byte("HFCC\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%016x-s.seg", 1)), b, 0o640); err != nil {
			t.Fatal(err)
		}
		c, err := Open(Config{Dir: dir, Bound: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		for d := range c.items {
			c.Get(d, nil)
		}
		_ = c.Close()
	})
}
