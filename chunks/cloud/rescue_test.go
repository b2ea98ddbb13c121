package cloud

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cache"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// losePacks takes every pack out of the bucket.
func (s *site) losePacks(st *Store) {
	s.t.Helper()
	found, err := filepath.Glob(s.object(st, layout.PackDir+"*/*"))
	if err != nil || len(found) == 0 {
		s.t.Fatalf("%d packs in the bucket, %v", len(found), err)
	}
	for _, p := range found {
		if err := os.Remove(p); err != nil {
			s.t.Fatal(err)
		}
	}
}

// without is the store of a directory whose local part was replaced by another, or
// by an empty one.
func (s *site) without(dir, local string, change ...func(*Config)) *Store {
	s.t.Helper()
	name := filepath.Join(dir, "local")
	if err := os.RemoveAll(name); err != nil {
		s.t.Fatal(err)
	}
	if local != "" {
		if err := os.CopyFS(name, os.DirFS(local)); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.owner(dir, change...)
}

// naming is a snapshot of that name, of chunks.
func naming(name string, cs []chunktest.Chunk) snapshots {
	roots := snapshots{}
	for _, c := range cs {
		roots[name] = append(roots[name], c.Digest)
	}
	return roots
}

func collect(t *testing.T, c *gc.Collector) {
	t.Helper()
	if _, err := c.Run(t.Context(), gc.Options{}); err != nil {
		t.Fatal(err)
	}
}

// A chunk of a pack that was lost, stored anew by a backup, is what older snapshots
// need as well: it stays when that backup goes, whatever was marked before.
func TestCopyOfALostChunkStays(t *testing.T) {
	s := newSite(t, true)
	dir := t.TempDir()
	st := s.owner(dir)
	cs := put(t, st, 9000, 1, 6)
	offload(t, st)
	stop(st)
	st = s.without(dir, "")
	roots := naming("old", cs)
	c := collector(t, st, roots)
	collect(t, c)
	s.losePacks(st)
	if r, err := st.Audit(t.Context(), AuditOptions{}); err != nil || len(r.Missing) != 1 || r.Rescued != 0 || st.Stats().Lost != 1 {
		t.Fatalf("audit: %+v, %v", r, err)
	}
	collect(t, c) // and remembers where the old snapshot's chunks are
	roots.backup(t, c, "new", cs)
	collect(t, c)
	delete(roots, "new")
	collect(t, c)
	collect(t, c)
	wantAll(t, st, cs)
	offload(t, st)
	if n := st.Stats().Lost; n != 0 {
		t.Errorf("%d packs are still said to be lost", n)
	}
	again := s.owner(t.TempDir(), func(c *Config) { c.Node = "new" })
	wantAll(t, again, cs)
}

// What this machine still has of a pack that was lost is kept when that is noticed:
// copies that were condemned, and those in the cache.
func TestRemainsOfLostPacks(t *testing.T) {
	for name, cached := range map[string]bool{"on the disk": false, "in the cache": true} {
		s := newSite(t, true)
		dir := t.TempDir()
		var with []func(*Config)
		if cached {
			c := cache.NewLive(cache.Config{FS: hasty{}, Dir: filepath.Join(dir, "cache")})
			if err := c.Resize(32 << 20); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			with = append(with, func(cfg *Config) { cfg.Cache = c })
		}
		st := s.owner(dir, with...)
		cs := put(t, st, 9000, 1, 6)
		offload(t, st)
		if cached {
			stop(st)
			st = s.without(dir, "", with...)
			wantAll(t, st, cs)
		}
		s.losePacks(st)
		r, err := st.Audit(t.Context(), AuditOptions{})
		if err != nil || r.Rescued != len(cs) {
			t.Fatalf("%s: audit: %+v, %v", name, r, err)
		}
		if n := st.Stats().Lost; n != 0 {
			t.Errorf("%s: %d packs are said to be lost", name, n)
		}
		offload(t, st)
		stop(st)
		again := s.owner(t.TempDir(), func(c *Config) { c.Node = "new" })
		wantAll(t, again, cs)
	}
}

// A copy on the disk of what should be in the bucket goes only when the bucket has
// shown the pack since the start. Until then neither of the two goes.
func TestCopiesStayUntilThePackIsSeen(t *testing.T) {
	for name, lost := range map[string]bool{"lost": true, "whole": false} {
		s := newSite(t, false)
		dir := t.TempDir()
		st := s.owner(dir)
		cs := put(t, st, 9000, 1, 6)
		stop(st)
		before := t.TempDir()
		if err := os.CopyFS(before, os.DirFS(filepath.Join(dir, "local"))); err != nil {
			t.Fatal(err)
		}
		st = s.owner(dir)
		offload(t, st)
		stop(st)
		st = s.without(dir, before) // as after a crash that came before the copies were condemned
		c := collector(t, st, naming("one", cs))
		if lost {
			s.losePacks(st)
		}
		s.proxy.On(func(cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Status: 403, Code: "AccessDenied"} })
		if err := st.Secure(t.Context()); err == nil {
			t.Fatalf("%s: nobody answered, and that was no error", name)
		}
		collect(t, c)
		s.proxy.On(nil)
		for _, k := range cs {
			if !st.local.Known(k.Digest) {
				t.Fatalf("%s: a copy was condemned while the bucket was away", name)
			}
		}
		if err := st.Secure(t.Context()); err != nil {
			t.Fatal(err)
		}
		collect(t, c)
		for _, k := range cs {
			if st.local.Known(k.Digest) != lost {
				t.Fatalf("%s: a copy is on the disk: %v", name, !lost)
			}
		}
		wantAll(t, st, cs)
		offload(t, st)
		stop(st)
		again := s.owner(t.TempDir(), func(c *Config) { c.Node = "new" })
		wantAll(t, again, cs)
	}
}

