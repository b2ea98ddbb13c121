package tier

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/cloudtest"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// A disk that was put back knew nothing of the snapshots that it had told the bucket
// of since: it took in their chunks from the newest root, and the next collection took
// them for garbage. Now it takes in the snapshots too, and only those: what was
// removed since the bucket was told stays removed.
func TestADiskThatWasPutBackKnowsWhatTheBucketHas(t *testing.T) {
	for name, lose := range map[string]func(dir string) error{
		"all of it":            func(string) error { return nil },
		"and what it had told": func(dir string) error { return os.Remove(filepath.Join(dir, tierDir, mirrorFile)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			cfg := s.config("home")
			recovery := s.create(cfg, true)
			tr, stop := s.open(cfg)
			mustBackup(t, tr, day1, image(1, 4*chunkSize))
			mustBackup(t, tr, day2, image(2, 4*chunkSize))
			offload(t, tr, OffloadOptions{})
			forget(t, tr, day1) // the bucket has it still when the disk is copied
			stop()
			old := filepath.Join(t.TempDir(), "old")
			must(t, os.CopyFS(old, os.DirFS(cfg.Dir)))
			tr, stop = s.open(cfg)
			third := image(3, 4*chunkSize)
			mustBackup(t, tr, day3, third)
			offload(t, tr, OffloadOptions{})
			stop()

			must(t, os.RemoveAll(cfg.Dir), os.CopyFS(cfg.Dir, os.DirFS(old)), lose(cfg.Dir))
			tr, stop = s.open(cfg)
			for range 3 {
				if _, err := tr.Collect(t.Context(), gc.Options{}); err != nil {
					t.Fatal(err)
				}
			}
			wantWhole(t, "after collections", tr)
			wantImage(t, tr, day3, third)
			if has := names(t, tr); !strings.Contains(has, day2) || strings.Contains(has, day1) {
				t.Errorf("there are %s", has)
			}
			offload(t, tr, OffloadOptions{})
			stop()
			other := s.taking(recovery) // who has nothing but the bucket
			other.take(s)
			wantImage(t, other.tr, day3, third)
			wantWhole(t, "from the bucket alone", other.tr)
		})
	}
}

