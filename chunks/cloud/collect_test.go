package cloud

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/meta"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// A Store is what a collector works on.
var _ gc.Store = (*Store)(nil)

// snapshots are the roots of a test: digests by name.
type snapshots map[string][]chunks.Digest

func (s snapshots) Each(_ context.Context, fn func(gc.Root) error) error {
	for name, ds := range s {
		if err := fn(snapshot{gc.Seq(slices.Values(ds)), name}); err != nil {
			return err
		}
	}
	return nil
}

type snapshot struct {
	gc.Seq
	name string
}

func (s snapshot) ID() string { return s.name }
func (snapshot) Size() int64  { return 1 }

func (s snapshots) backup(t *testing.T, c *gc.Collector, name string, cs []chunktest.Chunk) {
	t.Helper()
	backup(t, c, name, cs, func(ds []chunks.Digest) { s[name] = ds })
}

// backup puts chunks through a session, as a backup does.
func backup(t *testing.T, c *gc.Collector, name string, cs []chunktest.Chunk, publish func([]chunks.Digest)) {
	t.Helper()
	session, err := c.Open("backup", name)
	if err != nil {
		t.Fatal(err)
	}
	var ds []chunks.Digest
	for _, k := range cs {
		if _, err := session.Put(t.Context(), k.Digest, k.Blob); err != nil {
			t.Fatal(err)
		}
		ds = append(ds, k.Digest)
	}
	err = session.Finish(t.Context(), []gc.Index{gc.Seq(slices.Values(ds))}, func() error { publish(ds); return nil })
	if err != nil {
		t.Fatal(err)
	}
}

