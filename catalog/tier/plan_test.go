package tier

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

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

// Guests that are backed up at the same time lie chunk by chunk among each other
// on the disk. In the bucket they do not, and a restore of one takes a request
// for megabytes, with a cache that is far too small for it.
func TestARestoreByChunksReadsPacks(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	s.create(cfg, true)
	tr, _ := s.open(cfg)
	const n, guests = 40, 12
	var mixed []byte
	images := make([][]byte, guests)
	for i := range images {
		images[i] = image(uint64(i), n*chunkSize)
	}
	for at := 0; at < n*chunkSize; at += chunkSize {
		for _, x := range images {
			mixed = append(mixed, x[at:at+chunkSize]...)
		}
	}
	mustBackup(t, tr, day1, mixed) // whose order the chunks have on the disk
	for i, x := range images {
		mustBackup(t, tr, fmt.Sprintf("vm/%d/2026-01-02T00:00:00Z", 200+i), x)
	}
	if err := tr.Datastore().Forget(t.Context(), "", snapshot(t, day1)); err != nil {
		t.Fatal(err)
	}
	offload(t, tr, OffloadOptions{})
	for i, x := range images {
		s.proxy.Reset()
		planned(t, tr, fmt.Sprintf("vm/%d/2026-01-02T00:00:00Z", 200+i), x)
		if got := s.proxy.Counts()["get"]; got == 0 || got > 2 {
			t.Errorf("%d requests for %d chunks", got, n)
		}
	}
	if st := tr.Stats().Cache; st.Used > st.Bound {
		t.Errorf("the cache: %+v", st)
	}
}
