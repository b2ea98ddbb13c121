package cloud

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
)

// steps are a store with two of them, each with a file; what is in the bucket of the
// second: the names of its root, index object and bundle.
func steps(t *testing.T) (s *site, st *Store, first, second []chunktest.Chunk, newest map[string]string) {
	t.Helper()
	s = newSite(t, true)
	st = s.owner(t.TempDir())
	add := func(name string, from uint64) []chunktest.Chunk {
		cs := put(t, st, 9000, from, 6)
		if err := st.PutFile(name, []byte("a manifest")); err != nil {
			t.Fatal(err)
		}
		offload(t, st)
		return cs
	}
	first, second = add("one", 1), add("two", 100)
	h := st.Newest()
	newest = map[string]string{"root": s.object(st, layout.RootKey(h.Seq))}
	newest["index"] = s.object(st, h.Index[len(h.Index)-1].Key)
	newest["bundle"] = s.object(st, h.Bundles[len(h.Bundles)-1].Key)
	return s, st, first, second, newest
}

// A damaged bundle costs a new machine what it alone holds, a damaged index object a few
// requests (it cost all snapshots whose chunks it named), and nothing is deleted in the
// bucket until somebody says to go on, or it is whole again.
func TestDamageIsConfined(t *testing.T) {
	for _, kind := range []string{"index", "bundle"} {
		for _, gone := range []bool{false, true} {
			s, st, first, second, newest := steps(t)
			whole, err := os.ReadFile(newest[kind])
			if err != nil {
				t.Fatal(err)
			}
			flipped := slices.Clone(whole)
			flipped[len(flipped)/2] ^= 1
			if rewrite(t, newest[kind], flipped); gone {
				_ = os.Remove(newest[kind])
			}
			dir := t.TempDir()
			other := s.node(dir, func(c *Config) { c.Node = "other" })
			wantAll(t, other, first)
			files, err := other.Files(t.Context())
			if err != nil || files["one"] == nil || (files["two"] == nil) != (kind == "bundle") {
				t.Fatalf("%s: %d files, %v", kind, len(files), err)
			}
			wantAll(t, other, second) // in the place of the index object its packs say what is in them
			cure := map[string]string{"index": "with 2 requests", "bundle": "take-over"}[kind]
			if said := other.Stats().Doubt; !strings.Contains(said, filepath.Base(newest[kind])) || !strings.Contains(said, cure) {
				t.Errorf("%s: it is said %q", kind, said)
			}
			if err := other.Acquire(t.Context(), AcquireOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			collect(t, collector(t, other, snapshots{})) // nothing is known that needs anything
			if n, err := other.Sweep(t.Context()); n > 0 || err != nil || other.Stats().Buried > 0 {
				t.Errorf("%s: swept %d, %v, %+v", kind, n, err, other.Stats())
			}
			wantAll(t, other, first)
			stop(other)
			s.proxy.Reset()
			other = s.node(dir, func(c *Config) { c.Node = "other" })
			if other.Stats().Doubt == "" || s.proxy.Total() > 0 {
				t.Errorf("%s: after a start: %q, with %v", kind, other.Stats().Doubt, s.proxy.Counts())
			}
			if gone {
				if err := other.Acquire(t.Context(), AcquireOptions{}); err != nil {
					t.Fatal(err)
				}
				if err := other.GoOn(t.Context(), false); err != nil || other.Stats().Doubt != "" {
					t.Errorf("%s: go on: %v, %q", kind, err, other.Stats().Doubt)
				}
				fresh := s.node(t.TempDir())
				wantAll(t, fresh, second)
				if wantAll(t, fresh, first); fresh.Stats().Doubt != "" {
					t.Errorf("%s: after that a new machine says %q", kind, fresh.Stats().Doubt)
				}
			} else {
				rewrite(t, newest[kind], whole)
				if err := other.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				files, err := other.Files(t.Context())
				if err != nil || len(files) != 2 || other.Stats().Doubt != "" {
					t.Errorf("%s: whole again: %d files, %v, %q", kind, len(files), err, other.Stats().Doubt)
				}
				wantAll(t, other, append(slices.Clone(first), second...))
			}
			stop(other)
			stop(st)
		}
	}
}

// When the newest root is gone, what it named is in the bucket still: whoever comes is
// told, and buries nothing.
func TestNewestRootIsGone(t *testing.T) {
	s, st, first, second, newest := steps(t)
	whole, err := os.ReadFile(newest["root"])
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(newest["root"])
	dir := t.TempDir()
	other := s.node(dir, func(c *Config) { c.Node = "other" })
	if said := other.Stats().Doubt; !strings.Contains(said, filepath.Base(newest["root"])) {
		t.Fatalf("it is said %q", said)
	}
	rewrite(t, newest["root"], whole)
	if err := other.Refresh(t.Context()); err != nil || other.Stats().Doubt != "" {
		t.Errorf("the root is back: %v, %q", err, other.Stats().Doubt)
	}
	wantAll(t, other, append(slices.Clone(first), second...))
	stop(other)

	_ = os.Remove(newest["root"])
	other = s.node(t.TempDir(), func(c *Config) { c.Node = "other" })
	if err := other.Acquire(t.Context(), AcquireOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	put(t, other, 9000, 200, 2)
	offload(t, other)
	collect(t, collector(t, other, snapshots{}))
	if r, err := other.Audit(t.Context(), AuditOptions{DeleteOrphans: true}); err != nil || r.Deleted > 0 {
		t.Errorf("audit: %+v, %v", r, err)
	}
	if is := other.Stats(); is.Doubt == "" || is.Buried > 0 {
		t.Errorf("after new roots: %+v", is)
	}
	if err := other.GoOn(t.Context(), false); err != nil || other.Stats().Doubt != "" {
		t.Errorf("go on: %v, %q", err, other.Stats().Doubt)
	}
	stop(other)
	stop(st)
}

// An owner that died between a bundle and its root knows what that is, and so does
// whoever looks when it has gone on.
func TestLeftoversOfTheOwner(t *testing.T) {
	s := newSite(t, true)
	dir := t.TempDir()
	st := s.owner(dir)
	put(t, st, 9000, 1, 6)
	offload(t, st)
	put(t, st, 9000, 100, 6)
	s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
		if putBelow("/r/")(r) {
			return &cloudtest.Fault{Status: 403, Code: "AccessDenied"}
		}
		return nil
	})
	if _, err := st.Offload(t.Context(), OffloadOptions{}); err == nil {
		t.Fatal("a root was written")
	}
	s.proxy.On(nil)
	stop(st)
	reader := s.node(t.TempDir(), func(c *Config) { c.Node = "reader" })
	if reader.Stats().Doubt == "" {
		t.Error("a reader is not told")
	}
	st = s.node(dir)
	if err := errors.Join(st.Refresh(t.Context()), st.Acquire(t.Context(), AcquireOptions{}), st.Refresh(t.Context())); err != nil || st.Stats().Doubt != "" {
		t.Errorf("the owner says: %v, %q", err, st.Stats().Doubt)
	}
	offload(t, st)
	if err := reader.Refresh(t.Context()); err != nil || reader.Stats().Doubt != "" {
		t.Errorf("after the owner went on: %v, %q", err, reader.Stats().Doubt)
	}
	stop(reader)
	stop(st)
}
