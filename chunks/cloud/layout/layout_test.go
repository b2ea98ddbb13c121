package layout

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/seal"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// write makes a pack of cs and returns it with its bytes.
func write(t testing.TB, key *seal.Key, cs []chunktest.Chunk) (Pack, []byte) {
	t.Helper()
	fsys, name := disk.OS{}, filepath.Join(t.TempDir(), "pack")
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewPackWriter(f, format.NewID(), 3, key)
	if err != nil {
		t.Fatal(err)
	}
	foreseen := int64(0)
	for _, c := range cs {
		foreseen = w.SizeWith(len(c.Blob))
		if err := w.Add(c.Digest, c.Blob); err != nil {
			t.Fatal(err)
		}
	}
	p, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := disk.ReadFile(fsys, name, 64<<20)
	if err != nil || int64(len(b)) != p.Size || p.Size > foreseen {
		t.Fatalf("pack has %d bytes, says %d, foreseen were %d, %v", len(b), p.Size, foreseen, err)
	}
	return p, b
}

func sample() (cs []chunktest.Chunk) {
	for i, n := range []int{1, 100, 70_000, 4096, 3} {
		cs = append(cs, chunktest.Blob(uint64(i), n))
	}
	return cs
}

func TestPacks(t *testing.T) {
	for _, key := range []*seal.Key{nil, seal.NewKey()} {
		cs := sample()
		p, b := write(t, key, cs)
		o := NewOpener(key)
		for i, row := range p.Rows {
			frame := bytes.Clone(b[row.Off : row.Off+FrameSize(p.Sealed, row.Stored)])
			d, blob, err := o.Frame(p.ID, p.Sealed, row.Off, frame)
			if err != nil || d != cs[i].Digest || !bytes.Equal(blob, cs[i].Blob) {
				t.Fatalf("sealed %t, frame %d: %v", p.Sealed, i, err)
			}
		}
		got, err := o.ReadPack(bytes.NewReader(b), p.ID, p.Size)
		if err != nil || !reflect.DeepEqual(got.Rows, p.Rows) || got.Sealed != p.Sealed {
			t.Errorf("sealed %t: read from its end: %+v, %v", p.Sealed, got, err)
		}
		row := p.Rows[2]
		whole := b[row.Off : row.Off+FrameSize(p.Sealed, row.Stored)]
		wrong := func(what string, id format.ID, off int64, frame []byte) {
			if _, _, err := o.Frame(id, p.Sealed, off, frame); !errors.Is(err, chunks.ErrCorrupt) {
				t.Errorf("sealed %t, %s: %v", p.Sealed, what, err)
			}
		}
		wrong("another pack's", format.NewID(), row.Off, bytes.Clone(whole))
		wrong("another place", p.ID, row.Off+8, bytes.Clone(whole))
		wrong("cut short", p.ID, row.Off, bytes.Clone(whole[:len(whole)-1]))
		wrong("nothing", p.ID, row.Off, nil)
		for _, at := range []int{0, 30, 57, 96, 5000, len(whole) - 1} {
			flipped := bytes.Clone(whole)
			flipped[at] ^= 4
			wrong("flipped", p.ID, row.Off, flipped)
		}
	}
}