// Whoever reads a pack that is gone finds out, and its chunks are missing from then
// on; but if the store itself is not there, nothing is said of chunks.
func TestMissedPacks(t *testing.T) {
	s := newSite(t, true)
	dir := t.TempDir()
	st := s.owner(dir)
	cs := put(t, st, 9000, 1, 6)
	offload(t, st)
	stop(st)
	st = s.without(dir, "")
	s.losePacks(st)
	format := s.object(st, layout.FormatKey)
	for _, name := range []string{format, format + ".copy"} {
		if err := os.Rename(name, name+"-away"); err != nil {
			t.Fatal(err)
		}
	}
	_, err := st.Get(t.Context(), cs[0].Digest, nil)
	if !errors.Is(err, chunks.ErrAway) || errors.Is(err, chunks.ErrMissing) || !st.Known(cs[0].Digest) {
		t.Errorf("without the store: %v", err)
	}
	if err := os.Rename(format+"-away", format); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Get(t.Context(), cs[0].Digest, nil); !errors.Is(err, chunks.ErrMissing) || errors.Is(err, chunks.ErrAway) {
		t.Errorf("without the pack: %v", err)
	}
	if st.Known(cs[0].Digest) || st.Stats().Lost != 1 {
		t.Error("the pack is not known to be lost")
	}
	s.proxy.On(func(cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Reset: true} })
	_, err = st.Get(t.Context(), cs[0].Digest, nil)
	var hinted interface{ Hint() string }
	if !errors.Is(err, chunks.ErrAway) || !errors.As(err, &hinted) || hinted.Hint() == "" {
		t.Errorf("while nobody answers: %v", err)
	}
}

