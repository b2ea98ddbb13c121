package cloud

import (
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A chunk in the bucket that was found damaged, and whole later, counts again, and
// the alarm is over, also after a restart.
func TestAbsolvedInTheBucket(t *testing.T) {
	s := newSite(t, true)
	dir := t.TempDir()
	st := s.owner(dir)
	cs := put(t, st, 9100, 2, 3)
	offload(t, st)
	stop(st)
	st = s.without(dir, "")
	var refs []pack.Ref
	for _, c := range cs {
		ref, ok := st.Lookup(c.Digest)
		if !ok {
			t.Fatal("a chunk is not in the bucket")
		}
		refs = append(refs, ref)
		if err := st.Quarantine(ref); err != nil {
			t.Fatal(err)
		}
	}
	ds := make([]chunks.Digest, len(cs))
	for i, c := range cs {
		ds[i] = c.Digest
	}
	missing := func() int {
		t.Helper()
		list, err := st.Missing(t.Context(), ds)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if st.Quarantined().Len() != len(cs) || missing() != len(cs) {
		t.Fatalf("%d are in quarantine, %d missing, want all", st.Quarantined().Len(), missing())
	}
	for _, ref := range refs[1:] {
		if err := st.Absolve(ref); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if st.Quarantined().Len() != 1 || missing() != 1 {
			t.Fatalf("%d are in quarantine, %d missing, want one", st.Quarantined().Len(), missing())
		}
		stop(st)
		st = s.owner(dir)
	}
	wantAll(t, st, cs[1:])
	stop(st)
}
