package pack

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
)

// openFiles opens a store that consists of files.
func openFiles(t *testing.T, files map[string][]byte) *Store {
	t.Helper()
	return openStore(t, Config{FS: hasty{}, Dir: writeTree(t, files), Direct: DirectOff, Lanes: 1})
}

// wantUnknown fails the test if s has any of cs.
func wantUnknown(t *testing.T, s *Store, cs []chunktest.Chunk) {
	t.Helper()
	for _, c := range cs {
		if _, err := s.Get(t.Context(), c.Digest, nil); s.Known(c.Digest) || !errors.Is(err, chunks.ErrMissing) {
			t.Errorf("chunk %s has come from nowhere: known %v, %v", c.Digest.Short(), s.Known(c.Digest), err)
		}
	}
}

// inPack returns those of cs whose entries lie in p, and the others.
func inPack(p victimPack, cs []chunktest.Chunk) (in, out []chunktest.Chunk) {
	for _, c := range cs {
		if slices.ContainsFunc(p.rows, func(r format.Row) bool { return r.Digest == c.Digest }) {
			in = append(in, c)
		} else {
			out = append(out, c)
		}
	}
	return in, out
}

// A file system may show old blocks behind the end of what was synced: of a
// pack that was deleted, or of the same pack at another offset. They are whole
// entries with whole sums, and none of them counts.
func TestStaleBlocksAreNotEntries(t *testing.T) {
	v := newVictim(t)
	gone, open := v.packs[0], v.packs[2]
	lost, kept := inPack(gone, v.chunks)
	own, _ := inPack(open, v.chunks)
	old := v.files[gone.file]
	first := open.rows[0]
	for _, tt := range []struct {
		name  string
		stale []byte
		lost  []chunktest.Chunk
		kept  []chunktest.Chunk
	}{
		{"entries of a deleted pack at the offsets that they had modulo a block", old[format.HeaderSize:gone.tail], lost, kept},
		{"a whole deleted pack", old, lost, kept},
		{"entries of a deleted pack, eight bytes further", append(make([]byte, 8), old[format.HeaderSize:gone.tail]...), lost, kept},
		{"entries of the same pack at another offset", v.files[open.file][first.Off:open.tail], lost, kept},
		{"a header of the same pack whose blob is not there", v.files[open.file][first.Off : first.Off+format.EntrySize], lost, kept},
	} {
		for _, st := range stops[1:] {
			t.Run(tt.name+" "+st.name, func(t *testing.T) {
				files := maps.Clone(v.files)
				delete(files, gone.file)
				st.leave(files)
				files[open.file] = slices.Concat(files[open.file], tt.stale)
				s := openFiles(t, files)
				wantUnknown(t, s, tt.lost)
				wantKnown(t, s, tt.kept)
				wantAll(t, s, tt.kept)
				if h := s.Health(); h.CutBytes == 0 || h.LostEntries > 0 || h.RecoveredPacks != 1 {
					t.Errorf("health %+v", h)
				}
				for _, d := range deepScrub(t, s, v.key).Damaged {
					if !errors.Is(d.Err, chunks.ErrMissing) || !strings.HasSuffix(gone.file, d.Pack) {
						t.Errorf("scrub finds %+v", d)
					}
				}
				rows := look(t, s)
				if n := len(rows[len(rows)-1].rows); n != len(own)+1 {
					t.Errorf("the pack has %d entries, want %d", n, len(own)+1)
				}
			})
		}
	}
}

