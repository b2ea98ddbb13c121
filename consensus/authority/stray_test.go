package authority

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// lost returns what a keeper is left with of a branch that gives way to another.
func lost(t testing.TB, loses, counts *Chain) (s Stray) {
	t.Helper()
	k := NewKeeper(KeeperConfig{Chain: loses, Stray: func(loses, counts *Chain) { s = StrayOf(loses, counts) }})
	if err := k.Agree(counts); err != nil {
		t.Fatal(err)
	}
	return s
}

// What is left of a branch that gave way proves whom it has removed to a node that never
// saw it, also after the chain that counts has gone on. Such a node once knew nothing of
// it, and went on talking to whom operators had ejected.
func TestStray(t *testing.T) {
	c := three(t)
	loses := c.must(t, AddNode, home(14), private(1)).must(t, RemoveNode, Removal{public(12)}, private(1)).must(t, RemoveNode, Removal{public(11)}, private(1)).must(t, AddNode, home(15), private(1))
	counts := c.must(t, RemoveNode, Removal{public(11)}, private(1))
	s := lost(t, loses, counts)
	if len(s.Links) != 3 || len(s.Removed) != 2 || s.ID != s.Removed[1].Link {
		t.Fatalf("%d links, %+v", len(s.Links), s)
	}
	got, err := counts.must(t, AddNode, home(16), private(1)).Stray(s.Links)
	if err != nil || got.ID != s.ID || !slices.Equal(got.Removed, s.Removed) || !slices.Equal(against(got, counts), []Key{public(12)}) {
		t.Errorf("%v: %+v", err, got)
	}
	later := loses.must(t, RemoveNode, Removal{public(15)}, private(1)) // of the same branch, seen later
	if more := lost(t, later, counts); len(more.Links) != 5 || !slices.Equal(more.Removed[:2], s.Removed) || more.Removed[2].Node != public(15) {
		t.Errorf("%+v", more)
	}
}

// Nobody has a node kept out by saying so: all that is not signed by the operators of
// where it parts, or is not another branch, is refused, and so is what proves nothing.
func TestStrayIsNoProof(t *testing.T) {
	c := three(t)
	counts := c.must(t, AddNode, home(13), private(1)).must(t, AddNode, home(14), private(1))
	removed := c.must(t, RemoveNode, Removal{public(12)}, private(1))
	link := removed.Links(4)[0]
	unsigned, err := ParseLink(link)
	if err != nil {
		t.Fatal(err)
	}
	byOther := unsigned
	byOther.Sigs = nil
	unsigned.Sigs = nil
	flipped := bytes.Clone(link)
	flipped[len(flipped)-1] ^= 1
	stolen := c.must(t, Operators, OperatorsBody{Operators: []Key{public(2)}, Threshold: 1}, private(1), private(2))
	big := append(slices.Repeat([][]byte{make([]byte, MaxLink)}, MaxStray/MaxLink), link)
	for name, links := range map[string][][]byte{
		"none":                 nil,
		"no link":              {{1}},
		"unsigned":             {unsigned.Bytes()},
		"signed by a node":     {byOther.sign(cluster, private(12))},
		"a wrong signature":    {flipped},
		"new operators":        stolen.must(t, RemoveNode, Removal{public(12)}, private(2)).Links(4),
		"no removal":           c.must(t, AddNode, home(15), private(1)).Links(4),
		"more than the proof":  removed.must(t, AddNode, home(15), private(1)).Links(4),
		"a gap":                removed.must(t, RemoveNode, Removal{public(11)}, private(1)).Links(5),
		"links of our own":     counts.Links(4),
		"behind our last":      counts.must(t, RemoveNode, Removal{public(12)}, private(1)).Links(6),
		"all of another chain": removed.Links(0),
		"of another cluster":   founded(t, 2, 1).must(t, AddNode, home(12), private(1)).must(t, RemoveNode, Removal{public(12)}, private(1)).Links(2),
		"too many":             big,
	} {
		if s, err := counts.Stray(links); !errors.Is(err, ErrRefused) || len(s.Removed) != 0 {
			t.Errorf("%s: %v, %+v", name, err, s)
		}
	}
	if s, err := counts.Stray([][]byte{link}); err != nil || len(s.Removed) != 1 {
		t.Errorf("what is signed: %v, %+v", err, s)
	}
	after := counts.must(t, Operators, OperatorsBody{Operators: []Key{public(2)}, Threshold: 1}, private(1), private(2))
	if s, err := after.Stray([][]byte{link}); !errors.Is(err, ErrRefused) || len(s.Removed) != 0 {
		t.Errorf("signed by who is no operator any more: %v, %+v", err, s)
	}
	two := founded(t, 2, 2).must(t, AddNode, home(12), private(1), private(2))
	one := two.Draft(RemoveNode, Removal{public(12)}).sign(cluster, private(1))
	if _, err := two.must(t, AddNode, home(13), private(1), private(2)).Stray([][]byte{one}); !errors.Is(err, ErrRefused) {
		t.Errorf("signed by one of two: %v", err)
	}
}

