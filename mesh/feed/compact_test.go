package feed

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

func rebase(t *testing.T, s *Store, n int) Head {
	t.Helper()
	var all []Statement
	for i := range n {
		all = append(all, Statement{9, fmt.Append(nil, "still there ", i)})
	}
	h, err := s.Rebase(key, now, all)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// What is before a base goes, also where it came late, and who comes later
// begins with it.
func TestCompact(t *testing.T) {
	a, b, late, fresh := open(t), open(t), open(t), open(t)
	for i := range 20 {
		a.add(t, fmt.Sprint(i))
	}
	must(b.Take(origin, a.all(t)))
	must(late.Take(origin, a.all(t)[:5]))
	rebase(t, a, 3)
	head := rebase(t, a, 4)
	a.add(t, "after")
	if head.Seq != 20+4+5 {
		t.Errorf("%+v", head)
	}
	all := a.all(t)
	must(b.Take(origin, all[:len(all)-3])) // the newest base is not complete here
	if n, err := b.Compact(origin); n != 20 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := a.Compact(origin); n != 24 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := a.Compact(origin); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	for name, h := range map[string]Head{"long gone": must(late.Head(origin)), "just gone": headOf(t, all[23])} {
		if behind, err := a.Check(origin, h); behind || err != nil {
			t.Errorf("%s: %v, %v", name, behind, err)
		}
	}
	if _, err := a.Check(origin, Head{1, 24, [32]byte{1}}); !errors.Is(err, ErrForked) {
		t.Errorf("another record before the base: %v", err)
	}
	rest := a.all(t)
	for name, s := range map[string]*Store{"one that has most": b, "one that is late": late, "a fresh one": fresh} {
		if _, err := s.Take(origin, rest); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if h := must(s.Head(origin)); h != must(a.Head(origin)) {
			t.Errorf("%s: %+v", name, h)
		}
	}
	if _, err := open(t).Take(origin, rest[1:]); !errors.Is(err, ErrInvalid) {
		t.Errorf("a feed without its base: %v", err)
	}
	next := a.add(t, "and on")
	if n, err := late.Take(origin, [][]byte{next.Bytes()}); n != 1 || err != nil {
		t.Error(n, err)
	}
}

func headOf(t *testing.T, b []byte) Head {
	t.Helper()
	r, err := Parse(origin, b)
	if err != nil {
		t.Fatal(err)
	}
	return Head{r.Epoch, r.Seq, r.Hash(origin)}
}

func TestProofIsKept(t *testing.T) {
	a, b, peer := open(t), open(t), open(t)
	a.add(t, "one")
	b.add(t, "another")
	must(peer.Take(origin, a.all(t)))
	_, err := peer.Take(origin, b.all(t))
	var fork *Fork
	if !errors.As(err, &fork) {
		t.Fatal(err)
	}
	for i := range 2 {
		if first, err := peer.Keep(fork); first != (i == 0) || err != nil {
			t.Error(first, err)
		}
	}
	all, err := peer.Forks()
	if err != nil || len(all) != 1 || !bytes.Equal(all[0].Bytes(), fork.Bytes()) {
		t.Errorf("%v, %v", all, err)
	}
	if o := must(peer.Origins()); len(o) != 1 {
		t.Errorf("a proof is taken for a feed: %x", o)
	}
	same := &Fork{origin, fork.Ours, fork.Ours}
	if _, err := peer.Keep(same); err == nil {
		t.Error("one record proves something")
	}
	a.add(t, "two")
	next, _ := Parse(origin, a.all(t)[1])
	if _, err := ParseFork(origin, (&Fork{origin, fork.Ours, next}).Bytes()); err == nil {
		t.Error("a feed proves something against itself")
	}
}

func FuzzParseFork(f *testing.F) {
	r := Record{Epoch: 1, Seq: 2, At: now, Kind: 3, Data: []byte("data")}
	r.sign(key)
	other := r
	other.Data = []byte("other")
	other.sign(key)
	f.Add((&Fork{origin, r, other}).Bytes())
	f.Add((&Fork{origin, r, r}).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		fork, err := ParseFork(origin, b)
		if err == nil && !bytes.Equal(fork.Bytes(), b) {
			t.Errorf("%x is read as %v", b, fork)
		}
	})
}