// When the newest root is damaged, whoever comes reads the state before, and is told;
// nobody writes behind it but by force, and then behind its epoch. The audit of who
// wrote it mends it.
func TestNewestRootIsDamaged(t *testing.T) {
	for _, forced := range []bool{false, true} {
		s, st, cs, more, objects := steps(t)
		h := st.Newest()
		newest, before := h.Seq.String(), layout.Seq{Epoch: h.Seq.Epoch, N: h.Seq.N - 1}.String()
		name := objects["root"]
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		whole[len(whole)/2] ^= 1
		rewrite(t, name, whole)

		dir := t.TempDir()
		other := s.node(dir, func(c *Config) { c.Node = "other" })
		if is := other.Stats(); is.Root != before || is.Behind != newest {
			t.Fatalf("a new machine sees %s and says of %s, want %s and %s", is.Root, is.Behind, before, newest)
		}
		wantAll(t, other, cs)
		if !forced {
			owner := st.Stats().Epoch
			s.proxy.On(nil)
			st.mu.Lock()
			st.owner.Until = st.owner.Until.Add(-24 * 3600e9)
			st.mu.Unlock()
			if err := st.writeOwner(t.Context(), st.owner, st.etag); err != nil {
				t.Fatal(err)
			}
			if err := other.Acquire(t.Context(), AcquireOptions{}); !errors.Is(err, ErrBehind) || st.Stats().Epoch != owner {
				t.Errorf("take it over: %v", err)
			}
			if r, err := st.Audit(t.Context(), AuditOptions{}); err != nil || len(r.Restored) != 1 {
				t.Fatalf("audit of the owner: %+v, %v", r, err)
			}
			if err := other.Refresh(t.Context()); err != nil || other.Stats().Root != newest || other.Stats().Behind != "" {
				t.Errorf("after that: %v, %+v", err, other.Stats())
			}
			wantAll(t, other, append(cs, more...))
			continue
		}
		if err := other.Acquire(t.Context(), AcquireOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		cs = append(cs, put(t, other, 9000, 200, 2)...)
		offload(t, other)
		if is := other.Stats(); is.Behind != "" || is.Root <= newest {
			t.Errorf("after a forced take-over: %+v", is)
		}
		stop(other)
		other = s.owner(dir, func(c *Config) { c.Node = "other" })
		wantAll(t, other, cs)
	}
}

// A compaction wrote chunks into another pack, and that was lost; the one they came from
// is dead, and in the bucket for a grace. Nobody looked there, and the chunks were said to
// be lost.
func TestDeadPacksHeal(t *testing.T) {
	for name, merged := range map[string]bool{"an index object names it": false, "none does any more": true} {
		s := newSite(t, merged)
		dir := t.TempDir()
		held := func(c *Config) { c.Grace = time.Hour }
		st := s.owner(dir, held)
		cs := put(t, st, 90_000, 1, 12)
		offload(t, st)
		collect(t, collector(t, st, naming("one", cs[:6])))
		offload(t, st)
		offload(t, st) // names the old one as dead
		h := st.Newest()
		if len(h.Dead) != 1 || st.Stats().Packs != 1 {
			t.Fatalf("%s: %d packs are dead after a compaction, and there is %+v", name, len(h.Dead), st.Stats())
		}
		for i := 0; merged && i < 16; i++ {
			put(t, st, 3000, uint64(1000+i), 1)
			offload(t, st)
		}
		h = st.Newest()
		packs, err := st.meta.Packs(t.Context(), &h)
		if is := slices.ContainsFunc(packs, func(p layout.Pack) bool { return h.Buried()[p.ID] }); err != nil || is == merged {
			t.Fatalf("%s: that is %v, %v", name, is, err)
		}
		lost := st.table.byID(st.table.all()[0].id)
		stop(st)
		st = s.without(dir, "", held)
		if err := os.Remove(s.object(st, layout.PackKey(lost.id))); err != nil {
			t.Fatal(err)
		}
		r, err := st.Audit(t.Context(), AuditOptions{})
		if err != nil || len(r.Missing) != 1 || r.Rescued != 6 || st.Stats().Lost != 0 {
			t.Fatalf("%s: audit: %+v, %v, %d lost", name, r, err, st.Stats().Lost)
		}
		offload(t, st)
		wantAll(t, s.node(t.TempDir()), cs[:6])
	}
}
