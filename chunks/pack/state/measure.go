package state

import (
	"iter"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
)

// Measure returns how much of every pack is taken by the entries in set, and
// by the others. packs are in order of number; all is what the index has.
// Packs that are missing are left out.
func Measure(packs []*Pack, all iter.Seq2[chunks.Digest, index.Loc], set *Set) map[uint32]Usage {
	usage := make(map[uint32]Usage, len(packs))
	if len(packs) == 0 {
		return usage
	}
	sums := make([]Usage, packs[len(packs)-1].Number+1)
	rows := make([][]uint64, len(sums))
	for number, words := range set.Rows() {
		if int(number) < len(rows) {
			rows[number] = words
		}
	}
	for _, l := range all {
		if int64(l.Pack) < int64(len(sums)) {
			sums[l.Pack].add(l, rows[l.Pack])
		}
	}
	for _, p := range packs {
		if p.Missing.Load() {
			continue
		}
		u := sums[p.Number]
		// Second copies of a chunk are not in the index. Their size is that of
		// the pack's average entry.
		if more := p.Unreclaimed(set.Row(p.Number)) - u.Dead; more > 0 && more <= p.Entries.Load() {
			u.Entries, u.Dead = u.Entries+more, u.Dead+more
			u.DeadBytes += int64(more) * p.Size.Load() / int64(p.Entries.Load())
		}
		usage[p.Number] = u
	}
	return usage
}

// add counts one entry, dead if words have it.
func (u *Usage) add(l index.Loc, words []uint64) {
	n := format.Extent(l.Len)
	u.Entries++
	if w := int(l.Entry >> 6); w < len(words) && words[w]&(1<<(l.Entry&63)) != 0 {
		u.Dead++
		u.DeadBytes += n
	} else {
		u.LiveBytes += n
	}
}