// A journal that lost its end named files that had been in a root long ago, and no
// offload or collection got past them any more.
func TestAJournalWithoutItsEnd(t *testing.T) {
	for _, part := range []int{20, 50, 80, 95} {
		s := newSite(t)
		cfg := s.config("home")
		recovery := s.create(cfg, false)
		tr, stop := s.open(cfg)
		for n, day := range []string{day1, day2} {
			mustBackup(t, tr, day, image(uint64(n), 4*chunkSize))
			offload(t, tr, OffloadOptions{})
		}
		stop()
		notes := filepath.Join(cfg.Dir, tierDir, "notes")
		info, err := os.Stat(notes)
		must(t, err, os.Truncate(notes, info.Size()*int64(part)/100))
		tr, stop = s.open(cfg)
		mustBackup(t, tr, day3, image(3, 4*chunkSize))
		offload(t, tr, OffloadOptions{})
		if _, err := tr.Collect(t.Context(), gc.Options{}); err != nil {
			t.Errorf("%d %%: %v", part, err)
		}
		stop()
		other := s.taking(recovery)
		other.take(s)
		if has := names(t, other.tr); strings.Count(has, "vm/100") != 3 {
			t.Errorf("%d %%: the bucket has %s", part, has)
		}
		wantWhole(t, "from the bucket alone", other.tr)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// Files of snapshots that are gone from the disk were not forgotten: they come back
// from the bucket, before anything is collected. (They were taken out of the bucket by
// the next offload, and their chunks with the next collection.)
func TestWhatIsGoneFromTheDiskWasNotForgotten(t *testing.T) {
	first, second := image(1, 4*chunkSize), image(2, 4*chunkSize)
	for name, lose := range map[string]func(dir string) error{
		"everything": func(dir string) error { return os.RemoveAll(filepath.Join(dir, "vm")) },
		"a snapshot": func(dir string) error { return os.RemoveAll(filepath.Join(dir, day2)) },
		"a manifest": func(dir string) error { return os.Remove(filepath.Join(dir, day2, "index.json.blob")) },
		"an index":   func(dir string) error { return os.Remove(filepath.Join(dir, day2, "disk.img.fidx")) },
		"all but packs": func(dir string) error {
			entries, err := os.ReadDir(dir)
			for _, e := range entries {
				if n := e.Name(); n != "packs" && n != "cloud" && n != "holdfast-store.json" {
					err = errors.Join(err, os.RemoveAll(filepath.Join(dir, n)))
				}
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			cfg := s.config("home")
			recovery := s.create(cfg, false)
			tr, stop := s.open(cfg)
			mustBackup(t, tr, day1, first)
			mustBackup(t, tr, day2, second)
			mustBackup(t, tr, day3, first)
			offload(t, tr, OffloadOptions{})
			forget(t, tr, day3) // meant to go
			stop()
			must(t, lose(cfg.Dir))
			tr, stop = s.open(cfg)
			for range 3 {
				if _, err := tr.Collect(t.Context(), gc.Options{}); err != nil {
					t.Fatal(err)
				}
			}
			offload(t, tr, OffloadOptions{})
			wantImage(t, tr, day1, first)
			wantImage(t, tr, day2, second)
			if has := names(t, tr); strings.Contains(has, day3) {
				t.Errorf("what was forgotten is back: %s", has)
			}
			stop()
			other := s.taking(recovery)
			other.take(s)
			wantImage(t, other.tr, day2, second)
			if has := names(t, other.tr); strings.Contains(has, day3) {
				t.Errorf("the bucket has what was forgotten: %s", has)
			}
		})
	}
}

// While the bucket is away nothing is collected that only it could say is needed.
func TestNothingIsCollectedWhileSnapshotsAreGone(t *testing.T) {
	s := newSite(t)
	cfg := s.config("home")
	s.create(cfg, false)
	tr, stop := s.open(cfg)
	first := image(1, 4*chunkSize)
	mustBackup(t, tr, day1, first)
	offload(t, tr, OffloadOptions{})
	stop()
	must(t, os.RemoveAll(filepath.Join(cfg.Dir, "vm")))
	tr, _ = s.open(cfg)
	s.proxy.On(func(cloudtest.Request) *cloudtest.Fault { return &cloudtest.Fault{Status: 403, Code: "AccessDenied"} })
	if r, err := tr.Collect(t.Context(), gc.Options{}); err == nil || !strings.Contains(err.Error(), "gone from the disk") {
		t.Errorf("collected: %+v, %v", r, err)
	}
	s.proxy.On(nil)
	if _, err := tr.Collect(t.Context(), gc.Options{}); err != nil {
		t.Error(err)
	}
	wantImage(t, tr, day1, first)
}

// A snapshot that needs chunks of which only the bucket has any, and of which the bucket
// was not told yet, is there again when its node takes the bucket back within the grace,
// though the other owner has collected them. (It restored, and then the node's own
// collection dropped what dead packs still had.)
func TestTheBucketTakenBackWithinTheGrace(t *testing.T) {
	for _, first := range []string{"offload", "collect"} {
		s := newSite(t)
		cfg := s.config("home")
		cfg.Grace = time.Hour
		recovery := s.create(cfg, first == "offload")
		tr, _ := s.open(cfg)
		content := image(1, 6*chunkSize)
		mustBackup(t, tr, day1, content)
		offload(t, tr, OffloadOptions{})
		mustBackup(t, tr, day2, content) // nothing of it is new

		other := s.taking(recovery)
		other.cfg.Grace = time.Hour
		must(t, Attach(t.Context(), other.cfg, recovery, true))
		other.tr, _ = s.open(other.cfg)
		forget(t, other.tr, day1)
		mustBackup(t, other.tr, day3, image(3, 2*chunkSize))
		other.collect(s)
		offload(t, other.tr, OffloadOptions{})

		must(t, tr.TakeOver(t.Context(), true))
		if first == "offload" {
			offload(t, tr, OffloadOptions{})
		}
		for range 3 {
			if _, err := tr.Collect(t.Context(), gc.Options{}); err != nil {
				t.Fatal(err)
			}
		}
		wantImage(t, tr, day2, content)
		offload(t, tr, OffloadOptions{})
		wantWhole(t, first, tr)
		last := s.taking(recovery)
		last.cfg.Node = "last"
		last.take(s)
		wantImage(t, last.tr, day2, content)
	}
}
