package tier

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
