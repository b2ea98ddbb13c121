package gc

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

func refs(all ...pack.Ref) *pack.Set {
	s := &pack.Set{}
	for _, r := range all {
		s.Add(r)
	}
	return s
}

func TestWatermarkCovers(t *testing.T) {
	w := watermark{{Number: 3, Entries: 64}, {Number: 5, Entries: 65}, {Number: 6}}
	for _, row := range []struct {
		name string
		refs *pack.Set
		want bool
	}{
		{"nothing is covered by anything", refs(), true},
		{"the first and the last entry", refs(pack.Ref{Pack: 3}, pack.Ref{Pack: 3, Entry: 63}), true},
		{"one behind the last, in another word", refs(pack.Ref{Pack: 3, Entry: 64}), false},
		{"the first of a word", refs(pack.Ref{Pack: 5, Entry: 64}), true},
		{"one behind the last, in the same word", refs(pack.Ref{Pack: 5, Entry: 65}), false},
		{"a pack with no entries", refs(pack.Ref{Pack: 6}), false},
		{"a pack that is not listed", refs(pack.Ref{Pack: 4}), false},
		{"a pack behind all", refs(pack.Ref{Pack: 5}, pack.Ref{Pack: 7}), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := w.covers(row.refs); got != row.want {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
}

func TestOnes(t *testing.T) {
	for n := range uint32(200) {
		words := ones(nil, n)
		s := &pack.Set{}
		s.OrRow(1, words)
		want := &pack.Set{}
		want.AddRange(1, 0, n)
		if s.Len() != int(n) || !slices.Equal(slices.Collect(s.All()), slices.Collect(want.All())) {
			t.Fatalf("ones(%d) is %x", n, words)
		}
	}
}

func TestBitmapComesBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		set, packs := &pack.Set{}, watermark{}
		for n := range uint32(20) {
			packs = append(packs, pack.Info{Number: n * 3, Entries: 1000})
			for range rng.IntN(4) * rng.IntN(100) {
				set.Add(pack.Ref{Pack: n * 3, Entry: rng.Uint32N(1000)})
			}
		}
		rows, size, err := decodeBitmap(encodeBitmap("root", 7, 1<<40, set), "root", 7, packs)
		if err != nil || size != 1<<40 {
			t.Fatalf("size %d, %v", size, err)
		}
		got := &pack.Set{}
		for r := range readRows(rows) {
			got.OrRow(r.number, r.bitmap(nil))
		}
		if !slices.Equal(slices.Collect(got.All()), slices.Collect(set.All())) {
			t.Fatal("another set came back")
		}
	}
}

func TestBitmapIsRefused(t *testing.T) {
	good := encodeBitmap("root", 7, 5, refs(pack.Ref{Pack: 2, Entry: 70}))
	packs := watermark{{Number: 2, Entries: 71}}
	for _, row := range []struct {
		name  string
		id    string
		gen   uint64
		packs watermark
		file  []byte
		stale bool
	}{
		{"another root", "other", 7, packs, good, true},
		{"another generation", "root", 8, packs, good, true},
		{"the pack is gone", "root", 7, watermark{{Number: 1, Entries: 71}, {Number: 3, Entries: 71}}, good, true},
		{"the pack has fewer entries", "root", 7, watermark{{Number: 2, Entries: 64}}, good, true},
		{"cut short", "root", 7, packs, good[:len(good)-1], false},
		{"a bit is wrong", "root", 7, packs, append([]byte{good[0] ^ 1}, good[1:]...), false},
		{"empty", "root", 7, packs, nil, false},
		{"another version", "root", 7, packs, resum(append([]byte("HFMB\x02"), good[5:]...)), false},
		{"a row is torn", "root", 7, packs, resum(slices.Concat(good[:len(good)-12], good[len(good)-8:])), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, _, err := decodeBitmap(row.file, row.id, row.gen, row.packs)
			if err == nil || errors.Is(err, errStale) != row.stale {
				t.Errorf("%v, want an error, stale: %v", err, row.stale)
			}
		})
	}
}

// resum gives a bitmap file the sum that it should have.
func resum(b []byte) []byte {
	b = slices.Clone(b)
	return le.AppendUint64(b[:len(b)-8], xxhash.Sum64(b[:len(b)-8]))
}

// FuzzBitmap: whatever lies in the cache, a bitmap that is accepted names
// nothing but entries of packs that exist, and marks exactly those.
func FuzzBitmap(f *testing.F) {
	f.Add(encodeBitmap("root", 7, 5, refs(pack.Ref{Pack: 2, Entry: 70}, pack.Ref{Pack: 4})))
	f.Add(encodeBitmap("root", 7, 5, refs(pack.Ref{Pack: 9})))
	f.Add(resum(slices.Concat(appendRow(encodeBitmap("root", 7, 5, refs())[:bitmapHeader], 1<<31, []uint64{1}), make([]byte, 8))))
	f.Add(encodeBitmap("root", 7, 0, refs()))
	f.Add([]byte("HFMB"))
	packs := watermark{{Number: 2, Entries: 100}, {Number: 4, Entries: 64}}
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) >= 8 {
			file = resum(file)
		}
		rows, _, err := decodeBitmap(file, "root", 7, packs)
		if err != nil {
			return
		}
		set := &pack.Set{}
		for r, err := range readRows(rows) {
			if err != nil {
				t.Fatalf("accepted, but %v", err)
			}
			set.OrRow(r.number, r.bitmap(nil))
		}
		for r := range set.All() {
			if r.Pack != 2 && r.Pack != 4 || r.Entry >= 128 {
				t.Fatalf("accepted %v", r)
			}
		}
	})
}
