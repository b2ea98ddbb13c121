package feed

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

var (
	key    = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	origin = OriginOf(key)
	now    = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
)

func open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "feeds.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (s *Store) add(t testing.TB, text string) Record {
	t.Helper()
	h, err := s.Append(key, now, Statement{7, []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.After(origin, h.Epoch, h.Seq-1, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse(origin, b[0])
	if err != nil || r.Hash(origin) != h.Hash {
		t.Fatalf("%+v, %v", r, err)
	}
	return r
}

func (s *Store) all(t testing.TB) [][]byte {
	t.Helper()
	records, err := s.After(origin, 0, 0, 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestFeedTravels(t *testing.T) {
	a, b := open(t), open(t)
	for i := range 5 {
		r := a.add(t, fmt.Sprint("snapshot ", i))
		if r.Epoch != 1 || r.Seq != uint64(i+1) {
			t.Errorf("%+v", r)
		}
	}
	records := a.all(t)
	if n, err := b.Take(origin, records[:3]); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if behind, err := b.Check(origin, must(a.Head(origin))); !behind || err != nil {
		t.Errorf("it does not see that there is more: %v", err)
	}
	if n, err := b.Take(origin, records); n != 2 || err != nil { // what is known is skipped
		t.Fatal(n, err)
	}
	if ha, hb := must(a.Head(origin)), must(b.Head(origin)); ha != hb || ha.Seq != 5 {
		t.Errorf("%+v, %+v", ha, hb)
	}
	if o := must(b.Origins()); len(o) != 1 || o[0] != origin {
		t.Errorf("%x", o)
	}
	if part, err := a.After(origin, 1, 2, 100, 1); len(part) != 1 || err != nil || !bytes.Equal(part[0], records[2]) {
		t.Errorf("%d records behind the second in one byte, %v", len(part), err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestWhatIsNotTaken(t *testing.T) {
	a, b := open(t), open(t)
	for i := range 4 {
		a.add(t, fmt.Sprint(i))
	}
	records := a.all(t)
	must(b.Take(origin, records[:2]))
	forged := bytes.Clone(records[2])
	forged[recordHead] ^= 1
	for name, list := range map[string][][]byte{
		"a hole": {records[3]}, "a forged record": {forged}, "half of one": {records[2][:80]}, "nothing": {{}},
		"a good and a bad one": {records[2], forged},
	} {
		if n, err := b.Take(origin, list); n != 0 || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	if h := must(b.Head(origin)); h.Seq != 2 {
		t.Errorf("a part of what was refused is there: %+v", h)
	}
	if _, err := b.Take(Origin{9}, records); !errors.Is(err, ErrInvalid) {
		t.Errorf("in the name of another: %v", err)
	}
	if _, err := a.Append(key, now, Statement{1, nil}, Statement{1, make([]byte, MaxData+1)}); err == nil {
		t.Error("a record of any length is written")
	}
	if h := must(a.Head(origin)); h.Seq != 4 {
		t.Errorf("half of what was refused is there: %+v", h)
	}
}

// A node whose disk went back and that goes on is caught by whoever has seen
// more, also by the next record alone.
func TestTwoHistoriesAreAProof(t *testing.T) {
	a, back, peer := open(t), open(t), open(t)
	for i := range 3 {
		a.add(t, fmt.Sprint(i))
	}
	must(back.Take(origin, a.all(t)[:2]))
	must(peer.Take(origin, a.all(t)))
	back.add(t, "another third")
	back.add(t, "another fourth")
	other := back.all(t)
	for _, list := range [][][]byte{{other[2]}, {other[3]}} {
		_, err := peer.Take(origin, list)
		var fork *Fork
		if !errors.As(err, &fork) || fork.Hint() == "" {
			t.Fatalf("%v", err)
		}
		if _, err := Parse(origin, fork.Ours.Bytes()); err != nil {
			t.Error(err)
		}
		if _, err := Parse(origin, fork.Theirs.Bytes()); err != nil || fork.Theirs.Hash(origin) == fork.Ours.Hash(origin) {
			t.Errorf("it proves nothing: %v", err)
		}
	}
	if _, err := peer.Check(origin, Head{1, 3, [32]byte{1}}); !errors.Is(err, ErrForked) {
		t.Errorf("two heads at one place: %v", err)
	}
}

// One that notices begins a new epoch, and is believed.
func TestNewEpochBehindALostPart(t *testing.T) {
	a, back, peer := open(t), open(t), open(t)
	for i := range 5 {
		a.add(t, fmt.Sprint(i))
	}
	must(back.Take(origin, a.all(t)[:2]))
	must(peer.Take(origin, a.all(t)))
	known := must(peer.Head(origin))
	if behind, err := back.Check(origin, known); !behind || err != nil {
		t.Fatalf("it does not notice: %v", err)
	}
	r, err := back.NewEpoch(key, now, known, Statement{1, []byte("restored")})
	if err != nil || r.Epoch != 2 || r.Seq != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	back.add(t, "more")
	if n, err := peer.Take(origin, back.all(t)); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if ha, hb := must(back.Head(origin)), must(peer.Head(origin)); ha != hb || ha.Epoch != 2 || ha.Seq != 4 {
		t.Errorf("%+v, %+v", ha, hb)
	}
	fresh := open(t) // who comes later takes all of it in order
	if n, err := fresh.Take(origin, peer.all(t)); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	late := a.add(t, "of the old epoch")
	if _, err := peer.Take(origin, [][]byte{late.Bytes()}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a record of an epoch that has ended: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	r := Record{Epoch: 1, Seq: 2, At: now, Kind: 3, Data: []byte("data")}
	r.sign(key)
	f.Add(r.Bytes())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(origin, b)
		if err == nil && !bytes.Equal(r.Bytes(), b) {
			t.Errorf("%x is read as %+v", b, r)
		}
		if len(b) >= recordLeast { // get behind the signature
			copy(b[len(b)-64:], ed25519.Sign(key, signed(origin, b[:len(b)-64])))
			if r, err := Parse(origin, b); err == nil && !bytes.Equal(r.Bytes(), b) {
				t.Errorf("%x is read as %+v", b, r)
			}
		}
	})
}
