package pack

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
)

// indexWounds damages the files of an index in every class of places: what
// they are made of is in chunks/pack/index/DESIGN.md.
func indexWounds(files map[string][]byte) []wound {
	var ws []wound
	for name, b := range files {
		size := int64(len(b))
		switch {
		case name == identity.IndexDir+"/current":
			ws = append(ws, wounds(name, "the list of runs", []field{
				{"magic", 0, true}, {"version", 8, false}, {"run count", 12, false}, {"generation", 16, true},
				{"live count", 24, false}, {"length of the state", 32, false}, {"number of a run", 40, true},
				{"records of a run", 48, false}, {"sum of a run", 56, false}, {"next pack number", 64, false},
				{"the pack table", size / 2, true}, {"the last row of the pack table", size - 20, false},
				{"its sum", size - 1, true},
			})...)
		case strings.HasSuffix(name, ".run"):
			records := int64(2 * 4096) // header, a page of lines
			ws = append(ws, wounds(name, "a run", []field{
				{"magic", 0, true}, {"version", 8, false}, {"record size", 12, false}, {"number", 16, false},
				{"line count", 24, false}, {"zeros of the header", 2048, false}, {"header sum", 4088, false},
				{"the start in a line", 4096, true}, {"a print in a line", 4100, false},
				{"zeros behind the lines", records - 100, false},
				{"digest of the first record", records, true}, {"pack of a record", records + 32, false},
				{"entry of a record", records + 36, false}, {"offset of a record", records + 40, false},
				{"length of a record", records + 44, false}, {"the middle of the records", (records + size) / 2, true},
				{"block sum", size - 64 - 8, true}, {"footer magic", size - 64, true},
				{"record count", size - 56, false}, {"tombstone count", size - 48, false},
				{"sum of the lines", size - 40, false}, {"sum of the block sums", size - 32, false},
				{"sum of the header", size - 24, false}, {"zeros of the footer", size - 16, false},
				{"footer sum", size - 1, true},
			})...)
		}
	}
	return ws
}

// TestDamagedIndex promises: damage to the index harms no chunk. After a crash
// it is found at once; after a clean stop, when nobody looks, it can hide a
// chunk until a scrub finds it or a garbage collection, which refuses to begin.
// Then the next start makes the index anew.
func TestDamagedIndex(t *testing.T) {
	v := newVictim(t)
	var cases atomic.Int64
	for _, st := range stops[:2] {
		for _, w := range indexWounds(v.files) {
			for _, finder := range []string{"scrub", "garbage collection"} {
				t.Run(fmt.Sprintf("%s, found by %s: %s", st.name, finder, w.name), func(t *testing.T) {
					t.Parallel()
					cases.Add(1)
					o := newOrdeal(t, v, st, w)
					s := openStore(t, Config{FS: hasty{}, Dir: o.dir, Direct: DirectOff})
					if s.Health().Rebuilt {
						wantWhole(t, s, v)
						closeStore(t, s)
						return
					}
					if st.name != stops[0].name {
						t.Fatal("after a crash nobody noticed")
					}
					o.readHidden(t, s)
					o.findIndex(t, s, finder)
					_ = s.Close() // it cannot merge what is damaged, and need not
					again := openStore(t, s.cfg)
					if !again.Health().Rebuilt {
						t.Errorf("the index was not made anew; health %+v", again.Health())
					}
					wantWhole(t, again, v)
					closeStore(t, again)
				})
			}
		}
	}
	t.Cleanup(func() { t.Logf("%d cases of damage to the index", cases.Load()) })
}

// readHidden accepts that chunks cannot be found, but no wrong bytes.
func (o *ordeal) readHidden(t *testing.T, s *Store) {
	t.Helper()
	for _, c := range o.v.chunks {
		b, err := s.Get(t.Context(), c.Digest, nil)
		if err != nil {
			o.hurt[c.Digest] = true
		}
		o.judge(t, c, b, err)
	}
	if len(o.hurt) > 1 && strings.Contains(o.wound.name, "a bit flipped") && strings.Contains(o.wound.name, "of a record") {
		t.Errorf("one bit of one record hides %d chunks", len(o.hurt))
	}
}

func (o *ordeal) findIndex(t *testing.T, s *Store, finder string) {
	t.Helper()
	if finder != "scrub" {
		if _, _, err := s.BeginEpoch(t.Context()); !errors.Is(err, index.ErrDamaged) {
			t.Errorf("garbage collection on a damaged index begins with %v", err)
		}
		return
	}
	found := false
	for _, d := range deepScrub(t, s, o.v.key).Damaged {
		if d.Digest != (chunks.Digest{}) {
			t.Errorf("scrub finds chunk %s damaged: %s", d.Digest.Short(), d.Reason)
		}
		found = found || d.Pack == "index"
	}
	if !found {
		t.Error("scrub did not find the damage")
	}
}

