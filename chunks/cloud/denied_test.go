package cloud

import (
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A chunk whose place in the bucket is denied, and which was stored anew for
// that, is marked where it lives: else a collection would take the only good
// copy for garbage. It is also denied after a restart.
func TestStoredAnewIsWhatCounts(t *testing.T) {
	s := newSite(t, true)
	dir := t.TempDir()
	st := s.owner(dir)
	cs := put(t, st, 3000, 1, 4)
	offload(t, st)
	bad, ok := st.Lookup(cs[0].Digest)
	if !ok || bad.Pack%2 != 1 {
		t.Fatalf("chunk lies at %v, %v after the offload", bad, ok)
	}
	if err := st.Quarantine(bad); err != nil {
		t.Fatal(err)
	}
	if _, ok := st.Lookup(cs[0].Digest); ok {
		t.Error("a denied chunk is known")
	}
	if r, held := st.Locate(cs[0].Digest); !held || r != bad {
		t.Errorf("a denied chunk without another copy is at %v, %v: it is not garbage", r, held)
	}
	stop(st)
	st = s.owner(dir)
	if !st.Quarantined().Has(bad) {
		t.Error("the denial is forgotten after a restart")
	}
	if known, err := st.Put(t.Context(), cs[0].Digest, cs[0].Blob); err != nil || known {
		t.Fatalf("store a denied chunk anew: known %v, %v", known, err)
	}
	fresh, ok := st.Lookup(cs[0].Digest)
	if !ok || fresh == bad {
		t.Fatalf("stored anew at %v, %v", fresh, ok)
	}
	st.LocateMany([]chunks.Digest{cs[0].Digest}, func(_ int, r pack.Ref, held bool) {
		if !held || r != fresh {
			t.Errorf("marked at %v, want %v, where it lives", r, fresh)
		}
	})
	offload(t, st)
	if r, ok := st.Lookup(cs[0].Digest); !ok || r.Pack%2 != 1 || r == bad {
		t.Errorf("after the next offload at %v, %v", r, ok)
	}
	wantAll(t, st, cs)
}

// A client's encrypted chunk is known as such in the bucket too, without a
// request: a plain one of the same name must take its place.
func TestKindsAreKnown(t *testing.T) {
	s := newSite(t, false)
	st := s.owner(t.TempDir())
	var secret [32]byte
	key := chunks.NewKey(secret)
	content := make([]byte, 5000)
	sealed, err := chunks.Encode(nil, content, chunks.EncodeOptions{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	d := key.Digest(content)
	if _, err := st.Put(t.Context(), d, sealed); err != nil {
		t.Fatal(err)
	}
	plain := put(t, st, 3000, 1, 1)
	offload(t, st)
	s.proxy.Reset()
	if _, kind, ok, err := st.LookupKind(d); err != nil || !ok || !kind.IsEncrypted() {
		t.Errorf("kind of an encrypted chunk: %v, %v, %v", kind, ok, err)
	}
	if _, kind, ok, err := st.LookupKind(plain[0].Digest); err != nil || !ok || kind.IsEncrypted() {
		t.Errorf("kind of a plain chunk: %v, %v, %v", kind, ok, err)
	}
	if n := s.proxy.Total(); n != 0 {
		t.Errorf("asking for kinds took %v", s.proxy.Counts())
	}
}
