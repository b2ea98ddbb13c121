package ahead

import (
	"cmp"
	"slices"
)

// Stretches sorts wants by place and parts them into stretches that are read
// with one request each: what is less than gap apart, or any distance in a
// pack of which most is wanted; that comes whole, others in parts of at most
// MaxRange.
func Stretches(wants []Want, gap int64) (stretches [][]Want) {
	slices.SortFunc(wants, func(a, b Want) int {
		return cmp.Or(cmp.Compare(a.Pack.Number, b.Pack.Number), cmp.Compare(a.Off, b.Off))
	})
	sums := map[uint32]int64{}
	for _, w := range wants {
		sums[w.Pack.Number] += w.N
	}
	var first, prev Want // of the last stretch
	for i, w := range wants {
		limit, reach := gap, int64(MaxRange)
		if sums[w.Pack.Number]*10 > 6*w.Pack.Size {
			limit, reach = w.Pack.Size, w.Pack.Size // the whole pack
		}
		if i > 0 && prev.Pack.Number == w.Pack.Number && w.Off-(prev.Off+prev.N) <= limit && w.Off+w.N-first.Off <= reach {
			stretches[len(stretches)-1] = append(stretches[len(stretches)-1], w)
		} else {
			stretches, first = append(stretches, []Want{w}), w
		}
		prev = w
	}
	return stretches
}