// A pack that is not sealed is a pack file as docs/pack-format.md has it.
func TestPlainPackIsAPackFile(t *testing.T) {
	cs := sample()
	p, b := write(t, nil, cs)
	rows, _, err := format.ReadFooter(bytes.NewReader(b), p.ID, p.Size)
	if err != nil || len(rows) != len(cs) {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	h := &format.Header{ID: p.ID}
	scanned, _, flaws, err := format.Scan(t.Context(), bytes.NewReader(b), p.Size, h)
	if err != nil || len(flaws) > 0 || len(scanned) != len(cs) {
		t.Errorf("a scan without the footer finds %d chunks, %v, %v", len(scanned), flaws, err)
	}
}

func TestIndexAndBundle(t *testing.T) {
	plain, _ := write(t, nil, sample())
	sealed, _ := write(t, seal.NewKey(), sample())
	packs := []Pack{plain, sealed, {ID: format.NewID(), Size: 100, Created: time.Unix(5, 0)}}
	got, err := DecodeIndex(EncodeIndex(packs))
	if err != nil || len(got) != 3 {
		t.Fatal(got, err)
	}
	for i := range got {
		if got[i].ID != packs[i].ID || !slices.Equal(got[i].Rows, packs[i].Rows) || !got[i].Created.Equal(packs[i].Created) || got[i].Sealed != packs[i].Sealed {
			t.Errorf("pack %d came back as %+v", i, got[i])
		}
	}
	files := map[string][]byte{"a": nil, "b/c": bytes.Repeat([]byte("x"), 1<<20), "ü": {0, 1}}
	b, err := EncodeBundle(files)
	if err != nil || len(b) > 10_000 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	back, err := DecodeBundle(b)
	if err != nil || len(back) != 3 || !bytes.Equal(back["b/c"], files["b/c"]) || !bytes.Equal(back["ü"], files["ü"]) {
		t.Errorf("bundle came back with %d files, %v", len(back), err)
	}
}

func TestRoots(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(nil)
	_, other, _ := ed25519.GenerateKey(nil)
	pub := key.Public().(ed25519.PublicKey)
	h := Head{Store: format.NewID(), Seq: Seq{2, 7}, Packs: 3, Removed: []string{"<&>"}}
	b, err := SignRoot(&h, key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenRoot(b, h.Store, h.Seq, pub); err != nil || got.Packs != 3 || got.Removed[0] != "<&>" {
		t.Fatal(got, err)
	}
	forged, _ := SignRoot(&h, other)
	for name, err := range map[string]error{
		"signer": second(OpenRoot(forged, h.Store, h.Seq, pub)),
		"store":  second(OpenRoot(b, format.NewID(), h.Seq, pub)),
		"step":   second(OpenRoot(b, h.Store, Seq{2, 8}, pub)),
		"bytes":  second(OpenRoot(bytes.Replace(b, []byte(`"packs":3`), []byte(`"packs":4`), 1), h.Store, h.Seq, pub)),
	} {
		if !errors.Is(err, ErrForged) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
}

func second(_ *Head, err error) error { return err }

// Whichever bit of an owner's object is flipped, it does not look like another
// owner; one of an older version, or of a later one, is read.
func TestOwners(t *testing.T) {
	o := Owner{Store: format.NewID(), Node: "home <&>", Epoch: 7, Until: time.Now().UTC(), Secret: "x"}
	b, err := EncodeOwner(o)
	if err != nil {
		t.Fatal(err)
	}
	same := func(got Owner) bool { got.Sum = ""; return got == o }
	if got, err := DecodeOwner(b); err != nil || !same(got) {
		t.Fatalf("%+v came back as %+v, %v", o, got, err)
	}
	for i := range b {
		for bit := range 8 {
			flipped := bytes.Clone(b)
			flipped[i] ^= 1 << bit
			if got, err := DecodeOwner(flipped); err == nil && !same(got) {
				t.Fatalf("bit %d of byte %d flipped: %s is believed", bit, i, flipped)
			}
		}
	}
	at := bytes.LastIndexByte(b, ',')
	if got, err := DecodeOwner(append(bytes.Clone(b[:at]), '}')); err != nil || !same(got) {
		t.Errorf("without a sum: %+v, %v", got, err)
	}
	later := append([]byte(`{"new":1,`), b[1:]...)
	later = bytes.Replace(later, b[at+11:at+75], []byte(SumOf(bytes.Replace(later, b[at+11:at+75], []byte(noSum), 1))), 1)
	if got, err := DecodeOwner(later); err != nil || !same(got) {
		t.Errorf("of a later version: %s: %+v, %v", later, got, err)
	}
}

// A flipped bit of a format is seen: nobody else can tell that roots are signed by
// another key.
func TestFormats(t *testing.T) {
	b, err := EncodeFormat(Format{Store: format.NewID(), Signer: []byte("somebody"), KeyID: "k"})
	if err != nil {
		t.Fatal(err)
	}
	want, err := DecodeFormat(b)
	if err != nil || string(want.Signer) != "somebody" {
		t.Fatalf("%+v, %v", want, err)
	}
	at := bytes.Index(b, []byte(`"signer"`))
	for i := at; i < at+24; i++ {
		flipped := bytes.Clone(b)
		flipped[i] ^= 1
		if got, err := DecodeFormat(flipped); err == nil && string(got.Signer) != "somebody" {
			t.Errorf("byte %d flipped: %s is believed", i, flipped)
		}
	}
}

func FuzzDecodeOwner(f *testing.F) {
	b, _ := EncodeOwner(Owner{Node: "a"})
	c, _ := EncodeFormat(Format{Signer: []byte("a")})
	f.Add(b)
	f.Add(c)
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = DecodeOwner(b)
		_, _ = DecodeFormat(b)
	})
}

func TestNames(t *testing.T) {
	id := format.NewID()
	if got, ok := ParsePackKey(PackKey(id)); !ok || got != id {
		t.Errorf("%s came back as %s", PackKey(id), got)
	}
	if _, ok := ParsePackKey("p/00/" + id.String() + "x"); ok {
		t.Error("a foreign key is a pack")
	}
	seqs := []Seq{{1, 9}, {1, 10}, {1, 1 << 40}, {2, 1}, {10, 1}}
	for i, s := range seqs {
		if got, ok := ParseSeq(s.String()); !ok || got != s {
			t.Errorf("%s came back as %v", s, got)
		}
		if i > 0 && (!seqs[i-1].Less(s) || RootKey(seqs[i-1]) >= RootKey(s)) {
			t.Errorf("%s is not behind %s", s, seqs[i-1])
		}
	}
}

func FuzzDecodeIndex(f *testing.F) {
	f.Add(EncodeIndex([]Pack{{Size: 1000, Rows: []Row{{Off: 64, Stored: 100}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		packs, err := DecodeIndex(b)
		if err == nil && len(EncodeIndex(packs)) != len(b) {
			t.Errorf("%d bytes became %d packs", len(b), len(packs))
		}
	})
}

func FuzzDecodeBundle(f *testing.F) {
	b, _ := EncodeBundle(map[string][]byte{"a": {1}})
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = DecodeBundle(b) })
}

func FuzzOpenRoot(f *testing.F) {
	_, key, _ := ed25519.GenerateKey(nil)
	b, _ := SignRoot(&Head{}, key)
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = OpenRoot(b, format.ID{}, Seq{}, key.Public().(ed25519.PublicKey))
	})
}

func FuzzReadPack(f *testing.F) {
	key := seal.NewKey()
	p, b := write(f, key, sample())
	f.Add(b, true)
	q, plain := write(f, nil, sample())
	f.Add(plain, false)
	f.Fuzz(func(_ *testing.T, b []byte, sealed bool) {
		id, o := q.ID, NewOpener(nil)
		if sealed {
			id, o = p.ID, NewOpener(key)
		}
		_, _ = o.ReadPack(bytes.NewReader(b), id, int64(len(b)))
		_, _, _ = o.Frame(id, sealed, 64, bytes.Clone(b))
	})
}
