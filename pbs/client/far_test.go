package client_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

func TestALongWayDoesNotSlowRestoresDown(t *testing.T) {
	bubble(t, func(t *testing.T, s *farServer, c *client.Client) {
		const n, size = 128, 256 << 10
		x, all := farChunks(t, n, size)
		s.hold(t, x, all)
		snap, err := c.OpenSnapshot(t.Context(), "", first)
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		if _, err := snap.Index("root.pxar.didx"); err != nil {
			t.Fatal(err)
		}
		var want []chunks.Digest
		for _, d := range x.All() {
			want = append(want, d)
		}
		start := time.Now()
		var mu sync.Mutex
		got := map[chunks.Digest]bool{}
		err = snap.Chunks().GetMany(t.Context(), want, func(d chunks.Digest, b chunks.Blob, err error) error {
			mu.Lock()
			defer mu.Unlock()
			got[d] = true
			return errors.Join(err, b.Verify(d, nil))
		})
		if err != nil || len(got) != n {
			t.Fatalf("got %d of %d chunks, %v", len(got), n, err)
		}
		// One after the other it would take 128 round trips. At first 38
		// chunks are thought to be as much as may be on its way.
		took := time.Since(start)
		t.Logf("%d chunks in %.1f round trips", n, float64(took)/float64(roundTrip))
		if took > 6*roundTrip {
			t.Errorf("%d chunks took %v, which are %.1f round trips", n, took, float64(took)/float64(roundTrip))
		}
	})
}

// putAll puts and appends the chunks of an archive that the sink does not know.
func putAll(ctx context.Context, sink archive.Sink, x *chunks.Dynamic, all []chunks.Blob) error {
	for i, d := range x.All() {
		if k, ok := sink.(chunks.Knower); !ok || !k.Known(d) {
			if _, err := sink.Put(ctx, d, all[i]); err != nil {
				return err
			}
		}
		at, end := x.Range(i)
		if err := sink.Append(ctx, chunks.Stored{Offset: at, Size: int(end - at), Digest: d}); err != nil {
			return err
		}
	}
	return nil
}

func TestALongWayDoesNotSlowBackupsDown(t *testing.T) {
	bubble(t, func(t *testing.T, s *farServer, c *client.Client) {
		const n, size = 128, 256 << 10
		x, all := farChunks(t, n, size)
		b, err := c.Begin(t.Context(), "", first, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Abort()
		start := time.Now()
		sink, err := b.Open(t.Context(), "root.pxar.didx", -1)
		if err != nil {
			t.Fatal(err)
		}
		if err := putAll(t.Context(), sink, x, all); err != nil {
			t.Fatal(err)
		}
		m := manifest.New(first)
		if err := errors.Join(sink.Close(t.Context(), x), b.Finish(t.Context(), m)); err != nil {
			t.Fatal(err)
		}
		// The server's window has room for the 100 that travel at the same
		// time; open, the last appends, close, manifest and finish take five.
		took := time.Since(start)
		t.Logf("%d chunks in %.1f round trips, %d requests to append", n, float64(took)/float64(roundTrip), s.appends)
		if took > 9*roundTrip {
			t.Errorf("%d chunks took %v, which are %.1f round trips", n, took, float64(took)/float64(roundTrip))
		}
		if s.appended != n || s.appends > 10 {
			t.Errorf("%d chunks were appended with %d requests", s.appended, s.appends)
		}
	})
}

func TestAServerThatDiesIsMissed(t *testing.T) {
	bubble(t, func(t *testing.T, s *farServer, c *client.Client) {
		s.silent = make(chan struct{})
		defer close(s.silent)
		x, all := farChunks(t, 1, 1000)
		b, err := c.Begin(t.Context(), "", first, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Abort()
		sink, err := b.Open(t.Context(), "root.pxar.didx", -1)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour) // nothing happens on a connection that is alive
		if _, err := sink.Put(t.Context(), x.Digest(0), all[0]); err != nil {
			t.Fatal(err)
		}
		if err := sink.Append(t.Context(), chunks.Stored{Size: 1000, Digest: x.Digest(0)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s.ends[0].cut()
		start := time.Now()
		err = sink.Close(t.Context(), x)
		var lost *client.LostError
		if took := time.Since(start); !errors.As(err, &lost) || took > 3*time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func TestCancellingTakesNoTime(t *testing.T) {
	for _, row := range []struct {
		name string
		run  func(ctx context.Context, t *testing.T, s *farServer, c *client.Client) error
	}{
		{"a restore", func(ctx context.Context, t *testing.T, s *farServer, c *client.Client) error {
			x, all := farChunks(t, 100, 1000)
			s.hold(t, x, all)
			snap, err := c.OpenSnapshot(t.Context(), "", first)
			if err != nil {
				return err
			}
			defer snap.Close()
			var want []chunks.Digest
			for _, d := range x.All() {
				want = append(want, d)
			}
			return snap.Chunks().GetMany(ctx, want, func(chunks.Digest, chunks.Blob, error) error { return nil })
		}},
		{"a backup", func(ctx context.Context, t *testing.T, s *farServer, c *client.Client) error {
			x, all := farChunks(t, 100, 1<<20)
			b, err := c.Begin(ctx, "", first, nil)
			if err != nil {
				return err
			}
			defer b.Abort()
			sink, err := b.Open(ctx, "root.pxar.didx", -1)
			for i := 0; err == nil; i++ {
				if _, err = sink.Put(ctx, x.Digest(i), all[i]); err == nil {
					err = sink.Append(ctx, chunks.Stored{Offset: int64(i) << 20, Size: 1 << 20, Digest: x.Digest(i)})
				}
			}
			return err
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *farServer, c *client.Client) {
				s.silent = make(chan struct{})
				defer close(s.silent)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Hour, cancel)
				start := time.Now()
				err := row.run(ctx, t, s, c)
				if took := time.Since(start) - time.Hour; !errors.Is(err, context.Canceled) || took > time.Second {
					t.Errorf("it ended after %v with %v", took, err)
				}
			})
		})
	}
}
