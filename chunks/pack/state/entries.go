package state

import (
	"cmp"
	"iter"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
)

// An Entry is a chunk and where it lies.
type Entry struct {
	Digest chunks.Digest
	Ref    Ref
	Bytes  uint32 // stored length of the blob
}

// Entries returns those of all that live and lie below the limit of their
// pack, in the order in which they lie there.
func (t *Table) Entries(all iter.Seq2[chunks.Digest, index.Loc], limits map[uint32]uint32) []Entry {
	var found []index.Placed
	for d, l := range all {
		p := t.At(l.Pack)
		if p != nil && l.Entry < limits[l.Pack] && p.Live(l.Entry) {
			found = append(found, index.Placed{Digest: d, Loc: l})
		}
	}
	slices.SortFunc(found, func(a, b index.Placed) int {
		return cmp.Or(cmp.Compare(a.Loc.Pack, b.Loc.Pack), cmp.Compare(a.Loc.Off, b.Loc.Off))
	})
	entries := make([]Entry, len(found))
	for i, f := range found {
		entries[i] = Entry{f.Digest, Ref{Pack: f.Loc.Pack, Entry: f.Loc.Entry}, f.Loc.Len}
	}
	return entries
}

// Counts returns how many entries each pack has that keep accepts, by number.
func Counts(packs []Info, keep func(Info) bool) map[uint32]uint32 {
	counts := map[uint32]uint32{}
	for _, p := range packs {
		if keep(p) {
			counts[p.Number] = p.Entries
		}
	}
	return counts
}
