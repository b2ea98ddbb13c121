package state

import (
	"iter"
	"math/bits"
)

// A Ref names one entry of one pack of a store: the pack by its number, the
// entry by its place in append order. A number is never used twice, and an
// entry never moves, so a Ref stays true for as long as its pack exists.
type Ref struct {
	Pack  uint32
	Entry uint32
}

// A Set is a set of entries: one bitmap a pack. The zero value is empty. It is
// not safe for concurrent use.
type Set struct {
	rows [][]uint64 // by pack number minus base; nil: nothing of that pack
	base uint32     // number of rows[0]
	size int
}

// Add puts r into the set and reports whether it was new.
func (s *Set) Add(r Ref) bool {
	row := s.row(r.Pack, int(r.Entry>>6)+1)
	word, bit := &(*row)[r.Entry>>6], uint64(1)<<(r.Entry&63)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	s.size++
	return true
}

// AddRange puts the entries [from, to) of a pack into the set.
func (s *Set) AddRange(pack, from, to uint32) {
	for e := from; e < to; e++ {
		s.Add(Ref{pack, e})
	}
}

// Remove takes r out of the set.
func (s *Set) Remove(r Ref) {
	if !s.Has(r) {
		return
	}
	s.rows[r.Pack-s.base][r.Entry>>6] &^= 1 << (r.Entry & 63)
	s.size--
}

// Has reports whether r is in the set.
func (s *Set) Has(r Ref) bool {
	row := s.Row(r.Pack)
	w := int(r.Entry >> 6)
	return w < len(row) && row[w]&(1<<(r.Entry&63)) != 0
}

// Len returns the number of entries in the set.
func (s *Set) Len() int { return s.size }

// Row returns the bitmap of one pack, entry 0 in the lowest bit of the first
// word. It may be shorter than the pack, and must not be changed.
func (s *Set) Row(pack uint32) []uint64 {
	if i := int64(pack) - int64(s.base); i >= 0 && i < int64(len(s.rows)) {
		return s.rows[i]
	}
	return nil
}

// CountRow returns how many entries of one pack are in the set.
func (s *Set) CountRow(pack uint32) int {
	n := 0
	for _, w := range s.Row(pack) {
		n += bits.OnesCount64(w)
	}
	return n
}

// OrRow adds a pack's bitmap as Row returns it.
func (s *Set) OrRow(pack uint32, words []uint64) {
	if len(words) == 0 {
		return
	}
	row := *s.row(pack, len(words))
	for i, w := range words {
		s.size += bits.OnesCount64(w &^ row[i])
		row[i] |= w
	}
}

// Or adds every entry of o.
func (s *Set) Or(o *Set) {
	for pack, words := range o.Rows() {
		s.OrRow(pack, words)
	}
}

// AndNotRow removes a pack's bitmap from the set.
func (s *Set) AndNotRow(pack uint32, words []uint64) {
	row := s.Row(pack)
	for i := range min(len(row), len(words)) {
		s.size -= bits.OnesCount64(row[i] & words[i])
		row[i] &^= words[i]
	}
}

// AndNot removes every entry of o.
func (s *Set) AndNot(o *Set) {
	for pack, words := range o.Rows() {
		s.AndNotRow(pack, words)
	}
}

// DropPack removes every entry of a pack.
func (s *Set) DropPack(pack uint32) {
	if i := int64(pack) - int64(s.base); i >= 0 && i < int64(len(s.rows)) {
		s.size -= s.CountRow(pack)
		s.rows[i] = nil
	}
}

// Clone returns an independent copy.
func (s *Set) Clone() *Set {
	c := &Set{}
	c.Or(s)
	return c
}

// Rows yields every pack that has a bitmap, by number, and the bitmap.
func (s *Set) Rows() iter.Seq2[uint32, []uint64] {
	return func(yield func(uint32, []uint64) bool) {
		for i, words := range s.rows {
			if words != nil && !yield(s.base+uint32(i), words) {
				return
			}
		}
	}
}

// All yields every entry, in order.
func (s *Set) All() iter.Seq[Ref] {
	return func(yield func(Ref) bool) {
		for pack, words := range s.Rows() {
			for r := range RowEntries(pack, words) {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// RowEntries yields the entries of one bitmap.
func RowEntries(pack uint32, words []uint64) iter.Seq[Ref] {
	return func(yield func(Ref) bool) {
		for i, w := range words {
			for ; w != 0; w &= w - 1 {
				if !yield(Ref{pack, uint32(i<<6 + bits.TrailingZeros64(w))}) {
					return
				}
			}
		}
	}
}

// row returns the bitmap of pack, made and grown to at least words words.
func (s *Set) row(pack uint32, words int) *[]uint64 {
	switch {
	case len(s.rows) == 0:
		s.base = pack
		s.rows = make([][]uint64, 1)
	case pack < s.base:
		grown := make([][]uint64, int(s.base-pack)+len(s.rows))
		copy(grown[s.base-pack:], s.rows)
		s.rows, s.base = grown, pack
	case int(pack-s.base) >= len(s.rows):
		need := int(pack-s.base) + 1
		if need > cap(s.rows) {
			grown := make([][]uint64, len(s.rows), max(need, 2*cap(s.rows)))
			copy(grown, s.rows)
			s.rows = grown
		}
		s.rows = s.rows[:need]
	}
	row := &s.rows[pack-s.base]
	if words > len(*row) {
		*row = append(*row, make([]uint64, words-len(*row))...)
	}
	return row
}
