// Package sums compares the ledger of this node with those of others, by what they
// come to at an index. Two that differ at one index have lost each other.
package sums

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// Sums are those of a ledger, and with whom it does not agree.
type Sums struct {
	ledger *ledger.Ledger

	mu      sync.Mutex
	newest  sum               // of the ledger of now; zero: nobody has asked for it
	differs map[string]uint64 // lowest index at which another node has another ledger
	in      uint64            // the incarnation of those ledgers
}

// New returns the Sums of l.
func New(l *ledger.Ledger) *Sums { return &Sums{ledger: l, differs: map[string]uint64{}} }

// A sum is what the state comes to at an index.
type sum struct {
	index uint64
	hash  [32]byte
}

const sumSize = 8 + 32

// known are those that this node knows: at every thousandth index, and now; and the
// incarnation of the ledger that they are of. It is not that of the chain that is
// believed here: a node has the chain of a recovery before it has the ledger of it.
func (s *Sums) known() (incarnation uint64, all []sum) {
	incarnation = s.ledger.Incarnation()
	for _, h := range s.ledger.Hashes() {
		all = append(all, sum{h.Index, h.Sum})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.ledger.View()
	if v.Chain().Incarnation() != incarnation {
		return incarnation, nil // it was replaced meanwhile: the next comparison has them
	}
	if s.newest.index != v.Index() {
		s.newest = sum{v.Index(), v.Hash()}
	}
	return incarnation, append(all, s.newest)
}

// Encode returns the sums for another node.
func (s *Sums) Encode() []byte {
	incarnation, all := s.known()
	b := binary.BigEndian.AppendUint64(nil, incarnation)
	for _, n := range all {
		b = append(binary.BigEndian.AppendUint64(b, n.index), n.hash[:]...)
	}
	return b
}

// Judge compares those of a node with those of this one. A difference is remembered
// until a later comparison of the two finds none; index is the lowest one of a
// difference that is new, else 0.
func (s *Sums) Judge(theirs []byte, by string) (index uint64, err error) {
	if len(theirs) < 8 || (len(theirs)-8)%sumSize != 0 {
		return 0, errors.New("sums that cannot be read")
	}
	incarnation, known := s.known()
	if binary.BigEndian.Uint64(theirs) != incarnation {
		return 0, nil // one of the two has ended, and whoever has it is about to put it away
	}
	ours := map[uint64][32]byte{}
	for _, n := range known {
		ours[n.index] = n.hash
	}
	compared, differ := false, uint64(0)
	for b := theirs[8:]; len(b) > 0; b = b[sumSize:] {
		index := binary.BigEndian.Uint64(b)
		hash, is := ours[index]
		if !is || index == 0 {
			continue
		}
		compared = true
		if subtle.ConstantTimeCompare(hash[:], b[8:sumSize]) == 0 && differ == 0 {
			differ = index
		}
	}
	if !compared {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.differs[by]
	delete(s.differs, by)
	if differ != 0 {
		s.differs[by], s.in = differ, incarnation
	}
	if was != 0 {
		return 0, nil
	}
	return differ, nil
}

// Changed forgets what is not so any more behind a change of the ledger: what it came
// to, and, if that is told, with whom the ledger of another incarnation did not agree.
func (s *Sums) Changed(v ledger.View) (forgot bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = sum{}
	if forgot = len(s.differs) > 0 && s.in != v.Chain().Incarnation(); forgot {
		clear(s.differs)
	}
	return forgot
}

// Keep forgets what was found of nodes that are not in the group any more.
func (s *Sums) Keep(group []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.differs, func(node string, _ uint64) bool { return !slices.Contains(group, node) })
}

// Differ returns the nodes whose ledger is not that of this one, with the lowest index
// at which it is not.
func (s *Sums) Differ() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.differs)
}