// A client may back up a pack, even one of the very store that it backs up to.
// Its entries then lie inside blobs, at every alignment that entries have, and
// a scan without footers passes over all of them, damaged blobs included.
func TestPackBackedUpAsData(t *testing.T) {
	v := newVictim(t)
	theirs := v.packs[0]
	secret, _ := inPack(theirs, v.chunks)
	data := v.files[theirs.file]

	s := newStore(t, Config{FS: hasty{}, Direct: DirectOff, Lanes: 1})
	embedded := [3]int{} // entries in blobs: in all, at multiples of 8, of a block
	var cs []chunktest.Chunk
	backUp := func(s *Store, content []byte) {
		c := chunktest.Encode(content, chunks.EncodeOptions{})
		if _, err := s.Put(t.Context(), c.Digest, c.Blob); err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	const front = format.EntrySize + chunks.PlainHeaderSize // between entry and content
	for _, shift := range []int{0, 4, format.Align - front, format.Align - front + 8} {
		backUp(s, append(make([]byte, shift), data...)) // as one large chunk
		for i := 0; i < len(data); i += 20 << 10 {      // as many small ones
			backUp(s, append(make([]byte, shift), data[i:min(i+20<<10, len(data))]...))
		}
	}
	own := pathOf(s, 0)
	commit(t, s)
	self, err := os.ReadFile(own) // the pack so far, backed up into itself
	if err != nil {
		t.Fatal(err)
	}
	backUp(s, append(make([]byte, 4), self...))
	closeStore(t, s)

	files := readTree(t, s.dir)
	withoutIndex(files)
	for name, b := range files {
		if strings.HasSuffix(name, ".hfpk") {
			count(b, &embedded)
		}
	}
	if embedded[1] < 50 || embedded[2] < 5 {
		t.Fatalf("the test is void: %d embedded entries, %d at multiples of 8, %d of a block", embedded[0], embedded[1], embedded[2])
	}
	t.Run("whole", func(t *testing.T) {
		s := openFiles(t, files)
		wantKnown(t, s, cs)
		wantAll(t, s, cs)
		wantUnknown(t, s, secret)
		if s.Len() != len(cs) {
			t.Errorf("%d chunks, want %d", s.Len(), len(cs))
		}
	})
	t.Run("with a damaged byte in every large blob", func(t *testing.T) {
		files := maps.Clone(files)
		hurt := 0
		for name, b := range files {
			if strings.HasSuffix(name, ".hfpk") {
				files[name] = bytes.Clone(b)
				hurt += hurtLarge(t, s, files[name])
			}
		}
		s := openFiles(t, files)
		wantUnknown(t, s, secret)
		known := 0
		for _, c := range cs {
			if s.Known(c.Digest) {
				wantAll(t, s, []chunktest.Chunk{c})
				known++
			}
		}
		if hurt == 0 || known != len(cs)-hurt {
			t.Errorf("%d of %d chunks are known, want all but %d", known, len(cs), hurt)
		}
	})
	t.Logf("%d embedded entries, %d at multiples of 8, %d at multiples of a block", embedded[0], embedded[1], embedded[2])
}

// pathOf returns the file of a pack.
func pathOf(s *Store, number uint32) string { return s.path(s.packs.At(number)) }

// count counts what looks like an entry and lies where one could, or not.
func count(b []byte, n *[3]int) {
	magic := []byte("HFCE")
	for off := bytes.Index(b, magic); off >= 0; {
		n[0]++
		if off%format.SmallAlign == 0 {
			n[1]++
		}
		if off%format.Align == 0 {
			n[2]++
		}
		next := bytes.Index(b[off+1:], magic)
		if next < 0 {
			return
		}
		off += 1 + next
	}
}

// hurtLarge damages the last byte of every large blob in a pack.
func hurtLarge(t *testing.T, s *Store, b []byte) (hurt int) {
	t.Helper()
	p := s.packs.At(0)
	h := &format.Header{ID: p.ID, Epoch: p.Epoch}
	rows, _, _, err := format.Scan(t.Context(), bytes.NewReader(b), int64(len(b)), h)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Stored > 64<<10 {
			b[r.End()-1] ^= 1
			hurt++
		}
	}
	return hurt
}

func TestTwoFilesOfOnePack(t *testing.T) {
	v := newVictim(t)
	p := v.packs[1]
	dir, base := path.Split(p.file)
	earlier, later := dir+"00000000"+base[8:], dir+"00000002"+base[8:]
	whole := v.files[p.file]
	for _, tt := range []struct {
		name    string
		content []byte
	}{
		{"a whole copy", whole},
		{"a copy that was cut off", whole[:p.rows[2].Off]},
		{"a copy with a damaged header", flip(40)(whole)},
		{"a copy with a damaged footer", flip(p.tail + 5)(whole)},
		{"a copy with a damaged chunk", flip(p.rows[1].End() - 1)(whole)},
		{"an empty file", nil},
	} {
		for _, name := range []string{earlier, later} {
			for _, st := range stops {
				t.Run(tt.name+" named "+path.Base(name)[:8]+" "+st.name, func(t *testing.T) {
					files := maps.Clone(v.files)
					st.leave(files)
					files[name] = tt.content
					s := openFiles(t, files)
					wantWhole(t, s, v)
					if st.name != stops[0].name {
						if h := s.Health(); len(h.ForeignFiles) != 1 || !strings.HasSuffix(h.ForeignFiles[0], name) {
							t.Errorf("health %+v", h)
						}
					}
					closeStore(t, s)
					if after, err := os.ReadFile(filepath.Join(s.dir, name)); err != nil || !bytes.Equal(after, tt.content) {
						t.Errorf("the file that is not ours was changed: %v", err)
					}
				})
			}
		}
	}
}

