package cloud

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/queue"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// claim puts packs into the store whose content is nothing but a length: their
// objects are files of the server, and the rows say what would be in them.
func claim(t *testing.T, s *site, st *Store, n int) (packs []layout.Pack) {
	t.Helper()
	const size = 64 << 10
	rng := rand.NewChaCha8([32]byte{1})
	for range n {
		p := layout.Pack{ID: format.NewID(), Size: size, Created: time.Now().Truncate(time.Second), Sealed: true}
		for i := range 4 {
			var d chunks.Digest
			rng.Read(d[:])
			p.Rows = append(p.Rows, layout.Row{Digest: d, Off: int64(64 + i*8192), Stored: 8000})
		}
		object := filepath.Join(s.dir(), layout.Root+st.ID(), layout.PackKey(p.ID))
		if err := os.MkdirAll(filepath.Dir(object), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(object, nil, 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(object, size); err != nil {
			t.Fatal(err)
		}
		if err := disk.WriteFileAtomic(hasty{}, st.path("upload", p.ID.String()+queue.Done), layout.EncodeIndex([]layout.Pack{p}), 0o640); err != nil {
			t.Fatal(err)
		}
		packs = append(packs, p)
	}
	return packs
}

// A large store stays cheap: collecting a tenth of its packs, an audit, and the
// rebuild on a new machine with all its snapshots take tens of requests. With
// HOLDFAST_SOAK it is 34,000 packs (2 TB) and 10,000 snapshots.
func TestRequestsOfALargeStore(t *testing.T) {
	packCount, snapshots := 3400, 500
	if os.Getenv("HOLDFAST_SOAK") != "" {
		packCount, snapshots = 34_000, 10_000
	}
	s := newSite(t, true)
	st := s.owner(t.TempDir())
	packs := claim(t, s, st, packCount)
	// Snapshots of 20 guests, a night each at a time: every index is that of the
	// night before, with a fiftieth of its chunks replaced.
	rng := rand.New(rand.NewPCG(1, 2))
	indexes := make([][]byte, 20)
	for i := range indexes {
		indexes[i] = make([]byte, 32*500)
	}
	for night := 0; night*len(indexes) < snapshots; night++ {
		for i, x := range indexes {
			for range len(x) / 32 / 50 {
				at := rng.IntN(len(x)/32) * 32
				for k := range 4 {
					binary.LittleEndian.PutUint64(x[at+8*k:], rng.Uint64())
				}
			}
			if err := st.PutFile(fmt.Sprintf("vm/%d/%06d/disk.fidx", i, night), x); err != nil {
				t.Fatal(err)
			}
		}
		if night%8 == 7 {
			if err := st.Flush(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := st.Flush(t.Context(), nil); err != nil {
		t.Fatal(err)
	}

	within := func(what string, most int) {
		t.Helper()
		if n := s.proxy.Total(); n > most {
			t.Errorf("%s took %d requests %v, want at most %d", what, n, s.proxy.Counts(), most)
		} else {
			t.Logf("%s: %d requests %v", what, n, s.proxy.Counts())
		}
		s.proxy.Reset()
	}
	s.proxy.Reset()
	again := s.node(t.TempDir())
	seen := 0
	err := again.EachFile(t.Context(), func(string, []byte) error { seen++; return nil })
	if err != nil || seen < snapshots {
		t.Fatalf("the rebuild shows %d of %d files, %v", seen, snapshots, err)
	}
	if got := again.Stats(); got.Packs != packCount {
		t.Fatalf("the rebuild shows %d of %d packs", got.Packs, packCount)
	}
	within("rebuild", 80)

	// To the first node nothing of this was ever on its disk, so all is garbage to
	// it; the new one goes on.
	st = again
	if err := st.Acquire(t.Context(), AcquireOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	s.proxy.Reset()
	dead := &pack.Set{}
	for i := 0; i < packCount; i += 10 {
		r, ok := st.Lookup(packs[i].Rows[0].Digest)
		if !ok {
			t.Fatal("a chunk is not known")
		}
		dead.OrRow(r.Pack, []uint64{0b1111})
	}
	st.Condemn(dead)
	for n := range dead.Rows() {
		if _, err := st.Reclaim(t.Context(), n, pack.Copy, plainSwitch); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := st.Sweep(t.Context()); err != nil || n != packCount/10 {
		t.Fatalf("swept %d packs of %d, %v", n, packCount/10, err)
	}
	within("garbage collection", 60)
	r, err := st.Audit(t.Context(), AuditOptions{})
	if err != nil || len(r.Missing)+len(r.Wrong) != 0 {
		t.Fatalf("audit: %+v, %v", r, err)
	}
	within("audit", 40)
}
