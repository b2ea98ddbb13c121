package pack

import "context"

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
	all, failed := s.idx.All(ctx)
	return s.packs.Entries(all, durable), failed()
}
