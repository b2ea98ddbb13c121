package cloud

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/meta"
)

// smallObjects are a store with one of each kind, by kind, and where the server
// keeps them.
func smallObjects(t *testing.T, encrypt bool) (s *site, st *Store, cs []chunktest.Chunk, files map[string]string) {
	t.Helper()
	s = newSite(t, encrypt)
	st = s.owner(t.TempDir())
	cs = put(t, st, 90_000, 1, 10)
	if err := st.PutFile("vm/100/1/disk.fidx", []byte("an index")); err != nil {
		t.Fatal(err)
	}
	offload(t, st)
	files = map[string]string{}
	for _, key := range st.head.Keys() {
		kind, _, _ := strings.Cut(key, "/")
		files[kind] = filepath.Join(s.dir(), layout.Root+st.ID(), key)
	}
	if len(files) != 4 {
		t.Fatalf("there are only %v", files)
	}
	return s, st, cs, files
}

func contents(t *testing.T, files map[string]string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for kind, name := range files {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		all[kind] = b
	}
	return all
}

// rewrite replaces what the server has; what it noted of the object stays.
func rewrite(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o640); err != nil {
		t.Fatal(err)
	}
}

// Whatever small object is taken out of the bucket, cut, or flipped behind our
// back, an audit puts back to the byte, and a new machine reads the store.
func TestAuditPutsBack(t *testing.T) {
	for _, encrypt := range []bool{true, false} {
		s, st, cs, files := smallObjects(t, encrypt)
		whole := contents(t, files)
		for kind, name := range files {
			for harm, do := range map[string]func(){
				"gone":    func() { _ = os.Remove(name) },
				"cut":     func() { rewrite(t, name, whole[kind][:len(whole[kind])-1]) },
				"empty":   func() { rewrite(t, name, nil) },
				"flipped": func() { b := bytes.Clone(whole[kind]); b[len(b)/2] ^= 1; rewrite(t, name, b) },
			} {
				do()
				r, err := st.Audit(t.Context(), AuditOptions{DeleteOrphans: true})
				if err != nil || len(r.Restored) != 1 || !strings.HasSuffix(name, r.Restored[0]) || len(r.Gone) > 0 {
					t.Fatalf("%s is %s: %+v, %v", kind, harm, r, err)
				}
				if got := contents(t, files)[kind]; !bytes.Equal(got, whole[kind]) {
					t.Errorf("%s was %s and is not what it was", kind, harm)
				}
				s.proxy.Reset()
				if r, err := st.Audit(t.Context(), AuditOptions{}); err != nil || len(r.Restored) > 0 || s.proxy.Counts()["put"] != 2 {
					t.Fatalf("a second audit: %+v, %v, with %v", r, err, s.proxy.Counts())
				}
			}
		}
		for _, name := range files {
			_ = os.Remove(name)
		}
		if r, err := st.Audit(t.Context(), AuditOptions{}); err != nil || len(r.Restored) != 4 {
			t.Fatalf("all are gone: %+v, %v", r, err)
		}
		fresh, seen := s.node(t.TempDir()), 0
		wantAll(t, fresh, cs)
		if err := fresh.EachFile(t.Context(), func(string, []byte) error { seen++; return nil }); err != nil || seen != 1 {
			t.Errorf("a new machine sees %d files, %v", seen, err)
		}
	}
}

// A listing that leaves something out, or has another size of it, is not
// believed: what is asked for is there, and nothing is written.
func TestAuditDoesNotBelieveAListing(t *testing.T) {
	s, st, _, _ := smallObjects(t, true)
	for _, o := range slices.Concat(st.head.Index, st.head.Bundles) {
		for name, old := range map[string]string{"key": "<Key>", "size": "<Size>"} {
			lie := func(b []byte) []byte {
				from := bytes.Index(b, []byte(o.Key))
				from = bytes.LastIndex(b[:from], []byte("<Contents>"))
				to := from + bytes.Index(b[from:], []byte("</Contents>"))
				one := b[from:to]
				if name == "key" {
					one = bytes.Replace(one, []byte(o.Key), []byte(o.Key+"0"), 1)
				} else {
					one = bytes.Replace(one, []byte(old), []byte(old+"9"), 1)
				}
				return slices.Concat(b[:from], one, b[to:])
			}
			s.proxy.Reset()
			s.proxy.On(func(r cloudtest.Request) *cloudtest.Fault {
				if r.Class == "list" {
					return &cloudtest.Fault{Rewrite: lie}
				}
				return nil
			})
			r, err := st.Audit(t.Context(), AuditOptions{})
			if n := s.proxy.Counts(); err != nil || len(r.Restored)+len(r.Gone) > 0 || n["head"] != 1 || n["put"] != 2 {
				t.Errorf("a lie about the %s of %s: %+v, %v, with %v", name, o.Key, r, err, n)
			}
			s.proxy.On(nil)
		}
	}
}

// What is gone and has no good copy here is an error that says what to do; what
// is damaged here is never written.
func TestAuditSaysWhatIsGone(t *testing.T) {
	_, st, _, files := smallObjects(t, true)
	copies, err := filepath.Glob(st.path("meta", "*"))
	if err != nil || len(copies) != 4 {
		t.Fatalf("the copies are %v, %v", copies, err)
	}
	for _, name := range copies {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		rewrite(t, name, b)
	}
	st.meta.Format.Wrapped[7] ^= 1
	for _, name := range files {
		_ = os.Remove(name)
	}
	r, err := st.Audit(t.Context(), AuditOptions{})
	if gone := (*meta.GoneError)(nil); !errors.As(err, &gone) || gone.Hint() == "" || len(r.Gone) != 4 || len(r.Restored) > 0 {
		t.Errorf("audit: %+v, %v", r, err)
	}
	for kind, b := range contents(t, files) {
		if b != nil {
			t.Errorf("%s was written from a damaged copy", kind)
		}
	}
}

// Whoever does not own the bucket any more writes nothing back.
func TestAuditOfAnOldOwner(t *testing.T) {
	s, st, _, files := smallObjects(t, true)
	other := s.owner(t.TempDir())
	defer stop(other)
	_ = os.Remove(files[layout.FormatKey])
	if r, err := st.Audit(t.Context(), AuditOptions{}); !errors.Is(err, ErrFenced) || len(r.Restored) > 0 {
		t.Errorf("audit: %+v, %v", r, err)
	}
}
