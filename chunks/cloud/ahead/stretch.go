package ahead

import (
	"cmp"
	"slices"
)

// A Span is a part of a pack, whose length is Of.
type Span struct {
	Pack       uint32
	Of, Off, N int64
}

// Stretches sorts wants by place and parts them into stretches that are read
// with one request each: what is less than gap apart, or any distance in a
// pack of which most is wanted; that comes whole, others in parts of at most
// MaxRange.
func Stretches[W any](wants []W, span func(W) Span, gap int64) (stretches [][]W) {
	slices.SortFunc(wants, func(a, b W) int {
		x, y := span(a), span(b)
		return cmp.Or(cmp.Compare(x.Pack, y.Pack), cmp.Compare(x.Off, y.Off))
	})
	sums := map[uint32]int64{}
	for _, w := range wants {
		s := span(w)
		sums[s.Pack] += s.N
	}
	var first, prev Span // of the last stretch
	for i, w := range wants {
		s := span(w)
		limit, reach := gap, int64(MaxRange)
		if sums[s.Pack]*10 > 6*s.Of {
			limit, reach = s.Of, s.Of // the whole pack
		}
		if i > 0 && prev.Pack == s.Pack && s.Off-(prev.Off+prev.N) <= limit && s.Off+s.N-first.Off <= reach {
			stretches[len(stretches)-1] = append(stretches[len(stretches)-1], w)
		} else {
			stretches, first = append(stretches, []W{w}), s
		}
		prev = s
	}
	return stretches
}
