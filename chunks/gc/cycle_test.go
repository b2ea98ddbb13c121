package gc

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

func TestCollectionKeepsExactlyWhatSnapshotsNeed(t *testing.T) {
	s := newSite(t, 2, canPunch)
	old := s.backup("old", 0, 1, 2, 3)
	s.backup("new", 2, 4)
	s.roots.forget(old)
	r := s.collect(Options{})
	s.holds("2 4")
	size := int64(len(chunk(2).Blob) + len(chunk(4).Blob))
	if r.IndexFiles != 1 || r.IndexBytes != 2<<22 || r.DiskChunks != 2 || r.DiskBytes != size || r.CondemnedChunks != 3 || r.RemovedChunks != 3 || r.PendingChunks != 0 {
		t.Errorf("report %+v", r)
	}
	if p := r.Plan; p.DeadChunks != 3 || p.LiveChunks != 2 || len(p.Packs) != 2 || p.Packs[0].Method != pack.Drop || p.Packs[1].Method != pack.Punch {
		t.Errorf("plan %+v", p)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	s := newSite(t, 2, canPunch)
	s.roots.forget(s.backup("old", 0, 1))
	s.backup("new", 2)
	epoch, before := s.store.epoch, s.fs.(*files).content()
	r := s.collect(Options{DryRun: true})
	s.holds("0 1 2")
	if r.Plan.DeadChunks != 2 || r.Plan.FreeBytes == 0 || r.RemovedChunks != 0 || s.store.Condemned().Len() != 0 {
		t.Errorf("report %+v", r)
	}
	if s.store.epoch != epoch || r.Epoch != epoch {
		t.Errorf("the epoch was %d, is %d, and the report says %d", epoch, s.store.epoch, r.Epoch)
	}
	if after := s.fs.(*files).content(); !maps.Equal(after, before) {
		t.Errorf("the collector's directory was %q and is %q", before, after)
	}
}

func TestReportSpeaksPBS(t *testing.T) {
	s := newSite(t, 2, canPunch)
	s.roots.forget(s.backup("old", 0, 1))
	empty, err := json.Marshal(newSite(t, 2, canPunch).collect(Options{}))
	s.ok(err)
	if !strings.Contains(string(empty), `"packs":[]`) {
		t.Errorf("a plan about nothing is not an empty list: %s", empty)
	}
	b, err := json.Marshal(s.collect(Options{DryRun: true}))
	s.ok(err)
	for _, name := range []string{
		"index-file-count", "index-data-bytes", "disk-bytes", "disk-chunks",
		"removed-bytes", "removed-chunks", "pending-bytes", "pending-chunks", `"method":"drop"`,
	} {
		if !strings.Contains(string(b), name) {
			t.Errorf("%s lacks %s", b, name)
		}
	}
}

func TestOnlyOneCollectionAtATime(t *testing.T) {
	s := newSite(t, 2, canPunch)
	y, err := s.begin(context.Background(), Options{})
	s.ok(err)
	if _, err := s.Run(context.Background(), Options{}); !errors.Is(err, ErrRunning) {
		t.Errorf("second collection: %v", err)
	}
	y.c.end()
	s.collect(Options{})
}

// Whatever a collection cannot read, it must not take for unused.
func TestNothingIsRemovedOnPartialKnowledge(t *testing.T) {
	for _, row := range []struct {
		name string
		harm func(*site, *memRoot)
		want string
	}{
		{"an index cannot be read", func(_ *site, r *memRoot) { r.err = errPlanted }, "read kept, without which nothing can be removed: planted failure"},
		{"an index is listed but not there", func(s *site, r *memRoot) { r.gone = true }, "read kept: it is listed, but not there"},
		{"the snapshots cannot be listed", func(s *site, _ *memRoot) { s.roots.err = errPlanted }, "list the snapshots: planted failure"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t, 2, canPunch)
			kept := s.backup("kept", 0, 1)
			s.roots.forget(s.backup("old", 2))
			row.harm(s, kept)
			_, err := s.Run(context.Background(), Options{})
			wants(t, err, "collect garbage of twin", row.want)
			s.holds("0 1 2")
			kept.err, kept.gone, s.roots.err = nil, false, nil
			s.collect(Options{})
			s.holds("0 1")
		})
	}
}

func TestMissingChunksAreReported(t *testing.T) {
	s := newSite(t, 2, canPunch)
	s.backup("whole", 0)
	s.roots.add("torn", digestsOf(0, 8, 9))
	for range 2 { // the bitmap of a torn root is not kept
		r := s.collect(Options{})
		if r.MissingRoots != 1 || len(r.Missing) != 1 || r.Missing[0] != (RootMissing{"torn", 2}) {
			t.Errorf("report %+v", r)
		}
	}
}