func TestForeignFilesAmongThePacks(t *testing.T) {
	v, other := newVictim(t), newVictim(t)
	theirs := other.packs[0]
	foreign := map[string][]byte{
		"packs/README":       []byte("hello"),
		"packs/.DS_Store":    {1, 2, 3},
		"packs/zz/notes.txt": []byte("x"),
		"packs/00/0.hfpk":    []byte("x"),
		"packs/00/00000001-" + strings.Repeat("ab", 16) + ".hfpk":       other.files[theirs.file], // wrong folder
		"packs/ab/00000001-" + strings.Repeat("ab", 16) + ".hfpk/inner": []byte("x"),              // a folder with such a name
		theirs.file:              other.files[theirs.file],
		other.packs[2].file:      other.files[other.packs[2].file],
		v.packs[0].file + ".bak": v.files[v.packs[0].file],
	}
	for _, st := range stops {
		t.Run(st.name, func(t *testing.T) {
			files := maps.Clone(v.files)
			st.leave(files)
			maps.Copy(files, foreign)
			s := openFiles(t, files)
			wantWhole(t, s, v)
			wantUnknown(t, s, other.onlyTheirs(v))
			if h := s.Health(); st.name != stops[0].name && len(h.ForeignFiles) != len(foreign) {
				t.Errorf("%d foreign files were found, want %d: %q", len(h.ForeignFiles), len(foreign), h.ForeignFiles)
			}
			closeStore(t, s)
			for name, b := range foreign {
				if after, err := os.ReadFile(filepath.Join(s.dir, name)); err != nil || !bytes.Equal(after, b) {
					t.Errorf("%s was changed: %v", name, err)
				}
			}
		})
	}
}

// onlyTheirs returns the chunks of v that w lacks.
func (v *victim) onlyTheirs(w *victim) (only []chunktest.Chunk) {
	for _, c := range v.chunks {
		if !slices.ContainsFunc(w.chunks, func(d chunktest.Chunk) bool { return c.Digest == d.Digest }) {
			only = append(only, c)
		}
	}
	return only
}

// A pack whose header and footer are both damaged is still read from its
// entries: its ID is in its name.
func TestHeaderAndFooterDamaged(t *testing.T) {
	v := newVictim(t)
	for i, p := range v.packs[:2] {
		for _, st := range stops {
			t.Run(st.name, func(t *testing.T) {
				files := maps.Clone(v.files)
				st.leave(files)
				size := int64(len(files[p.file]))
				files[p.file] = blank(0)(flip(size - 50)(blank(p.tail)(files[p.file])))
				s := openFiles(t, files)
				wantKnown(t, s, v.chunks)
				wantAll(t, s, v.chunks)
				report := deepScrub(t, s, v.key)
				for _, d := range report.Damaged {
					if d.Digest != (chunks.Digest{}) {
						t.Errorf("pack %d: chunk %s is said to be damaged: %s", i, d.Digest.Short(), d.Reason)
					}
				}
				mended := s.Health().MendedHeaders
				if mended+len(report.Damaged) == 0 {
					t.Error("neither health nor scrub says anything of the header")
				}
				if mended == 0 {
					return
				}
				// A pack without a number would get another one at each
				// start, and what is noted under the first one be lost.
				named := slices.ContainsFunc(s.packs.All(), func(q *state.Pack) bool {
					f, err := s.fs.OpenFile(s.path(q), os.O_RDONLY, 0)
					if err != nil || !strings.HasSuffix(s.path(q), p.file) {
						return false
					}
					defer f.Close()
					h, err := format.ReadHeader(f, q.ID, q.Epoch)
					return err == nil && h.Number == q.Number
				})
				if !named {
					t.Errorf("pack %d: no header names the number of the pack", i)
				}
			})
		}
	}
}
