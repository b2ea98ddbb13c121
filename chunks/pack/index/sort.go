package index

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// A sortKey stands for a record, in a third of the space.
type sortKey struct {
	prefix uint64
	place  uint32 // in the batch
}

// A sorter puts records in order without moving them. It keeps its memory for
// the next batch.
type sorter struct {
	keys []sortKey
	ends []uint32 // of the buckets in keys
}

// sort returns recs in ascending order, equal digests as they came. Because
// digests are spread evenly, a first pass puts each near its place, in one of
// as many buckets as make small ones, and hardly anything is left to sort; if
// they are not, the cost is that of sorting.
func (s *sorter) sort(recs []record) *sortedSource {
	buckets := uint64(len(recs))/8 + 1
	s.ends = append(s.ends[:0], make([]uint32, buckets+1)...)
	for i := range recs {
		s.ends[lineOf(prefix(recs[i].digest()), buckets)+1]++
	}
	for b := range buckets {
		s.ends[b+1] += s.ends[b]
	}
	// ends[b] is where b begins now, and where it ends after the next loop.
	s.keys = slices.Grow(s.keys[:0], len(recs))[:len(recs)]
	for i := range recs {
		p := prefix(recs[i].digest())
		end := &s.ends[lineOf(p, buckets)]
		s.keys[*end] = sortKey{p, uint32(i)}
		*end++
	}
	from := uint32(0)
	for _, end := range s.ends[:buckets] {
		sortKeys(s.keys[from:end], recs)
		from = end
	}
	return &sortedSource{recs: recs, keys: s.keys}
}

func sortKeys(keys []sortKey, recs []record) {
	if len(keys) < 2 {
		return
	}
	slices.SortFunc(keys, func(k, l sortKey) int {
		if k.prefix != l.prefix {
			return cmp.Compare(k.prefix, l.prefix)
		}
		c := bytes.Compare(recs[k.place][:chunks.DigestSize], recs[l.place][:chunks.DigestSize])
		return cmp.Or(c, cmp.Compare(k.place, l.place))
	})
}

// A sortedSource hands out the records of a batch in the order of keys.
type sortedSource struct {
	recs  []record
	keys  []sortKey
	ahead byte
}

// sortedAhead is how many records a sortedSource reads at once, so that they
// are in the cache when their turn comes: they lie all over the batch, and to
// wait for the memory of each alone takes as long as everything else.
const sortedAhead = 32

func (s *sortedSource) next() (*record, error) {
	if len(s.keys) == 0 {
		return nil, nil
	}
	if len(s.keys)%sortedAhead == 0 {
		for _, k := range s.keys[:sortedAhead] {
			s.ahead ^= s.recs[k.place][0]
		}
	}
	r := &s.recs[s.keys[0].place]
	s.keys = s.keys[1:]
	return r, nil
}
