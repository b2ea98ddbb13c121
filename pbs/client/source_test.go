package client_test

import (
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

func digestsOf(x chunks.Index) (all []chunks.Digest) {
	for _, d := range x.All() {
		all = append(all, d)
	}
	return all
}

func TestChunksThatAreLostAreTold(t *testing.T) {
	bubble(t, func(t *testing.T, s *farServer, c *client.Client) {
		x, all := farChunks(t, 6, 1000)
		s.hold(t, x, all)
		damaged := append([]byte(nil), all[1]...)
		damaged[len(damaged)-1] ^= 1
		s.chunks[x.Digest(1).String()] = damaged
		s.chunks[x.Digest(2).String()] = nil
		s.chunks[x.Digest(3).String()] = make([]byte, chunks.MaxBlob+1)
		delete(s.chunks, x.Digest(4).String())
		s.away = x.Digest(5)
		snap, err := c.OpenSnapshot(t.Context(), "", first)
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		want := map[chunks.Digest]error{
			x.Digest(0): nil, x.Digest(1): chunks.ErrCorrupt, x.Digest(2): chunks.ErrCorrupt,
			x.Digest(3): chunks.ErrCorrupt, x.Digest(4): chunks.ErrMissing, x.Digest(5): chunks.ErrAway,
		}
		check := func(d chunks.Digest, err error) {
			t.Helper()
			if !errors.Is(err, want[d]) {
				t.Errorf("chunk %s: got %v, want %v", d.Short(), err, want[d])
			}
		}
		var mu sync.Mutex
		calls := 0
		err = snap.Chunks().GetMany(t.Context(), digestsOf(x), func(d chunks.Digest, _ chunks.Blob, err error) error {
			mu.Lock()
			defer mu.Unlock()
			calls++
			check(d, err)
			return nil
		})
		if err != nil || calls != 6 {
			t.Errorf("%d calls, %v", calls, err)
		}
		buf := make([]byte, 0, 2000)
		for d := range want {
			b, err := snap.Chunks().Get(t.Context(), d, buf)
			check(d, err)
			if err == nil && &b[0] != &buf[:1][0] {
				t.Error("the buffer was not used")
			}
		}
		stop := errors.New("enough")
		err = snap.Chunks().GetMany(t.Context(), digestsOf(x), func(chunks.Digest, chunks.Blob, error) error { return stop })
		if !errors.Is(err, stop) {
			t.Errorf("got %v, want %v", err, stop)
		}
	})
}

// Chunks that are larger than those before have no room in what was set aside
// for them, and are asked for again.
func TestChunksMayBeLargerThanThought(t *testing.T) {
	farCertificate()
	warm(t)
	synctest.Test(t, func(t *testing.T) {
		s := newFarServer(t)
		defer s.close()
		cfg := s.config(t)
		cfg.InFlight = 2 * chunks.MaxBlob
		c := connect(t, cfg)
		small, blobs := farChunks(t, 200, 100)
		s.hold(t, small, blobs)
		large, blobs := farChunks(t, 6, 9<<20)
		for i, d := range large.All() {
			s.chunks[d.String()] = blobs[i]
		}
		snap, err := c.OpenSnapshot(t.Context(), "", first)
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		want := append(digestsOf(small), digestsOf(large)...)
		var mu sync.Mutex
		got := map[chunks.Digest]bool{}
		err = snap.Chunks().GetMany(t.Context(), want, func(d chunks.Digest, b chunks.Blob, err error) error {
			mu.Lock()
			defer mu.Unlock()
			got[d] = true
			return errors.Join(err, b.Verify(d, nil))
		})
		if err != nil || len(got) != len(want) {
			t.Errorf("got %d of %d chunks, %v", len(got), len(want), err)
		}
		if s.asked <= len(want) {
			t.Errorf("%d chunks were asked for with %d requests: none was larger than thought", len(want), s.asked)
		}
	})
}

func TestASnapshotIsTheOneThatWasAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T, s *farServer, c *client.Client) {
		x, all := farChunks(t, 1, 1000)
		s.hold(t, x, all)
		_, err := c.OpenSnapshot(t.Context(), "", second)
		if !errors.Is(err, manifest.ErrInvalid) || !strings.Contains(err.Error(), "it is of "+first.String()) {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhatIsClosedGivesNothing(t *testing.T) {
	srv, _ := serve(t)
	c := connect(t, config(t, srv.Addr, srv.Fingerprint))
	from := smallSample(t, 1)
	if _, err := backUp(t.Context(), t, c, first, from, nil); err != nil {
		t.Fatal(err)
	}
	snap, err := c.OpenSnapshot(t.Context(), "", first)
	if err != nil {
		t.Fatal(err)
	}
	x, err := snap.Index("disk.img.fidx")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snap.Blob("none.blob"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a blob that is not there: %v", err)
	}
	if _, err := snap.Blob("../etc.blob"); err == nil {
		t.Error("a name that leaves the directory was asked for")
	}
	var of *chunks.Error
	if _, err := snap.Chunks().Get(t.Context(), chunks.Digest{1}, nil); !errors.As(err, &of) || errors.Is(err, chunks.ErrMissing) {
		t.Errorf("a chunk of no index: %v", err)
	}
	snap.Close()
	snap.Close()
	if _, err := snap.Chunks().Get(t.Context(), x.Digest(0), nil); !errors.Is(err, client.ErrClosed) {
		t.Errorf("a chunk of a closed snapshot: %v", err)
	}
	if _, err := snap.Blob("etc.conf.blob"); !errors.Is(err, client.ErrClosed) {
		t.Errorf("a blob of a closed snapshot: %v", err)
	}
	if err := snap.Chunks().GetMany(t.Context(), digestsOf(x), func(chunks.Digest, chunks.Blob, error) error { return nil }); !errors.Is(err, client.ErrClosed) {
		t.Errorf("chunks of a closed snapshot: %v", err)
	}
	if _, err := c.OpenSnapshot(t.Context(), "", second); err == nil || !strings.Contains(hint(err), "list the snapshots") {
		t.Errorf("a snapshot that is not there: %v, with the hint %q", err, hint(err))
	}
}
