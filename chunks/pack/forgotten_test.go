package pack

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// The headers of all packs but one are damaged, and their numbers with them.
// Index and journal are gone as well. They get new numbers, none of which
// another pack has.
func TestPacksWithoutNumbers(t *testing.T) {
	v := newVictim(t)
	for spared := range v.packs {
		files := maps.Clone(v.files)
		withoutIndex(files)
		delete(files, identity.StateFile)
		for i, p := range v.packs {
			if i != spared {
				files[p.file] = flip(56)(files[p.file])
			}
		}
		s := openFiles(t, files)
		wantKnown(t, s, v.chunks)
		wantAll(t, s, v.chunks)
		if p := s.packs.At(uint32(spared)); p == nil || !strings.HasSuffix(s.path(p), v.packs[spared].file) {
			t.Errorf("pack %d did not keep its number", spared)
		}
		more := put(t, s, 1000, 7777)
		commit(t, s)
		wantAll(t, s, more)
	}
}

// sparseVictim returns the files of a store with large chunks, some of them
// mostly zeros, and its chunks.
func sparseVictim(t *testing.T) (*Store, []chunktest.Chunk) {
	t.Helper()
	s := newStore(t, Config{FS: hasty{}, Direct: DirectOff, Lanes: 1})
	var cs []chunktest.Chunk
	for i := range uint64(12) {
		plain := chunktest.Random(i, 256<<10)
		if i%2 == 1 {
			clear(plain[10<<10 : 200<<10])
		}
		c := chunktest.Encode(plain, chunks.EncodeOptions{})
		if _, err := s.Put(t.Context(), c.Digest, c.Blob); err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	return sealed(t, s), cs
}

// holes reports whether the file system below dir makes and finds holes.
func holes(t *testing.T) {
	t.Helper()
	if can, err := disk.Probe(disk.OS{}, t.TempDir()); err != nil || !can.Punch {
		t.Skipf("the file system of the tests cannot punch holes: %+v, %v", can, err)
	}
}

// makeSparse turns every block of zeros of a file into a hole, as cp does.
func makeSparse(t *testing.T, name string) (punched int) {
	t.Helper()
	f, err := disk.OS{}.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, format.Align)
	for off := 0; off+format.Align <= len(b); off += format.Align {
		if bytes.Equal(b[off:off+format.Align], zeros) {
			if err := f.(disk.Puncher).Punch(int64(off), format.Align); err != nil {
				t.Fatal(err)
			}
			punched++
		}
	}
	return punched
}

// A copy of a store may have holes where chunks are zeros. If its journal and
// index are lost, that must not pass for space that was given back.
func TestSparseCopyLosesNothing(t *testing.T) {
	holes(t)
	for _, footer := range []string{"whole", "damaged"} {
		t.Run("footers "+footer, func(t *testing.T) {
			s, cs := sparseVictim(t)
			closeStore(t, s)
			files := readTree(t, s.dir)
			withoutIndex(files)
			delete(files, identity.StateFile)
			dir := writeTree(t, files)
			punched := 0
			for name, b := range files {
				if !strings.HasSuffix(name, ".hfpk") {
					continue
				}
				if footer == "damaged" {
					writeAt(t, filepath.Join(dir, name), int64(len(b))-20, []byte("damage"))
				}
				punched += makeSparse(t, filepath.Join(dir, name))
			}
			if punched < 100 {
				t.Fatalf("the test is void: %d holes", punched)
			}
			c := openStore(t, Config{FS: hasty{}, Dir: dir, Direct: DirectOff})
			wantKnown(t, c, cs)
			wantAll(t, c, cs)
			if report := deepScrub(t, c, nil); len(report.Damaged) > 0 || report.Chunks != int64(len(cs)) {
				t.Errorf("scrub finds %+v", report)
			}
		})
	}
}

