package pack

import (
	"context"
	"errors"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
	"github.com/holdfast-mesh/holdfast/chunks/pack/state"
)

var (
	errGone   = errors.New("the pack does not have it any more")
	errUnread = errors.New("its entries could not be read") // and may all be there
)

// maxNamed bounds how many lost chunks Health names.
const maxNamed = 1000

// A loss is a pack that lacks entries that it once had: of those that end at
// or before upTo, all that are not in found. An entry that cannot be found any
// more cannot say its name; the index may know it.
type loss struct {
	found *state.Bitmap
	upTo  int64
}

// noteUnfound compares what a scan of a pack has found with what was once
// durable there, and says so in Health if they differ. rows and end are those
// of the scan.
func (s *Store) noteUnfound(p *state.Pack, h *format.Header, rows []format.Row, end, committed int64) {
	if h.Derived {
		return // its ordinals have gaps from the start
	}
	found := p.Dead().With(state.Ordinals(rows))
	n := p.Lacks(rows, found, end, committed)
	if n == 0 {
		return
	}
	s.log.Error("pack lacks entries that were durable", "pack", p.Name(), "entries", n)
	s.health.Note(func(h *Health) {
		h.LostEntries += n
		h.DamagedPacks = append(h.DamagedPacks, s.path(p))
		s.lost[p.Number] = loss{found, committed}
	})
}

// nameLost adds the names of what noteUnfound found lost to Health, as far as
// the index knows them.
func (s *Store) nameLost(ctx context.Context) error {
	return s.unfound(ctx, s.lost, func(d chunks.Digest, _ index.Loc) {
		if len(s.health.LostChunks) < maxNamed {
			s.health.LostChunks = append(s.health.LostChunks, d)
		}
	})
}

// unfound calls fn for every chunk that the index places where losses say
// that nothing is. A missing pack of which there are none is forgotten: all that
// it held was condemned, or has been stored again.
func (s *Store) unfound(ctx context.Context, losses map[uint32]loss, fn func(chunks.Digest, index.Loc)) error {
	if len(losses) == 0 {
		return nil
	}
	needed := map[uint32]bool{}
	all, failed := s.idx.All(ctx)
	for d, l := range all {
		lost, ok := losses[l.Pack]
		if ok && !lost.found.Has(l.Entry) && int64(l.Off)*format.SmallAlign+format.EntrySize+int64(l.Len) <= lost.upTo {
			needed[l.Pack] = true
			fn(d, l)
		}
	}
	if err := failed(); err != nil {
		return err
	}
	for number := range losses {
		if p := s.packs.At(number); p != nil && p.Missing.Load() && !needed[number] {
			s.packs.Drop(number)
			s.health.Note(func(h *Health) {
				h.MissingPacks = slices.DeleteFunc(h.MissingPacks, func(name string) bool { return name == s.path(p) })
			})
		}
	}
	return nil
}