// A chunk that could not be read once is still what the snapshot needs.
func TestQuarantinedChunksAreNotGarbage(t *testing.T) {
	s := newSite(t, 2, canPunch)
	s.backup("kept", 0, 1)
	s.store.quarantine(chunk(0).Digest)
	r := s.collect(Options{})
	if r.CondemnedChunks != 0 || r.MissingRoots != 0 {
		t.Errorf("report %+v", r)
	}
}

func TestBitmapsAreKeptBetweenCollections(t *testing.T) {
	s := newSite(t, 2, canPunch)
	s.backup("a", 0, 1)
	b := s.backup("b", 1, 2)
	file := path.Join("gc/marks", bitmapName("b"))
	cached := func(want int64) {
		t.Helper()
		r := s.collect(Options{})
		if r.CachedFiles != want || r.IndexBytes != 4<<22 {
			t.Errorf("%d of %d bitmaps were used, want %d; %d bytes", r.CachedFiles, r.IndexFiles, want, r.IndexBytes)
		}
		s.holds("0 1 2")
	}
	cached(0)
	cached(2)
	f, err := s.fs.OpenFile(file, os.O_RDWR, 0)
	s.ok(err)
	_, err = f.WriteAt([]byte{0xff}, 60)
	s.ok(err)
	cached(1) // damaged
	cached(2)
	s.store.generation++
	cached(0)
	cached(2)
	s.roots.forget(b)
	s.collect(Options{})
	if _, err := s.fs.Stat(file); !errors.Is(err, errNotExist) {
		t.Errorf("the bitmap of a forgotten snapshot: %v", err)
	}
}

// What finishes while a collection runs lies above its watermark: after a
// crash the same place may hold another chunk, so no bitmap may name it.
func TestBitmapsNameNothingAboveTheWatermark(t *testing.T) {
	s := newSite(t, 4, canPunch)
	s.backup("a", 0)
	ctx := context.Background()
	y, err := s.begin(ctx, Options{})
	s.ok(err)
	s.backup("b", 1)
	s.ok(y.markAll(ctx))
	s.end()
	if r := s.collect(Options{}); r.CachedFiles != 1 || r.IndexFiles != 2 {
		t.Errorf("%d bitmaps were used, want that of a only", r.CachedFiles)
	}
}

func TestCancelledCollectionCanBeRepeated(t *testing.T) {
	s := newSite(t, 2, canPunch)
	s.roots.forget(s.backup("old", 0, 1))
	s.backup("kept", 2, 3)
	ctx, cancel := context.WithCancel(context.Background())
	for _, phase := range []string{"mark", "sweep", "reclaim"} {
		_, err := s.Run(ctx, Options{Progress: func(p Progress) {
			if p.Phase == phase {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled in %s: %v", phase, err)
		}
		ctx, cancel = context.WithCancel(context.Background())
	}
	cancel()
	s.collect(Options{})
	s.holds("2 3")
	if n := s.store.Condemned().Len(); n != 0 {
		t.Errorf("%d condemned chunks are left", n)
	}
}

// A full disk is when a collection is needed most.
func TestCollectionNeedsNoSpace(t *testing.T) {
	mem := disktest.NewMem()
	s := &site{t: t, store: newTwin(2, canPunch), roots: &memRoots{}, fs: mem}
	s.boot()
	s.roots.forget(s.backup("old", 0, 1))
	s.backup("kept", 2)
	mem.SetLimit(1)
	x := s.open()
	for n := range uint32(1000) {
		x.add(pack.Ref{Pack: n, Entry: 9}) // more than the journal's last block holds
	}
	if err := x.Commit(context.Background()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("commit on a full disk: %v", err)
	}
	x.Abort()
	for range 2 {
		if r := s.collect(Options{}); r.CachedFiles != 0 {
			t.Error("a bitmap was saved on a full disk")
		}
	}
	s.holds("2")
}

// A damaged index can make a chunk that is needed look unknown. Nothing is
// condemned on its word.
func TestDamagedIndexStopsTheSweep(t *testing.T) {
	s := newSite(t, 2, canPunch)
	s.roots.forget(s.backup("old", 0, 1))
	s.store.faults.index = errors.New("a run is damaged")
	if _, err := s.Run(context.Background(), Options{}); err == nil || !strings.Contains(err.Error(), "nothing was removed") {
		t.Errorf("Run = %v", err)
	}
	s.holds("0 1")
	if n := s.store.Condemned().Len(); n != 0 {
		t.Errorf("%d chunks are condemned", n)
	}
}
