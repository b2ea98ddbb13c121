package tier

import (
	"bytes"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// planned restores a snapshot as a session of the protocol does that has told
// which index the client reads: eight chunks at a time.
func planned(t *testing.T, tr *Tier, text string, content []byte) {
	t.Helper()
	r, err := tr.Datastore().OpenSnapshot(t.Context(), "", snapshot(t, text))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x, err := r.Index("disk.img.fidx")
	if err != nil {
		t.Fatal(err)
	}
	p := r.Chunks().(chunks.Planner).Plan(x)
	defer p.Close()
	var next atomic.Int64
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			for i := int(next.Add(1) - 1); i < x.Len(); i = int(next.Add(1) - 1) {
				b, err := p.Get(t.Context(), i, nil)
				if err != nil {
					return err
				}
				piece, err := b.Decode(nil, nil)
				if err != nil {
					return err
				}
				if start, end := x.Range(i); !bytes.Equal(piece, content[start:end]) {
					t.Errorf("chunk %d of %s is not what was backed up", i, text)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Errorf("restore %s: %v", text, err)
	}
}

// A restore by chunks, from a bucket in whose packs they lie in another order,
// takes a request for megabytes, with a cache that is far too small for it.
func TestARestoreByChunksReadsPacks(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	s.create(cfg, true)
	tr, _ := s.open(cfg)
	const n = 320
	content := image(1, n*chunkSize)
	mixed := make([]byte, 0, len(content)) // the order in which the chunks get into the store
	for i := range n {
		at := (i * 7 % n) * chunkSize
		mixed = append(mixed, content[at:at+chunkSize]...)
	}
	mustBackup(t, tr, day1, mixed)
	mustBackup(t, tr, day2, content)
	offload(t, tr, OffloadOptions{})
	if err := tr.Datastore().Local().Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.proxy.Reset()
	planned(t, tr, day2, content)
	if got := s.proxy.Counts()["get"]; got == 0 || got > n/40 {
		t.Errorf("%d requests for %d chunks", got, n)
	}
	if st := tr.Stats().Cache; st.Used > st.Bound {
		t.Errorf("the cache: %+v", st)
	}
	var _ chunks.Planner = closing{}
	var _ catalog.Store = closing{}
}
