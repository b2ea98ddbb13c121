package authority

import (
	"slices"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A Stray is what one branch says of who is removed, that does not count: see part.go. Its
// links prove it to everybody who has the chain up to where it parts.
type Stray struct {
	Links   [][]byte  // from where it parts to its last removal, as far as they are no more than [MaxStray]
	ID      [32]byte  // the hash of the last of them, which stands for all
	Removed []Removed // in the order of the links
}

// A Removed is one of whom a link says that operators have removed it.
type Removed struct {
	Node Key      `cbor:"1,keyasint"`
	Link [32]byte `cbor:"2,keyasint"` // its hash, which does not depend on which operators signed
}

// MaxStray bounds the links of a [Stray], in bytes.
const MaxStray = 1 << 20

// Against are those whom a stray has removed and a chain has not.
func (s Stray) Against(counts *Chain) (removed []Removed) {
	for _, r := range s.Removed {
		if _, is := counts.Node(r.Node); is {
			removed = append(removed, r)
		}
	}
	return removed
}

// StrayOf is what is left of a branch that gives way to another.
func StrayOf(loses, counts *Chain) Stray {
	return strayOf(loses.cluster, loses.Links(common(loses, counts)))
}

// strayOf reads the links of a branch from where it parts from another, as far as the
// operators of there have signed: whoever they make operators on a branch of their own has
// no say in the other.
func strayOf(cluster [16]byte, links [][]byte) (s Stray) {
	size := 0
	for i, b := range links {
		l, err := ParseLink(b)
		if err != nil || l.changesOperators() {
			break
		}
		size += len(b)
		var r Removal
		if l.Kind != RemoveNode || canon.Decode(l.Body, &r) != nil {
			continue
		}
		hash := l.hash(cluster)
		s.Removed = append(s.Removed, Removed{r.Key, hash})
		if size <= MaxStray {
			s.Links, s.ID = links[:i+1:i+1], hash
		}
	}
	return s
}

// Meets tells whether the links of a stray stand behind one of c, so that they can be
// checked by who has c.
func (c *Chain) Meets(links [][]byte) bool {
	if len(links) == 0 {
		return false
	}
	first, err := ParseLink(links[0])
	if err != nil || first.Seq == 0 {
		return false
	}
	head, is := c.headAt(first.Seq)
	return is && head == first.Prev
}

// Rejoin returns the links of a stray that parted from a branch which itself gives way to
// another now, from where that parts: else nobody could check them who has never seen it.
// Nil if they cannot be checked any more.
func Rejoin(links [][]byte, loses, counts *Chain) [][]byte {
	if !loses.Meets(links) || counts.Meets(links) {
		return links
	}
	first, err := ParseLink(links[0])
	if err != nil {
		return nil
	}
	shared := common(loses, counts)
	all := slices.Concat(loses.Links(shared)[:first.Seq-shared], links)
	return strayOf(loses.cluster, all).Links
}

func (l Link) changesOperators() bool {
	return l.Kind == Operators || l.Kind == NewOperators || l.Kind == Enact
}

// Stray checks the links of a stray that somebody shows: that they part from c, that those
// who signed them could have signed the same behind c where they part, and now, and that
// there are no more of them than its last removal needs.
func (c *Chain) Stray(links [][]byte) (Stray, error) {
	if len(links) == 0 {
		return Stray{}, refused("a branch without links")
	}
	size := 0
	for _, b := range links {
		if size += len(b); size > MaxStray {
			return Stray{}, refused("a branch of more than %d bytes", MaxStray)
		}
	}
	first, err := ParseLink(links[0])
	if err != nil {
		return Stray{}, err
	}
	shared := first.Seq
	if !c.Meets(links) {
		return Stray{}, refused("a branch that does not part from this chain: its first link is number %d", shared)
	}
	if length, _ := c.Head(); shared == length {
		return Stray{}, refused("links behind the last of this chain, which are no other branch")
	}
	branch, err := Read(c.links[:shared])
	if err != nil {
		return Stray{}, err
	}
	for _, b := range links {
		if branch, err = branch.Next(b); err != nil {
			return Stray{}, err
		}
	}
	if common(c, branch) != shared {
		return Stray{}, refused("links that this chain has itself")
	}
	s := strayOf(c.cluster, links)
	if len(s.Links) != len(links) {
		return Stray{}, refused("a branch of %d links, of which %d prove a removal", len(links), len(s.Links))
	}
	if err := c.stand(s.Links); err != nil {
		return Stray{}, err
	}
	return s, nil
}

// stand refuses links of another branch of which those who have removed somebody could not
// do so now: who has stolen the key of somebody who was an operator once could have any node
// kept out.
func (c *Chain) stand(links [][]byte) error {
	for _, b := range links {
		l, err := ParseLink(b)
		if err != nil || l.changesOperators() { // see strayOf
			return nil
		}
		if l.Kind != RemoveNode {
			continue
		}
		signers, err := l.signers(c.cluster)
		if err != nil {
			return err
		}
		if n := count(signers, c.operators); n < c.threshold {
			return refused("a removal on another branch that %d of the operators of now have signed, want %d", n, c.threshold)
		}
	}
	return nil
}
