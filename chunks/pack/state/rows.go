package state

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// Lacks returns how many entries at least were durable in p, up to the offset
// committed, and are not in found. rows and end are those of a scan.
func (p *Pack) Lacks(rows []format.Row, found *Bitmap, end, committed int64) int {
	n, next := gaps(rows, found, committed), uint32(0)
	for _, r := range rows {
		next = max(next, r.Ordinal+1)
	}
	// The table knows how many a sealed pack has. Of an open one, whatever was
	// condemned was durable, and all in front of it; a hole may be in its place.
	until := p.Dead().End()
	if p.Sealed.Load() {
		until = p.Entries.Load()
	}
	for o := next; o < until; o++ {
		if !found.Has(o) {
			n++
		}
	}
	if until <= next && !p.Sealed.Load() && format.AlignUp(end, format.Align) < committed {
		n++ // or more
	}
	return n
}

// gaps counts the ordinals in front of durable rows that are not in found.
func gaps(rows []format.Row, found *Bitmap, committed int64) (n int) {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b format.Row) int { return cmp.Compare(a.Off, b.Off) })
	next := uint32(0)
	for _, r := range rows {
		for ; next < r.Ordinal && r.Off <= committed; next++ {
			if !found.Has(next) {
				n++
			}
		}
		next = max(next, r.Ordinal+1)
	}
	return n
}

// Ordinals returns the entries of rows as a bitmap.
func Ordinals(rows []format.Row) []uint64 {
	n := uint32(0)
	for _, r := range rows {
		n = max(n, r.Ordinal+1)
	}
	words := make([]uint64, n/64+1)
	for _, r := range rows {
		words[r.Ordinal>>6] |= 1 << (r.Ordinal & 63)
	}
	return words
}

// Complete reports whether rows are all n entries of p but dead ones, of
// which a hole may have taken the place.
func (p *Pack) Complete(rows []format.Row, n uint32) bool {
	there := make(map[uint32]bool, len(rows))
	for _, r := range rows {
		if r.Ordinal >= n {
			return false
		}
		there[r.Ordinal] = true
	}
	for o := range n {
		if !there[o] && !p.Dead().Has(o) {
			return false
		}
	}
	return true
}

// Unreclaimed counts the entries of a row whose space was not given back.
func (p *Pack) Unreclaimed(row []uint64) (n uint32) {
	gone := p.Gone().Words()
	for i, w := range row {
		if i < len(gone) {
			w &^= gone[i]
		}
		n += uint32(bits.OnesCount64(w))
	}
	return n
}