func writeAt(t *testing.T, name string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// Chunks whose space was given back stay gone, whatever was lost of journal
// and index, and all others stay. A store that said otherwise would tell a
// client that it has bytes which it has not.
func TestPunchedChunksStayGone(t *testing.T) {
	holes(t)
	lose := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, n := range names {
				if err := os.RemoveAll(filepath.Join(dir, n)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, tt := range []struct {
		name string
		lose func(t *testing.T, dir string)
	}{
		{"after a clean stop", lose()},
		{"after a crash", lose(identity.CleanFile)},
		{"after a crash that took the journal", lose(identity.CleanFile, identity.StateFile)},
		{"after a clean stop, with a lost journal", lose(identity.StateFile)},
		{"after a crash that took the index", lose(identity.CleanFile, identity.IndexDir)},
		{"after a crash that took journal and index", lose(identity.CleanFile, identity.IndexDir, identity.StateFile)},
		{"with a damaged journal", func(t *testing.T, dir string) {
			writeAt(t, filepath.Join(dir, identity.StateFile), 40, []byte("damage"))
		}},
	} {
		for _, flushed := range []bool{true, false} {
			t.Run(tt.name, func(t *testing.T) {
				s, cs := sparseVictim(t)
				s = reopened(t, s) // so that the index on disk has all chunks
				dead, live := cs[3:7], slices.Concat(cs[:3], cs[7:])
				condemn(t, s, dead)
				if _, err := s.Reclaim(t.Context(), 0, Punch, nil); err != nil {
					t.Fatal(err)
				}
				dir := s.dir
				if flushed {
					closeStore(t, s)
				} else {
					dir = copied(t, s) // as the disk would be after a crash at this moment
				}
				tt.lose(t, dir)
				c := openStore(t, Config{FS: hasty{}, Dir: dir, Direct: DirectOff})
				wantUnknown(t, c, dead)
				wantKnown(t, c, live)
				wantAll(t, c, live)
				if report := deepScrub(t, c, nil); len(report.Damaged) > 0 || report.Chunks != int64(len(live)) {
					t.Errorf("scrub finds %+v", report)
				}
			})
		}
	}
}

func reopened(t *testing.T, s *Store) *Store {
	t.Helper()
	closeStore(t, s)
	return openStore(t, s.cfg)
}

// condemn condemns chunks durably.
func condemn(t testing.TB, s *Store, cs []chunktest.Chunk) {
	t.Helper()
	set := &Set{}
	for _, c := range cs {
		ref, ok := s.Lookup(c.Digest)
		if !ok {
			t.Fatalf("chunk %s is not there", c.Digest.Short())
		}
		set.Add(ref)
	}
	s.Condemn(set)
	if err := s.SyncState(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// copied copies the files of an open store, holes included.
func copied(t *testing.T, s *Store) string {
	t.Helper()
	dir := writeTree(t, readTree(t, s.dir))
	for _, p := range s.packs.All() {
		rel, err := filepath.Rel(s.dir, s.path(p))
		if err != nil {
			t.Fatal(err)
		}
		copyHoles(t, s.path(p), filepath.Join(dir, rel))
	}
	return dir
}

func copyHoles(t *testing.T, from, to string) {
	t.Helper()
	src, err := disk.OS{}.OpenFile(from, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := disk.OS{}.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	size, err := src.Size()
	for off := int64(0); err == nil && off < size; {
		var start, end int64
		if start, end, err = src.(disk.Extenter).NextHole(off); err == nil && start < size {
			err = dst.(disk.Puncher).Punch(start, end-start)
		}
		off = end
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A chunk that was damaged and stored again has two entries, and only the
// journal knows which of them is damaged. If it is lost, the newer one counts.
func TestHealedChunkSurvivesLossOfJournal(t *testing.T) {
	for _, st := range stops {
		t.Run(st.name, func(t *testing.T) {
			v := newVictim(t)
			files := maps.Clone(v.files)
			p := v.packs[0]
			files[p.file] = flip(p.rows[2].End() - 1)(files[p.file])
			s := openFiles(t, files)
			if n := len(deepScrub(t, s, v.key).Damaged); n != 1 {
				t.Fatalf("%d chunks are damaged, want 1", n)
			}
			hurt, _ := inPack(victimPack{rows: p.rows[2:3]}, v.chunks)
			if _, err := s.Put(t.Context(), hurt[0].Digest, hurt[0].Blob); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
			files = readTree(t, s.dir)
			st.leave(files)
			delete(files, identity.StateFile)
			again := openFiles(t, files)
			wantKnown(t, again, v.chunks)
			wantAll(t, again, v.chunks)
		})
	}
}

// The numbers in headers say which pack the journal means.
func TestNumbersSurviveLossOfIndex(t *testing.T) {
	v := newVictim(t)
	files := maps.Clone(v.files)
	withoutIndex(files)
	s := openFiles(t, files)
	for i, p := range v.packs {
		q := s.packs.At(uint32(i))
		if q == nil || !strings.HasSuffix(s.path(q), p.file) {
			t.Errorf("pack %d did not keep its number", i)
		}
	}
	if n := s.packs.Reserve(0); n < 3 || n > 3+numberSlack {
		t.Errorf("the next number is %d", n)
	}
	if c := s.Condemned(); c.Len() != 3 || !slices.Equal(slices.Collect(packNumbers(c)), []uint32{0, 1, 2}) {
		t.Errorf("condemned are %v", slices.Collect(c.All()))
	}
}

func packNumbers(s *Set) func(yield func(uint32) bool) {
	return func(yield func(uint32) bool) {
		for n := range s.Rows() {
			if !yield(n) {
				return
			}
		}
	}
}
