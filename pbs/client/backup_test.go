package client_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

func TestABackupComesBackAsItWas(t *testing.T) {
	for _, row := range []struct {
		name string
		key  *chunks.Key
	}{
		{"plain", nil},
		{"encrypted", key},
	} {
		t.Run(row.name, func(t *testing.T) {
			srv, _ := serve(t)
			c := connect(t, config(t, srv.Addr, srv.Fingerprint))
			for n, s := range []naming.Snapshot{first, second} {
				from := newSample(t, uint64(n))
				if _, err := backUp(t.Context(), t, c, s, from, row.key); err != nil {
					t.Fatal(err)
				}
				if err := restore(t.Context(), t, c, s, from, row.key); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := srv.Datastore.Describe("", second); err != nil {
				t.Error(err)
			}
		})
	}
}

// Requests of HTTP/2 are recorded as they begin, and those of different
// archives travel side by side, so it is the order of each archive that counts.
func TestRequestsComeInTheOrderOfTheOfficialClient(t *testing.T) {
	srv, rec := serve(t)
	c := connect(t, config(t, srv.Addr, srv.Fingerprint))
	from := newSample(t, 1)
	for n, want := range [][]string{{
		"POST /access/ticket", "GET /backup", "GET /previous_backup_time",
		"POST /dynamic_index root.pxar.didx", "POST /dynamic_chunk", "PUT /dynamic_index", "POST /dynamic_close",
		"POST /fixed_index disk.img.fidx", "POST /fixed_chunk", "PUT /fixed_index", "POST /fixed_close",
		"POST /blob etc.conf.blob", "POST /blob index.json.blob", "POST /finish",
	}, {
		"GET /backup", "GET /previous_backup_time", "GET /previous index.json.blob",
		"GET /previous root.pxar.didx", "POST /dynamic_index root.pxar.didx", "PUT /dynamic_index", "POST /dynamic_close",
		"GET /previous disk.img.fidx", "POST /fixed_index disk.img.fidx", "PUT /fixed_index", "POST /fixed_close",
		"POST /blob etc.conf.blob", "POST /blob index.json.blob", "POST /finish",
	}} {
		s := []naming.Snapshot{first, second}[n]
		sum, err := backUp(t.Context(), t, c, s, from, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := rec.take()
		if line := missing(want, got); line != "" {
			t.Errorf("backup %d: %q is missing, or comes too early, in\n%s", n+1, line, strings.Join(got, "\n"))
		}
		if slices.Contains(got, "GET /previous catalog.pcat1.didx") {
			t.Error("the last catalog was asked for")
		}
		uploads := 0
		for _, line := range got {
			if strings.HasSuffix(line, "_chunk") {
				uploads++
			}
		}
		if want := int(sum.Total.NewChunks); uploads != want || n == 1 && uploads > 1 { // the catalog's
			t.Errorf("backup %d: %d chunks were uploaded, %d were new", n+1, uploads, want)
		}
	}
	if err := restore(t.Context(), t, c, second, from, nil); err != nil {
		t.Fatal(err)
	}
	want := []string{"GET /reader", "GET /download index.json.blob", "GET /download disk.img.fidx", "GET /chunk"}
	if got := rec.take(); !slices.Equal(got[:4], want) {
		t.Errorf("the restore asked for %q first, want %q", got[:4], want)
	}
}

// missing returns the first of want that does not come in got after those
// before it, "" if all do.
func missing(want, got []string) string {
	for _, line := range got {
		if len(want) > 0 && line == want[0] {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		return want[0]
	}
	return ""
}

func TestEveryRefusalEndsTheBackup(t *testing.T) {
	from := smallSample(t, 1)
	// The first backup of each pair is the last one that the second builds on.
	for n := 1; ; n++ {
		srv, rec := serve(t)
		c := connect(t, config(t, srv.Addr, srv.Fingerprint))
		if _, err := backUp(t.Context(), t, c, first, from, nil); err != nil {
			t.Fatal(err)
		}
		rec.take()
		rec.refuseNumber(n, errors.New("out of order today"))
		_, err := backUp(t.Context(), t, c, second, smallSample(t, 2), nil)
		lines := rec.take()
		if n > len(lines) {
			if err != nil {
				t.Errorf("no request was refused, and yet: %v", err)
			}
			return
		}
		line := lines[n-1]
		if strings.HasPrefix(line, "GET /previous") { // all is sent then
			if err != nil {
				t.Errorf("%s was refused: %v", line, err)
			}
			continue
		}
		var refused *client.APIError
		if !errors.As(err, &refused) || refused.Message != "out of order today" {
			t.Errorf("%s was refused: got %v", line, err)
		}
		srv.Wait()
		if list, err := srv.Datastore.Snapshots(t.Context(), "", group); err != nil || len(list) != 1 {
			t.Errorf("%s was refused: the datastore has %v, %v", line, list, err)
		}
	}
}

func TestALostConnectionEndsTheBackup(t *testing.T) {
	for _, at := range []string{"GET /previous_backup_time", "POST /dynamic_index root.pxar.didx", "POST /fixed_chunk", "PUT /fixed_index", "POST /fixed_close", "POST /blob etc.conf.blob", "POST /finish"} {
		t.Run(at, func(t *testing.T) {
			srv, rec := serve(t)
			c := connect(t, config(t, srv.Addr, srv.Fingerprint))
			rec.on(at, func() error {
				srv.Break()
				time.Sleep(10 * time.Millisecond) // the answer must not overtake it
				return errors.New("broken")
			})
			_, err := backUp(t.Context(), t, c, first, smallSample(t, 1), nil)
			var lost *client.LostError
			if !errors.As(err, &lost) || lost.Hint() == "" {
				t.Fatalf("got %v, want a LostError", err)
			}
			if told := strings.Contains(lost.Hint(), "may have finished"); told != (at == "POST /finish") {
				t.Errorf("the hint is %q", lost.Hint())
			}
			if err := restore(t.Context(), t, c, first, sample{}, nil); err == nil {
				t.Error("the snapshot is there")
			}
		})
	}
}

func TestACancelledBackupEndsAtOnce(t *testing.T) {
	for _, at := range []string{"GET /backup", "GET /previous_backup_time", "POST /dynamic_index root.pxar.didx", "POST /fixed_chunk", "PUT /fixed_index", "POST /blob etc.conf.blob", "POST /finish"} {
		t.Run(at, func(t *testing.T) {
			srv, rec := serve(t)
			c := connect(t, config(t, srv.Addr, srv.Fingerprint))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			release := make(chan struct{})
			defer close(release)
			var when time.Time
			rec.on(at, func() error {
				when = time.Now()
				cancel()
				<-release // the server answers nothing more
				return nil
			})
			_, err := backUp(ctx, t, c, first, smallSample(t, 1), nil)
			// On a machine that has other things to do; over a long way, in
			// time of its own, it is one second: see far_test.go.
			if took := time.Since(when); !errors.Is(err, context.Canceled) || took > 10*time.Second {
				t.Errorf("it ended after %v with %v", took, err)
			}
		})
	}
}

func TestMisuseOfABackupIsRefused(t *testing.T) {
	srv, _ := serve(t)
	c := connect(t, config(t, srv.Addr, srv.Fingerprint))
	b, err := c.Begin(t.Context(), "", first, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	for _, row := range []struct {
		name, archive string
		size          int64
		want          string
	}{
		{"an image without a size", "a.img.fidx", -1, "keeps no image of -1 bytes"},
		{"an empty image", "a.img.fidx", 0, "keeps no image of 0 bytes"},
		{"a blob as an archive", "a.blob", 1, "keeps archives as .fidx and .didx"},
	} {
		if _, err := b.Open(t.Context(), row.archive, row.size); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", row.name, err, row.want)
		}
	}
	sink, err := b.Open(t.Context(), "a.img.fidx", 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Append(t.Context(), chunks.Stored{Size: 5}); err == nil || !strings.Contains(err.Error(), "was not put") {
		t.Errorf("a chunk that was not put: %v", err)
	}
	if err := b.Finish(t.Context(), manifest.New(first)); err == nil || !strings.Contains(err.Error(), "not closed") {
		t.Errorf("finish with an open archive: %v", err)
	}
	b.Abort()
	if _, err := sink.Put(t.Context(), chunks.Digest{}, nil); !errors.Is(err, client.ErrEnded) {
		t.Errorf("put after abort: %v", err)
	}
	if _, err := b.Open(t.Context(), "b.pxar.didx", -1); !errors.Is(err, client.ErrEnded) {
		t.Errorf("open after abort: %v", err)
	}
}

func TestASecondBackupOfTheGroupIsRefused(t *testing.T) {
	srv, _ := serve(t)
	c := connect(t, config(t, srv.Addr, srv.Fingerprint))
	b, err := c.Begin(t.Context(), "", first, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	_, err = c.Begin(t.Context(), "", second, nil)
	var refused *client.APIError
	if !errors.As(err, &refused) || !strings.Contains(refused.Hint(), "wait until the other backup") {
		t.Errorf("got %v", err)
	}
}

func TestTheBenchmarkKeepsNothing(t *testing.T) {
	srv, _ := serve(t)
	c := connect(t, config(t, srv.Addr, srv.Fingerprint))
	speed, err := c.Benchmark(t.Context(), 100*time.Millisecond)
	if err != nil || speed < 1<<20 {
		t.Errorf("got %v bytes per second, %v", speed, err)
	}
	srv.Wait()
	list, err := srv.Datastore.List(t.Context(), catalog.ListOptions{})
	if err != nil || len(list) != 0 {
		t.Errorf("the datastore has %v, %v", list, err)
	}
	speeds, err := client.MeasureLocal(t.Context(), time.Millisecond)
	if err != nil || min(speeds.Hash, speeds.Compress, speeds.Decompress, speeds.Encrypt, speeds.Verify) < 1<<20 {
		t.Errorf("got %+v, %v", speeds, err)
	}
}
