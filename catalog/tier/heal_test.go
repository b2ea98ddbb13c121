package tier

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/verify"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// A pack that the bucket has lost is known to be hurt from the moment on in which
// somebody missed it, and no longer when another place has healed it.
func TestLostPackIsHealed(t *testing.T) {
	s, tr := verified(t)
	d := tr.Datastore()
	from := chunktest.NewMemory()
	var lost []chunks.Digest
	err := d.Chunks().GetMany(t.Context(), digests(t, tr), func(c chunks.Digest, b chunks.Blob, err error) error {
		if err == nil {
			_, err = from.Put(t.Context(), c, b)
		}
		lost = append(lost, c)
		return err
	})
	if err != nil || len(lost) != 16 {
		t.Fatalf("%d chunks, %v", len(lost), err)
	}
	if n := d.Chunks().Quarantined().Len(); n != 0 {
		t.Fatalf("%d chunks are denied, and nothing is wrong", n)
	}
	for _, name := range s.packs() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	v, err := verify.New(d, verify.Options{Depth: -1})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := v.Run(t.Context()); err != nil || r.Failed != 1 || r.Missing != 16 {
		t.Fatalf("verify: %+v, %v", r, err)
	}
	missing, err := d.Chunks().Missing(t.Context(), lost)
	if err != nil || len(missing) != 16 || d.Chunks().Quarantined().Len() != 16 || tr.Stats().Lost != 1 {
		t.Errorf("%d of 16 chunks are missing, %d denied, %d packs lost; %v", len(missing), d.Chunks().Quarantined().Len(), tr.Stats().Lost, err)
	}
	h, err := v.Heal(t.Context(), from, missing)
	if err != nil || h.Fetched != 16 || h.Verified.OK != 1 {
		t.Fatalf("heal: %+v, %v", h, err)
	}
	if n := d.Chunks().Quarantined().Len(); n != 0 || tr.Stats().Lost != 0 {
		t.Errorf("after that %d chunks are said to be denied, and %d packs to be lost", n, tr.Stats().Lost)
	}
	list, err := d.List(t.Context(), catalog.ListOptions{Depth: -1})
	if err != nil || len(list) != 1 || !list[0].Verification.OK() {
		t.Errorf("the snapshot: %+v, %v", list, err)
	}
	offload(t, tr, OffloadOptions{})
	if r, err := v.Run(t.Context()); err != nil || r.OK != 1 {
		t.Errorf("in the bucket again: %+v, %v", r, err)
	}
}

// digests are the chunks of the only index there is.
func digests(t *testing.T, tr *Tier) (ds []chunks.Digest) {
	t.Helper()
	d := tr.Datastore()
	list, err := d.List(t.Context(), catalog.ListOptions{Depth: -1})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d snapshots, %v", len(list), err)
	}
	for _, f := range list[0].Files {
		if x, err := d.ReadIndex(list[0].Namespace, list[0].Snapshot(), f.Name); err == nil {
			for _, c := range x.All() {
				ds = append(ds, c)
			}
		}
	}
	return ds
}

// A cache that is given up leaves nothing on the disk.
func TestNoCacheLeavesNothing(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	s.create(cfg, true)
	tr, done := s.open(cfg)
	content := image(1, 16*chunkSize)
	mustBackup(t, tr, day1, content)
	offload(t, tr, OffloadOptions{})
	wantImage(t, tr, day1, content)
	dir := filepath.Join(cfg.Dir, "cloud", "cache")
	if files, err := os.ReadDir(dir); err != nil || len(files) < 2 || tr.Stats().Cache.Chunks == 0 {
		t.Fatalf("the cache has %d files, %v", len(files), err)
	}
	done()
	cfg.CacheBytes = 0
	tr, _ = s.open(cfg)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of the cache is there: %v", err)
	}
	wantImage(t, tr, day1, content)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of the cache has come back: %v", err)
	}
}

// Who heals looks first for what is here: a pack that is lost and whose chunks the cache has
// needs no other site.
func TestRescueNeedsNobody(t *testing.T) {
	s, tr := verified(t)
	s.proxy.Reset()
	if err := tr.Rescue(t.Context()); err != nil || s.proxy.Total() > 0 {
		t.Errorf("nothing is lost: %v, with %v", err, s.proxy.Counts())
	}
	for _, name := range s.packs() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := verifyAll(t, tr); err != nil || r.Failed != 1 || tr.Stats().Lost != 1 {
		t.Fatalf("verify: %+v, %v", r, err)
	}
	if err := tr.Rescue(t.Context()); err != nil || tr.Stats().Lost != 0 {
		t.Errorf("rescue: %v, %d packs are lost", err, tr.Stats().Lost)
	}
	if r, err := verifyAll(t, tr); err != nil || r.OK != 1 {
		t.Errorf("after it: %+v, %v", r, err)
	}
}
