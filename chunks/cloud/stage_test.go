package cloud

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/staging"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	packs "github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// loads are all packs of a store, the sealed ones as they are.
func loads(t *testing.T, src *pack.Store, dir string) (list []staging.Load) {
	t.Helper()
	for _, info := range src.Packs() {
		entries, err := src.Entries(t.Context(), func(i pack.Info) bool { return i.Number == info.Number })
		if err != nil {
			t.Fatal(err)
		}
		l := staging.Load{Dir: filepath.Join(dir, "local"), From: src, Entries: entries}
		if info.Sealed {
			l.Whole = info
		}
		list = append(list, l)
	}
	return list
}

// Chunks of another store on the disk go into the bucket, sealed packs as they
// are unless the bucket is encrypted, and a new machine reads them there.
func TestAdopt(t *testing.T) {
	for _, encrypt := range []bool{false, true} {
		s := newSite(t, encrypt)
		st := s.owner(t.TempDir())
		from := t.TempDir()
		src := local(t, from)
		defer src.Close()
		cs := put(t, src, 128<<10, 1, 3*packs.MinPackBytes/(128<<10))
		pinned := false
		r, err := st.Adopt(t.Context(), loads(t, src, from), func() error {
			pinned = st.Confirmed(cs[0].Digest)
			return nil
		})
		if err != nil || !pinned {
			t.Fatalf("adopt: %v; pinned when the bucket had it: %v", err, pinned)
		}
		if r.Packs == 0 || (r.Whole > 0) == encrypt {
			t.Errorf("encrypted %v: %d packs, %d of them as they were", encrypt, r.Packs, r.Whole)
		}
		if st.local.Len() != 0 {
			t.Errorf("%d chunks were written to the disk on their way", st.local.Len())
		}
		stop(st)
		wantAll(t, s.owner(t.TempDir()), cs)
	}
}

// A damaged pack does not go as it is: its other chunks go alone, and what is
// damaged stays away.
func TestAdoptDamaged(t *testing.T) {
	s := newSite(t, false)
	st := s.owner(t.TempDir())
	from := t.TempDir()
	src := local(t, from)
	defer src.Close()
	cs := put(t, src, 128<<10, 1, 2*packs.MinPackBytes/(128<<10))
	all := loads(t, src, from)
	if !all[0].Whole.Sealed {
		t.Fatal("the first pack is not sealed")
	}
	names, err := filepath.Glob(filepath.Join(from, "local", packs.PacksDir, "*", "*-"+all[0].Whole.ID.String()+".hfpk"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	f, err := os.OpenFile(names[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damage"), 200<<10); err != nil {
		t.Fatal(err)
	}
	r, err := st.Adopt(t.Context(), all, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if whole := len(all) - 1; r.Whole > whole {
		t.Errorf("%d of %d packs went as they are, one of them damaged", r.Whole, len(all))
	}
	var there []chunks.Digest
	for _, c := range cs {
		if st.Confirmed(c.Digest) {
			there = append(there, c.Digest)
		}
	}
	if len(there) != len(cs)-1 {
		t.Errorf("the bucket has %d chunks of %d, one of them damaged", len(there), len(cs))
	}
}
