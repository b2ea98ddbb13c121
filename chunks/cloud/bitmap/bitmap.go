// Package bitmap has sets of the entries of one pack: entry 0 is the lowest bit
// of the first word. A nil set is empty.
package bitmap

import (
	"math/bits"
	"slices"
)

// Has reports whether n is in set.
func Has(set []uint64, n uint32) bool {
	return int(n>>6) < len(set) && set[n>>6]&(1<<(n&63)) != 0
}

// Or adds words to set and returns how many were new.
func Or(set *[]uint64, words []uint64) (fresh int) {
	if len(words) > len(*set) {
		*set = append(*set, make([]uint64, len(words)-len(*set))...)
	}
	for i, w := range words {
		fresh += bits.OnesCount64(w &^ (*set)[i])
		(*set)[i] |= w
	}
	return fresh
}

// Add adds n to set.
func Add(set *[]uint64, n uint32) {
	one := make([]uint64, n>>6+1)
	one[n>>6] = 1 << (n & 63)
	Or(set, one)
}

// Without returns those of set that are not in words.
func Without(set, words []uint64) []uint64 {
	left := slices.Clone(set)
	for i := range min(len(left), len(words)) {
		left[i] &^= words[i]
	}
	return left
}

// Others returns those below n that are not in set, nil if there are none.
func Others(set []uint64, n int) (others []uint64) {
	for i := range uint32(n) {
		if !Has(set, i) {
			Add(&others, i)
		}
	}
	return others
}