// wantWhole fails the test unless s has all chunks of v and is without damage.
func wantWhole(t *testing.T, s *Store, v *victim) {
	t.Helper()
	wantKnown(t, s, v.chunks)
	wantAll(t, s, v.chunks)
	if report := deepScrub(t, s, v.key); len(report.Damaged) > 0 {
		t.Errorf("scrub finds %+v", report.Damaged)
	}
}

// everywhere returns fields at the given number of places in a file, from its
// first byte to its last.
func everywhere(size int64, places int64) []field {
	var fs []field
	for i := range places {
		off := i * (size - 1) / (places - 1)
		fs = append(fs, field{fmt.Sprintf("offset %d", off), off, i%8 == 0})
	}
	return fs
}

// TestDamagedJournal promises: damage to the journal loses no chunk, in no
// state of the rest.
func TestDamagedJournal(t *testing.T) {
	v := newVictim(t)
	size := int64(len(v.files[identity.StateFile]))
	var cases atomic.Int64
	for _, st := range stops {
		for _, w := range wounds(identity.StateFile, "the journal", everywhere(size, min(size, 41))) {
			t.Run(st.name+": "+w.name, func(t *testing.T) {
				t.Parallel()
				cases.Add(1)
				o := newOrdeal(t, v, st, w)
				s := openStore(t, Config{FS: hasty{}, Dir: o.dir, Direct: DirectOff})
				wantWhole(t, s, v)
				o.stillWorks(t, s)
			})
		}
	}
	t.Cleanup(func() { t.Logf("%d cases of damage to the journal", cases.Load()) })
}

// stillWorks takes in a chunk, stops, and starts again.
func (o *ordeal) stillWorks(t *testing.T, s *Store) {
	t.Helper()
	more := put(t, s, 1000, 7777)
	commit(t, s)
	closeStore(t, s)
	again := openStore(t, s.cfg)
	if !again.Health().Clean {
		t.Errorf("health %+v", again.Health())
	}
	wantWhole(t, again, o.v)
	wantAll(t, again, more)
	closeStore(t, again)
}

// TestDamagedMarkOfCleanStop promises: whatever becomes of the file that says
// that the last stop was clean, the store opens and has everything.
func TestDamagedMarkOfCleanStop(t *testing.T) {
	v := newVictim(t)
	size := int64(len(v.files[identity.CleanFile]))
	for _, w := range wounds(identity.CleanFile, "the mark", everywhere(size, size)) {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			o := newOrdeal(t, v, stops[0], w)
			s := openStore(t, Config{FS: hasty{}, Dir: o.dir, Direct: DirectOff})
			wantWhole(t, s, v)
			o.stillWorks(t, s)
		})
	}
}

// TestDamagedIdentity promises: with a damaged identity the store either opens
// and has everything, or refuses, says how to go on, and leaves all as it is.
func TestDamagedIdentity(t *testing.T) {
	v := newVictim(t)
	size := int64(len(v.files[identity.File]))
	var cases, refused atomic.Int64
	for i, w := range wounds(identity.File, "the identity", everywhere(size, size)) {
		for _, st := range stops[i%3 : i%3+1] { // each is slow, and they hardly differ
			t.Run(st.name+": "+w.name, func(t *testing.T) {
				t.Parallel()
				cases.Add(1)
				o := newOrdeal(t, v, st, w)
				s, err := Open(t.Context(), Config{FS: hasty{}, Dir: o.dir, Direct: DirectOff})
				if err == nil {
					wantWhole(t, s, v)
					o.stillWorks(t, s)
					files := readTree(t, o.dir)
					withoutIndex(files) // it must not have become the store of another ID
					wantWhole(t, openFiles(t, files), v)
					return
				}
				refused.Add(1)
				var hinted interface{ Hint() string }
				if !errors.As(err, &hinted) || hinted.Hint() == "" {
					t.Errorf("refused without a hint: %v", err)
				}
				if err := os.WriteFile(filepath.Join(o.dir, identity.File), v.files[identity.File], 0o600); err != nil {
					t.Fatal(err)
				}
				s = openStore(t, Config{FS: hasty{}, Dir: o.dir, Direct: DirectOff})
				wantWhole(t, s, v)
				o.stillWorks(t, s)
			})
		}
	}
	t.Cleanup(func() { t.Logf("%d cases of damage to the identity, %d refused", cases.Load(), refused.Load()) })
}

// TestSmallFilesGone promises: lock and reserve are made anew.
func TestSmallFilesGone(t *testing.T) {
	v := newVictim(t)
	files := maps.Clone(v.files)
	delete(files, identity.LockFile)
	dir := writeTree(t, files)
	if err := os.Remove(filepath.Join(dir, identity.ReserveFile)); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Config{FS: hasty{}, Dir: dir, Direct: DirectOff})
	wantWhole(t, s, v)
	if info, err := os.Stat(filepath.Join(dir, identity.ReserveFile)); err != nil || info.Size() == 0 {
		t.Errorf("the reserve was not made: %v", err)
	}
}
