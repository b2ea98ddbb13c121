package state

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

func testTable() *Table {
	t := &Table{}
	for i := range uint32(4) {
		p := &Pack{ID: format.ID{byte(i)}, Epoch: 7}
		t.Add(p, false)
		p.Entries.Store(100 * i)
		p.Size.Store(int64(i) << 20)
		p.Sealed.Store(i%2 == 0)
		p.Retired.Store(i == 3)
	}
	t.Drop(1)
	return t
}

// FuzzTable decodes tables of packs. What it accepts is within bounds and the
// same when it is written and read again.
func FuzzTable(f *testing.F) {
	t := testTable()
	f.Add(t.Encode(Coverage{Next: 4, Open: map[uint32]uint32{3: 17}}, "8:15", 3))
	f.Add(t.Encode(Coverage{}, "", 0))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 {
			b = bytes.Clone(b)
			b[3] &= 0x0f // what takes gigabytes is right, but slow
			b[2] &= 0x0f
			b[3] = 0
		}
		table, err := DecodeTable(b)
		if err != nil {
			return
		}
		all := table.All()
		if len(all)*tableRowSize > len(b) || table.Reserve(0) > format.MaxNumber {
			t.Fatalf("%d packs in %d bytes, next number %d", len(all), len(b), table.Reserve(0))
		}
		covered := Coverage{Next: format.MaxNumber, Open: map[uint32]uint32{}}
		for _, p := range all {
			if p.Entries.Load() > format.MaxEntries || table.At(p.Number) != p {
				t.Fatalf("pack %+v is out of bounds", p.Info())
			}
			covered.Open[p.Number] = p.Covered
		}
		encoded := table.Encode(covered, table.Ident, 0)
		again, err := DecodeTable(encoded)
		if err != nil || len(again.All()) != len(all) || !bytes.Equal(again.Encode(covered, again.Ident, 0), encoded) {
			t.Fatalf("the table is another one when written and read again: %v", err)
		}
	})
}

// FuzzJournal replays records that a journal may hold: each begins with its
// length. Nothing that they say takes more memory than a store can have.
func FuzzJournal(f *testing.F) {
	seed := func(recs ...[]byte) (b []byte) {
		for _, r := range recs {
			b = append(append(b, byte(len(r))), r...)
		}
		return b
	}
	id := format.ID{1, 2, 3}
	f.Add(seed(record(recEpoch, 9), record(recNext, 12), record(recLoaded)))
	f.Add(seed(condemnRecord(3, []uint64{5, 1 << 63}), record(recReclaimed, 3), condemnRecord(3, []uint64{2})))
	f.Add(seed(append(record(recDropped, 3), id[:]...), record(recBad, 4, 4<<20-1), record(recGood, 4, 7), record(recCommitted, 4, 1<<40)))
	f.Add(seed([]byte{recCondemned, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, []byte{200, 1}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newReplay()
		records := 0
		for len(b) > 0 && records < 1000 {
			n := min(int(b[0]), len(b)-1)
			_ = r.apply(b[1 : 1+n]) // an error is an answer
			b = b[1+n:]
			records++
		}
		if r.next > format.MaxNumber || len(r.packs)+len(r.dropped)+len(r.committed) > 3*records {
			t.Fatalf("%d records: next number %d, %d packs, %d dropped", records, r.next, len(r.packs), len(r.dropped))
		}
		for number, e := range r.packs {
			for _, bits := range []*Bitmap{e.dead, e.gone, e.bad} {
				if number >= format.MaxNumber || bits != nil && len(*bits) > format.MaxEntries/64 {
					t.Fatalf("pack %d has a bitmap of %d words", number, len(*bits))
				}
			}
		}
	})
}

// What a journal says is the same after it was written anew.
func TestRewriteKeepsEverything(t *testing.T) {
	m := disktest.NewMem()
	s, err := Open(m, "/state", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	packs := map[uint32]*Pack{}
	for i := range uint32(3) {
		p := &Pack{ID: format.ID{byte(i)}}
		s.Add(p, false)
		p.Entries.Store(200)
		packs[p.Number] = p
	}
	if err := s.Loaded(); err != nil {
		t.Fatal(err)
	}
	s.NextEpoch()
	s.Bury(packs[0], One(70))
	s.Condemn(setOf(Ref{0, 3}, Ref{1, 130}))
	s.Reclaimed(packs[1], packs[1].Dead())
	s.Condemn(setOf(Ref{1, 5}))
	s.Quarantine(packs[1], One(9))
	s.Committed(packs[1], 8192)
	s.DropPack(packs[2])
	want := describe(s, packs)
	for _, how := range []string{"as it was appended", "after it was written anew", "and again"} {
		if how != "as it was appended" {
			if err := s.Rewrite(); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		m = m.CrashLosing()
		if s, err = Open(m, "/state", slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		if s.Lost {
			t.Errorf("%s the journal counts as lost", how)
		}
		again := map[uint32]*Pack{}
		for i := range uint32(2) {
			again[i] = &Pack{ID: format.ID{byte(i)}, Number: i}
			s.Add(again[i], true)
			again[i].Entries.Store(200)
			s.Replay(again[i])
		}
		packs = again
		if got := describe(s, packs); got != want {
			t.Errorf("%s the journal says\n%swant\n%s", how, got, want)
		}
		if n := s.CommittedAtStart(1); n != 8192 {
			t.Errorf("%s pack 1 is durable up to %d", how, n)
		}
		if s.Reserve(s.read.next) != 3 {
			t.Errorf("%s the next number is %d", how, s.Reserve(0))
		}
		if err := s.Loaded(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func setOf(refs ...Ref) *Set {
	s := &Set{}
	for _, r := range refs {
		s.Add(r)
	}
	return s
}

// FuzzName reads names of files: what it accepts is exactly the name that a
// pack has.
func FuzzName(f *testing.F) {
	f.Add((&Pack{ID: format.ID{1}, Epoch: 3}).Name())
	f.Add("00000001-xyz.hfpk")
	f.Add("1-00000000000000000000000000000000.hfpk")
	f.Fuzz(func(t *testing.T, name string) {
		epoch, id, ok := ParseName(name)
		if p := (&Pack{ID: id, Epoch: epoch}); ok && p.Name() != name {
			t.Fatalf("%q was read as that of %q", name, p.Name())
		}
	})
}

// describe says what a state knows of packs 0 and 1.
func describe(s *State, packs map[uint32]*Pack) string {
	var b bytes.Buffer
	for i := range uint32(2) {
		for e := range uint32(200) {
			p := packs[i]
			switch {
			case p.Dead().Has(e):
				fmt.Fprintf(&b, "%d/%d dead, reclaimed %v\n", i, e, !s.Condemned().Has(Ref{i, e}))
			case p.Bad().Has(e):
				fmt.Fprintf(&b, "%d/%d quarantined\n", i, e)
			}
		}
	}
	fmt.Fprintf(&b, "epoch %d, dropped %v\n", s.Epoch(), s.Dropped())
	return b.String()
}
