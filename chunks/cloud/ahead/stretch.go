package ahead

import (
	"cmp"
	"slices"
)

// Stretches sorts wants by place and parts them into stretches that are read
// with one request each: what is less than gap apart, or any distance in a
// pack of which most is wanted. However long a stretch is, of what it brings
// only one chunk at a time is in memory.
func Stretches(wants []Want, gap int64) (stretches [][]Want) {
	slices.SortFunc(wants, func(a, b Want) int {
		return cmp.Or(cmp.Compare(a.Pack.Number, b.Pack.Number), cmp.Compare(a.Off, b.Off))
	})
	sums := map[uint32]int64{}
	for _, w := range wants {
		sums[w.Pack.Number] += w.N
	}
	var prev Want
	for i, w := range wants {
		limit := gap
		if sums[w.Pack.Number]*10 > 6*w.Pack.Size {
			limit = w.Pack.Size // the whole pack
		}
		if i > 0 && prev.Pack.Number == w.Pack.Number && w.Off-(prev.Off+prev.N) <= limit {
			stretches[len(stretches)-1] = append(stretches[len(stretches)-1], w)
		} else {
			stretches = append(stretches, []Want{w})
		}
		prev = w
	}
	return stretches
}

// Sum returns the length of what is wanted.
func Sum(wants []Want) (n int64) {
	for _, w := range wants {
		n += w.N
	}
	return n
}
