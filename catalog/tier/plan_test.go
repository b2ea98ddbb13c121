package tier

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
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
		if got := s.proxy.Counts()["get"]; got == 0 || got > 9 { // 8 are asked for at once, before an order is seen
			t.Errorf("%d requests for %d chunks", got, n)
		}
	}
	if st := tr.Stats().Cache; st.Used > st.Bound {
		t.Errorf("the cache: %+v", st)
	}
}

// Who jumps in an image, as somebody who has mounted it, pays for the chunks that
// are looked at, and not again when they are looked at again.
func TestARandomReaderPaysForWhatItReads(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	cfg.CacheBytes = 64 << 20
	s.create(cfg, true)
	tr, _ := s.open(cfg)
	const n = 200
	content := image(1, n*chunkSize)
	mustBackup(t, tr, day1, content)
	offload(t, tr, OffloadOptions{})
	if _, err := tr.Collect(t.Context(), gc.Options{}); err != nil {
		t.Fatal(err)
	}
	r, err := tr.Datastore().OpenSnapshot(t.Context(), "", snapshot(t, day1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x, err := r.Index("disk.img.fidx")
	if err != nil {
		t.Fatal(err)
	}
	jumps := []int{0, n - 1, 1, 77, 50, 51, 150, 20, 199, 0}
	for mount, want := range []int{8, 0} {
		s.proxy.Reset()
		before := tr.Stats().Requests.BytesIn
		p := r.Chunks().(chunks.Planner).Plan(x)
		for i, at := range jumps {
			if b, err := p.Get(t.Context(), at, nil); err != nil {
				t.Error(err)
			} else if piece, err := b.Decode(nil, nil); err != nil || !bytes.Equal(piece, content[at*chunkSize:][:chunkSize]) {
				t.Errorf("chunk %d is another: %v", at, err)
			}
			if got := s.proxy.Counts()["get"]; i == 0 && got > 1 {
				t.Errorf("the first look took %d requests", got)
			}
		}
		p.Close()
		got, in := s.proxy.Counts()["get"], tr.Stats().Requests.BytesIn-before
		if got != want || in > int64(want)*(chunkSize+4096) {
			t.Errorf("mount %d: %d requests of %d bytes, want %d of a chunk each", mount, got, in, want)
		}
	}
}
