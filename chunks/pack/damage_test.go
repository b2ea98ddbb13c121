package pack

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// A victim is a store at rest, and what it holds: two sealed packs and an open
// one, each with small and large chunks of several kinds, and some garbage
// that is condemned.
type victim struct {
	dir    string
	key    *chunks.Key
	chunks []chunktest.Chunk
	packs  []victimPack
	files  map[string][]byte // all of the store, by name in it
}

type victimPack struct {
	file   string // in the store
	sealed bool
	rows   []format.Row // by offset
	tail   int64        // where the footer begins; of an open pack the end
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	v := &victim{key: chunktest.Key(1)}
	s := newStore(t, Config{FS: hasty{}, Direct: DirectOff, Lanes: 1})
	v.dir = s.dir
	garbage := &Set{}
	for i := range uint64(3) {
		v.chunks = append(v.chunks, v.fill(t, s, 100*i)...)
		dead := put(t, s, 2000, 100*i+99)[0]
		commit(t, s)
		ref, _ := s.Lookup(dead.Digest)
		garbage.Add(ref)
		if i < 2 {
			s = sealed(t, s)
		}
	}
	if _, _, err := s.BeginEpoch(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Condemn(garbage)
	if err := s.SyncState(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.packs = look(t, s)
	closeStore(t, s)
	v.files = readTree(t, v.dir)
	return v
}

// fill puts chunks of all sizes and kinds into s.
func (v *victim) fill(t *testing.T, s *Store, seed uint64) []chunktest.Chunk {
	t.Helper()
	var cs []chunktest.Chunk
	for i, size := range []int{100, 3000, 70 << 10, 8 << 10, 0, 130 << 10, 5000} {
		cs = append(cs, chunktest.Blob(seed+uint64(i), size))
	}
	text := chunktest.Text(seed+50, 20<<10)
	cs = append(cs,
		chunktest.Encode(text, chunks.EncodeOptions{Compress: true}),
		chunktest.Encode(text, chunks.EncodeOptions{Compress: true, Key: v.key}),
		chunktest.Blob(seed+51, 66<<10))
	if seed > 0 {
		cs = slices.Delete(cs, 4, 5) // there is only one empty chunk
	}
	for _, c := range cs {
		if _, err := s.Put(t.Context(), c.Digest, c.Blob); err != nil {
			t.Fatal(err)
		}
	}
	return cs
}

// sealed makes the open packs of s sealed ones, as a start after a crash does.
func sealed(t *testing.T, s *Store) *Store {
	t.Helper()
	closeStore(t, s)
	if err := os.Remove(filepath.Join(s.dir, identity.CleanFile)); err != nil {
		t.Fatal(err)
	}
	return openStore(t, s.cfg)
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// look describes the packs of s.
func look(t *testing.T, s *Store) []victimPack {
	t.Helper()
	var all []victimPack
	for _, p := range s.packs.All() {
		if p.Missing.Load() {
			continue
		}
		rows, err := s.rows(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(rows, func(a, b format.Row) int { return int(a.Off - b.Off) })
		file, err := filepath.Rel(s.dir, s.path(p))
		if err != nil {
			t.Fatal(err)
		}
		tail := format.AlignUp(rows[len(rows)-1].End(), format.Align)
		all = append(all, victimPack{file, p.Sealed.Load(), rows, tail})
	}
	return all
}

// A stop is how the store was left before somebody damaged it.
type stop struct {
	name  string
	leave func(files map[string][]byte)
}

var stops = []stop{
	{"after a clean stop", func(map[string][]byte) {}},
	{"after a crash", withoutClean},
	{"after a crash that took the index", withoutIndex},
}

func withoutClean(files map[string][]byte) { delete(files, identity.CleanFile) }

func withoutIndex(files map[string][]byte) {
	withoutClean(files)
	maps.DeleteFunc(files, func(name string, _ []byte) bool {
		return strings.HasPrefix(name, identity.IndexDir+"/")
	})
}

// A wound is damage to one file.
type wound struct {
	name string
	file string
	do   func(b []byte) []byte // returns nil where the file is to go
}

func flip(off int64) func([]byte) []byte {
	return func(b []byte) []byte {
		b = bytes.Clone(b)
		b[off] ^= 1 << (off % 8)
		return b
	}
}

func cut(off int64) func([]byte) []byte {
	return func(b []byte) []byte { return append([]byte{}, b[:off]...) }
}

func blank(off int64) func([]byte) []byte {
	return func(b []byte) []byte {
		b = bytes.Clone(b)
		block := off &^ (format.Align - 1)
		clear(b[block:min(block+format.Align, int64(len(b)))])
		return b
	}
}

func drop([]byte) []byte { return nil }

// A field is a place in a file, and whether it stands for a class of its own
// where not single bits but blocks and tails are lost.
type field struct {
	name  string
	off   int64
	class bool
}

// wounds damages each field with a flipped bit, and each class with the loss
// of a block and of the rest of the file as well.
func wounds(file, of string, fields []field) []wound {
	ws := []wound{{of + " is gone", file, drop}}
	for _, f := range fields {
		ws = append(ws, wound{"a bit flipped in " + f.name + " of " + of, file, flip(f.off)})
		if f.class {
			ws = append(ws,
				wound{of + " ends at " + f.name, file, cut(f.off)},
				wound{"a block of zeros at " + f.name + " of " + of, file, blank(f.off)})
		}
	}
	return ws
}

// headerFields are those of a pack's header.
func headerFields() []field {
	return []field{
		{"magic", 0, true}, {"version", 4, false}, {"flags", 6, false}, {"pack ID", 8, false},
		{"store ID", 24, false}, {"creation time", 40, false}, {"epoch", 48, false}, {"number", 56, false},
		{"segment count", 60, false}, {"origin", 64, false}, {"first segment", 96, false},
		{"the middle of the header", 2048, true}, {"the header's sum", format.HeaderSize - 8, false},
	}
}

// entryFields are those of an entry and its blob.
func entryFields(what string, r format.Row) []field {
	var fs []field
	for _, f := range []field{
		{"magic", 0, true}, {"flags", 4, false}, {"header length", 6, false}, {"pack ID", 8, false},
		{"offset", 16, false}, {"stored length", 24, false}, {"plain length", 28, false}, {"blob sum", 32, false},
		{"ordinal", 40, false}, {"epoch", 48, false}, {"digest", 56, false}, {"header sum", 88, true},
		{"blob start", format.EntrySize, true},
		{"blob middle", format.EntrySize + int64(r.Stored)/2, true},
		{"blob end", format.EntrySize + int64(r.Stored) - 1, true},
	} {
		fs = append(fs, field{f.name + " of a " + what + " entry", r.Off + f.off, f.class})
	}
	return fs
}

// tailFields are those of footer and trailer.
func tailFields(p victimPack, size int64) []field {
	row, trailer := p.tail+96, size-96
	return []field{
		{"digest of a footer row", row, true}, {"content sum of a footer row", row + 32, false},
		{"blob sum of a footer row", row + 64, false}, {"offset of a footer row", row + 72, false},
		{"stored length of a footer row", row + 76, false}, {"plain length of a footer row", row + 80, false},
		{"ordinal of a footer row", row + 84, false}, {"flags of a footer row", row + 88, false},
		{"the middle of the footer", p.tail + 48*int64(len(p.rows)), true},
		{"zeros behind the footer", trailer - 100, true},
		{"footer offset in the trailer", trailer, true}, {"footer length in the trailer", trailer + 8, false},
		{"row count in the trailer", trailer + 16, false}, {"zeros in the trailer", trailer + 20, false},
		{"footer sum in the trailer", trailer + 24, false}, {"footer root in the trailer", trailer + 32, false},
		{"pack ID in the trailer", trailer + 64, false}, {"data end in the trailer", trailer + 72, false},
		{"trailer sum", trailer + 80, false}, {"trailer magic", trailer + 88, false},
		{"the last byte", size - 1, true},
	}
}

// packWounds damages a pack in every class of places.
func packWounds(p victimPack, size int64) []wound {
	fields := headerFields()
	for i, r := range p.rows {
		switch {
		case i == 1:
			fields = append(fields, entryFields("small", r)...)
		case i == 2:
			fields = append(fields, field{"padding in front of a large entry", r.Off - 1, true})
			fields = append(fields, entryFields("large", r)...)
		case i == len(p.rows)-1:
			fields = append(fields, entryFields("last", r)...)
		}
	}
	of := "an open pack"
	if p.sealed {
		of = "a sealed pack"
		fields = append(fields, tailFields(p, size)...)
	} else {
		fields = append(fields, field{"the last byte", size - 1, true})
	}
	return wounds(p.file, of, fields)
}

// TestDamagedPacks damages packs in every class of places, and promises: no
// byte is ever served wrong; every damaged chunk is found and named; all others
// are served as before; quarantine denies it, and storing it again heals it.
func TestDamagedPacks(t *testing.T) {
	v := newVictim(t)
	var cases atomic.Int64
	for _, st := range stops {
		t.Run(st.name, func(t *testing.T) {
			for _, p := range v.packs[1:] {
				for _, w := range packWounds(p, int64(len(v.files[p.file]))) {
					t.Run(w.name, func(t *testing.T) {
						t.Parallel()
						cases.Add(1)
						newOrdeal(t, v, st, w).run(t)
					})
				}
			}
		})
	}
	t.Cleanup(func() { t.Logf("%d cases of damage to packs", cases.Load()) })
}

// An ordeal is one victim with one wound.
type ordeal struct {
	v     *victim
	stop  stop
	wound wound
	dir   string
	hurt  map[chunks.Digest]bool // chunks whose entries are not what they were
	torn  bool                   // header or footer of the pack is not what it was
	head  bool                   // the header is not
	short bool                   // the file is shorter than it was
}

func newOrdeal(t *testing.T, v *victim, st stop, w wound) *ordeal {
	files := maps.Clone(v.files)
	st.leave(files)
	before := files[w.file]
	after := w.do(before)
	if files[w.file] = after; after == nil {
		delete(files, w.file)
	}
	o := &ordeal{v: v, stop: st, wound: w, dir: writeTree(t, files), hurt: map[chunks.Digest]bool{}}
	o.short = len(after) < len(before)
	differ := func(from, to int64) bool {
		return int64(len(after)) < to || !bytes.Equal(before[from:to], after[from:to])
	}
	for _, p := range v.packs {
		if p.file != w.file {
			continue
		}
		for _, r := range p.rows {
			if differ(r.Off, r.End()) && slices.ContainsFunc(v.chunks, func(c chunktest.Chunk) bool { return c.Digest == r.Digest }) {
				o.hurt[r.Digest] = true
			}
		}
		o.head = differ(0, format.HeaderSize)
		o.torn = o.head
		if p.sealed {
			size := int64(len(before))
			o.torn = o.torn || differ(p.tail, p.tail+96*int64(len(p.rows))) || differ(size-96, size)
		}
	}
	return o
}

func (o *ordeal) run(t *testing.T) {
	s := openStore(t, Config{FS: hasty{}, Dir: o.dir, Direct: DirectOff})
	if clean := o.stop.name == stops[0].name; s.Health().Clean != clean {
		t.Fatalf("%s health is %+v", o.stop.name, s.Health())
	}
	o.read(t, s)
	o.scrub(t, s)
	o.heal(t, s)
	closeStore(t, s)
	if err := os.Remove(filepath.Join(o.dir, identity.CleanFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	again := openStore(t, s.cfg)
	wantKnown(t, again, o.v.chunks)
	wantAll(t, again, o.v.chunks)
	closeStore(t, again)
}

// read gets every chunk: those that are whole come back, the others fail.
func (o *ordeal) read(t *testing.T, s *Store) {
	t.Helper()
	digests := make([]chunks.Digest, 0, len(o.v.chunks))
	want := map[chunks.Digest]chunks.Blob{}
	for _, c := range o.v.chunks {
		b, err := s.Get(t.Context(), c.Digest, nil)
		o.judge(t, c, b, err)
		digests, want[c.Digest] = append(digests, c.Digest), c.Blob
	}
	err := s.GetMany(t.Context(), digests, func(d chunks.Digest, b chunks.Blob, err error) error {
		o.judge(t, chunktest.Chunk{Digest: d, Blob: want[d]}, b, err)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func (o *ordeal) judge(t *testing.T, c chunktest.Chunk, b chunks.Blob, err error) {
	t.Helper()
	switch {
	case err == nil && !bytes.Equal(b, c.Blob):
		t.Errorf("WRONG BYTES served for chunk %s", c.Digest.Short())
	case err == nil && o.hurt[c.Digest]:
		t.Errorf("chunk %s is damaged and was served", c.Digest.Short())
	case err != nil && !o.hurt[c.Digest]:
		t.Errorf("damage is not confined: %v", err)
	case err != nil && !errors.Is(err, chunks.ErrCorrupt) && !errors.Is(err, chunks.ErrMissing):
		t.Errorf("a damaged chunk fails with %v", err)
	}
}

// scrub finds and names exactly what is damaged, and denies it from then on.
func (o *ordeal) scrub(t *testing.T, s *Store) {
	t.Helper()
	health := s.Health()
	report := deepScrub(t, s, o.v.key)
	named := map[chunks.Digest]bool{}
	for _, d := range health.LostChunks {
		named[d] = true
	}
	noticed := health.RecoveredPacks > 0 || len(health.DamagedPacks)+len(health.MissingPacks) > 0
	for _, d := range report.Damaged {
		if d.Digest == (chunks.Digest{}) {
			noticed = noticed || strings.HasSuffix(o.wound.file, d.Pack)
			continue
		}
		named[d.Digest] = true
	}
	for d := range named {
		if !o.hurt[d] {
			t.Errorf("chunk %s is said to be damaged and is not: %+v", d.Short(), report.Damaged)
		}
	}
	for d := range o.hurt {
		if !named[d] && !o.nameless(health) {
			t.Errorf("damaged chunk %s is not named; health %+v", d.Short(), health)
		}
		if s.Known(d) {
			t.Errorf("damaged chunk %s is not denied", d.Short())
		}
	}
	if len(o.hurt) == 0 && !o.short && health.LostEntries > 0 {
		t.Errorf("only garbage is damaged, and health mourns it: %+v", health)
	}
	if o.torn && !noticed && len(o.hurt) == 0 {
		t.Errorf("nobody says that the pack is damaged; health %+v, scrub %+v", health, report.Damaged)
	}
	for _, c := range o.v.chunks {
		if !o.hurt[c.Digest] && !s.Known(c.Digest) {
			t.Errorf("whole chunk %s is denied", c.Digest.Short())
		}
	}
}

// nameless reports whether nothing is left that knows the names of damaged
// chunks: no index, and of their entries not even the headers. Then at least
// the pack is named, unless not even that is left: as a file that was never
// complete, or not at all.
func (o *ordeal) nameless(h Health) bool {
	if o.stop.name != stops[2].name {
		return false
	}
	left, err := os.Stat(filepath.Join(o.dir, o.wound.file))
	if err != nil || left.Size() <= format.HeaderSize {
		return true
	}
	return h.LostEntries > 0 && slices.ContainsFunc(h.DamagedPacks, func(name string) bool {
		return strings.HasSuffix(name, o.wound.file)
	})
}

// heal stores what is damaged again. What was told of places before does not
// hold any more, and the next scrub finds only what lies in quarantine.
func (o *ordeal) heal(t *testing.T, s *Store) {
	t.Helper()
	generation, moved := s.Generation(), false
	for _, c := range o.v.chunks {
		if !o.hurt[c.Digest] {
			continue
		}
		_, located := s.Locate(c.Digest)
		moved = moved || located
		if known, err := s.Put(t.Context(), c.Digest, c.Blob); known || err != nil {
			t.Errorf("storing damaged chunk %s again: known %v, %v", c.Digest.Short(), known, err)
		}
	}
	commit(t, s)
	if moved && s.Generation() == generation {
		t.Error("a chunk has another place, and the generation is the same")
	}
	wantKnown(t, s, o.v.chunks)
	wantAll(t, s, o.v.chunks)
	for _, d := range deepScrub(t, s, o.v.key).Damaged {
		if ref, ok := s.Lookup(d.Digest); ok && ref == d.Ref {
			t.Errorf("after healing: %s", d.Reason)
		}
		if d.Digest == (chunks.Digest{}) && o.completed(s) {
			t.Errorf("the pack was read and completed when the store opened, and scrub says: %s", d.Reason)
		}
	}
}

// completed reports whether the wounded pack was read and made whole when the
// store opened: nothing is known of it, or its length has changed; its header
// is as it was, and some entries are left.
func (o *ordeal) completed(s *Store) bool {
	if o.stop.name != stops[2].name && (o.stop.name != stops[1].name || !o.short) {
		return false
	}
	for _, p := range s.packs.All() {
		if strings.HasSuffix(s.path(p), o.wound.file) {
			return !o.head && p.Entries.Load() > 0
		}
	}
	return false
}

func deepScrub(t testing.TB, s *Store, key *chunks.Key) ScrubReport {
	t.Helper()
	report, err := s.Scrub(context.Background(), ScrubOptions{Deep: true, Key: key, Quarantine: true})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// wantKnown fails the test unless every chunk may be relied on.
func wantKnown(t testing.TB, s *Store, cs []chunktest.Chunk) {
	t.Helper()
	for _, c := range cs {
		if !s.Known(c.Digest) {
			t.Fatalf("chunk %s is not known; health %+v", c.Digest.Short(), s.Health())
		}
	}
}