// A branch too long to be passed on is known with all that it has removed to who has seen
// it, and as far as it goes to the others.
func TestLongStray(t *testing.T) {
	c := three(t)
	loses := c.must(t, RemoveNode, Removal{public(12)}, private(1))
	size := 0
	for n := 0; size <= MaxStray; n++ {
		var node Node
		for _, n := range loses.Nodes() {
			if n.Key == public(10) {
				node = n
			}
		}
		node.Site = "site-" + string(rune('a'+n%20))
		loses = loses.must(t, AddNode, node, private(1))
		last := loses.Links(uint64(len(loses.links) - 1))[0]
		size += len(last)
	}
	loses = loses.must(t, RemoveNode, Removal{public(11)}, private(1))
	counts := c.must(t, AddNode, home(13), private(1))
	s := lost(t, loses, counts)
	if len(s.Removed) != 2 || len(s.Links) != 1 || s.ID != s.Removed[0].Link {
		t.Fatalf("%d links, %d removed", len(s.Links), len(s.Removed))
	}
	if got, err := counts.Stray(s.Links); err != nil || len(got.Removed) != 1 {
		t.Errorf("%v, %+v", err, got.Removed)
	}
}

// The branch that another has parted from gives way itself, to a recovery from before: what
// was known of the other is to be proven to nodes that know neither.
func TestStrayOfStray(t *testing.T) {
	c := three(t)
	first := c.must(t, AddNode, home(13), private(1)).must(t, AddNode, home(14), private(1))
	loses := first.must(t, RemoveNode, Removal{public(12)}, private(1))
	then := first.must(t, AddNode, home(15), private(1))
	s := lost(t, loses, then)
	counts := c.must(t, Recover, Recovery{Incarnation: 2, Base: public(10), Reason: "test"}, private(1))
	if _, err := counts.must(t, AddNode, home(16), private(1)).must(t, AddNode, home(17), private(1)).Stray(s.Links); !errors.Is(err, ErrRefused) || counts.Meets(s.Links) {
		t.Fatalf("the test is of nothing: %v", err)
	}
	links := Rejoin(s.Links, then, counts)
	if got, err := counts.Stray(links); err != nil || got.ID != s.ID || !slices.Equal(against(got, counts), []Key{public(12)}) {
		t.Errorf("%v: %+v", err, got)
	}
	if again := Rejoin(s.Links, first, then); !slices.EqualFunc(again, s.Links, bytes.Equal) {
		t.Error("links that can be checked are changed")
	}
	stolen := c.must(t, Operators, OperatorsBody{Operators: []Key{public(2)}, Threshold: 1}, private(1), private(2))
	theirs := lost(t, stolen.must(t, RemoveNode, Removal{public(12)}, private(2)), stolen.must(t, AddNode, home(13), private(2)))
	if links := Rejoin(theirs.Links, stolen.must(t, AddNode, home(13), private(2)), counts); links != nil {
		t.Errorf("other operators: %d links", len(links))
	}
}

// FuzzStray has a member show whatever it likes beside what is signed: whoever it says was
// removed, an operator has signed for.
func FuzzStray(f *testing.F) {
	c := three(f)
	counts := c.must(f, AddNode, home(13), private(1))
	links := c.must(f, AddNode, home(14), private(1)).must(f, RemoveNode, Removal{public(12)}, private(1)).Links(4)
	f.Add(canon.Encode(links))
	f.Add(canon.Encode(links[:1]))
	f.Add(canon.Encode(counts.Links(0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var shown [][]byte
		if canon.Decode(b, &shown) != nil {
			return
		}
		s, err := counts.Stray(shown)
		if err != nil {
			return
		}
		for _, r := range s.Removed {
			if r.Node != public(12) {
				t.Errorf("%x", b)
			}
		}
	})
}
