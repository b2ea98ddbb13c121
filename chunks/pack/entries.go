package pack

import (
	"context"
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

// Entries returns the chunks that live in those packs that keep accepts, in
// the order in which they lie there, and that a crash would not take away. Who
// moves chunks elsewhere begins with it.
func (s *Store) Entries(ctx context.Context, keep func(Info) bool) ([]Entry, error) {
	durable := map[uint32]uint32{}
	for _, info := range s.durable() {
		if keep(info) {
			durable[info.Number] = info.Entries
		}
	}
	var found []index.Placed
	all, failed := s.idx.All(ctx)
	for d, l := range all {
		p := s.packs.At(l.Pack)
		if p != nil && l.Entry < durable[l.Pack] && p.Live(l.Entry) {
			found = append(found, index.Placed{Digest: d, Loc: l})
		}
	}
	if err := failed(); err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b index.Placed) int {
		if a.Loc.Pack != b.Loc.Pack {
			return int(int64(a.Loc.Pack) - int64(b.Loc.Pack))
		}
		return int(int64(a.Loc.Off) - int64(b.Loc.Off))
	})
	entries := make([]Entry, len(found))
	for i, f := range found {
		entries[i] = Entry{f.Digest, Ref{Pack: f.Loc.Pack, Entry: f.Loc.Entry}, f.Loc.Len}
	}
	return entries, nil
}