func collector(t *testing.T, st *Store, roots gc.Roots) *gc.Collector {
	t.Helper()
	c, err := gc.New(gc.Config{Store: st, Roots: roots, FS: hasty{}, Dir: filepath.Join(t.TempDir(), "gc")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func blobs(size int, from, n uint64) (cs []chunktest.Chunk) {
	for i := range n {
		cs = append(cs, chunktest.Blob(from+i, size))
	}
	return cs
}

// Marking asks nothing of the bucket, dead packs go with a handful of
// requests, and what lives in a mostly dead pack is brought home first.
func TestCollect(t *testing.T) {
	s := newSite(t, true)
	dir := t.TempDir()
	st := s.owner(dir)
	roots := snapshots{}
	c := collector(t, st, roots)
	kept, gone, mixed := blobs(90_000, 1, 90), blobs(90_000, 1000, 90), blobs(90_000, 2000, 45)
	roots.backup(t, c, "kept", kept)
	offload(t, st)
	roots.backup(t, c, "gone", gone)
	offload(t, st)
	roots.backup(t, c, "mixed", mixed)
	offload(t, st)
	before := st.Stats()

	delete(roots, "gone")
	roots["mixed"] = roots["mixed"][:10]
	s.proxy.Reset()
	plan, err := c.Run(t.Context(), gc.Options{DryRun: true})
	if err != nil || s.proxy.Total() != 0 || plan.Plan.DeadChunks < 90+35 {
		t.Fatalf("dry run: %+v, %v with %v", plan.Plan, err, s.proxy.Counts())
	}
	report, err := c.Run(t.Context(), gc.Options{})
	if err != nil || report.CondemnedChunks != 90+35 || report.MissingRoots != 0 {
		t.Fatalf("collection: %+v, %v", report, err)
	}
	if n := s.proxy.Total(); n > 2 { // one read of what lives in the mixed pack
		t.Errorf("the collection took %v", s.proxy.Counts())
	}
	wantAll(t, st, slices.Concat(kept, mixed[:10]))
	for _, k := range slices.Concat(gone, mixed[10:]) {
		if st.Known(k.Digest) {
			t.Fatalf("chunk %s is known after its collection", k.Digest.Short())
		}
	}
	s.proxy.Reset()
	n, err := st.Sweep(t.Context())
	if err != nil || n < 2 {
		t.Fatalf("sweep: %d, %v", n, err)
	}
	if got := s.proxy.Counts(); got["delete"] != 1 || s.proxy.Total() > 8 {
		t.Errorf("the sweep of %d packs took %v", n, got)
	}
	offload(t, st)
	if after := st.Stats(); after.Bytes > before.Bytes*6/10 {
		t.Errorf("%d bytes were in the bucket, and %d are now", before.Bytes, after.Bytes)
	}
	back := roots["mixed"]
	roots.backup(t, c, "gone", gone) // what was dead is stored again
	roots["mixed"] = back
	offload(t, st)
	wantAll(t, st, slices.Concat(kept, gone, mixed[:10]))
	stop(st)
	wantAll(t, s.node(t.TempDir()), slices.Concat(kept, gone, mixed[:10]))
	wantAll(t, s.node(dir), slices.Concat(kept, gone, mixed[:10]))
}

// A session that was told "already here" keeps its chunks, wherever they go
// meanwhile.
func TestPinsMoveWithChunks(t *testing.T) {
	s := newSite(t, false)
	st := s.owner(t.TempDir())
	roots := snapshots{}
	c := collector(t, st, roots)
	cs := blobs(50_000, 1, 40)
	roots.backup(t, c, "first", cs)
	session, err := c.Open("backup", "second")
	if err != nil {
		t.Fatal(err)
	}
	var ds []chunks.Digest
	for _, k := range cs {
		if !session.Known(k.Digest) {
			t.Fatal("not known")
		}
		ds = append(ds, k.Digest)
	}
	delete(roots, "first")
	if _, err := st.Offload(t.Context(), OffloadOptions{Switchover: c.Relocate}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Run(t.Context(), gc.Options{}); err != nil {
		t.Fatal(err)
	}
	if missing, err := session.Missing(t.Context(), ds); err != nil || len(missing) != 0 {
		t.Errorf("%d chunks that the session was promised are gone, %v", len(missing), err)
	}
	wantAll(t, st, cs)
	session.Abort()
	if r, err := c.Run(t.Context(), gc.Options{}); err != nil || r.CondemnedChunks != 40 {
		t.Errorf("after the session's end: %+v, %v", r.CondemnedChunks, err)
	}
}

// Backups, offloads and collections at the same time; every snapshot stays
// whole.
func TestTogether(t *testing.T) {
	s := newSite(t, false)
	st := s.owner(t.TempDir())
	roots := &shared{snapshots: snapshots{}}
	c := collector(t, st, roots)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	work := func(step func() error) {
		for ctx.Err() == nil {
			if err := step(); err != nil && ctx.Err() == nil {
				done <- err
				return
			}
		}
		done <- nil
	}
	go work(func() error {
		_, err := st.Offload(ctx, OffloadOptions{Switchover: c.Relocate})
		return err
	})
	go work(func() error {
		_, err := c.Run(ctx, gc.Options{})
		return err
	})
	var kept []chunktest.Chunk
	for round := range uint64(12) {
		cs := append(blobs(20_000, 100*round, 15), blobs(20_000, 100*max(round, 1)-100, 8)...) // half of them known
		roots.backup(t, c, fmt.Sprint(round), cs)
		if round%3 == 0 {
			kept = append(kept, cs...)
		} else {
			roots.forget(fmt.Sprint(round))
		}
	}
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wantAll(t, st, kept)
	offload(t, st)
	wantAll(t, st, kept)
	if r, err := c.Run(t.Context(), gc.Options{}); err != nil || r.MissingRoots > 0 {
		t.Errorf("at the end: %d snapshots lack chunks, %v", r.MissingRoots, err)
	}
}

func TestMergeable(t *testing.T) {
	object := func(sizes ...int64) (all []layout.Object) {
		for _, n := range sizes {
			all = append(all, layout.Object{Size: n})
		}
		return all
	}
	if n := meta.Mergeable(object(1, 1, 1)); n != 0 {
		t.Errorf("three objects: %d are merged", n)
	}
	big := slices.Repeat([]int64{32 << 20}, 20)
	if n := meta.Mergeable(object(append(big, 1, 1, 1)...)); n != 3 {
		t.Errorf("small ones behind big ones: %d are merged, want 3", n)
	}
	var objects []layout.Object
	for range 2000 { // as many nights
		if k := meta.Mergeable(objects); k > 0 {
			sum := int64(0)
			for _, o := range objects[len(objects)-k:] {
				sum += o.Size
			}
			objects = append(objects[:len(objects)-k], layout.Object{Size: sum})
		}
		objects = append(objects, layout.Object{Size: 365_000})
	}
	if len(objects) > 50 {
		t.Errorf("after 2,000 nights there are %d index objects", len(objects))
	}
}
