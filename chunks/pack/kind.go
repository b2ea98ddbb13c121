package pack

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
)

// LookupKind is Lookup for who must know how the chunk is encoded before a new
// one counts as the same (PBS protocol notes §5.8): nobody can see from an
// encrypted blob whether the name it came under is its own. It reads no more
// than the head of the chunk, and fails with [chunks.ErrCorrupt] if that is
// damaged. The chunk is unknown if ok is false.
func (s *Store) LookupKind(d chunks.Digest) (ref Ref, kind chunks.Kind, ok bool, err error) {
	l, p := s.find(d)
	for p != nil && p.Live(l.Entry) {
		ref = Ref{Pack: l.Pack, Entry: l.Entry}
		if kind, err = s.readKind(l, d); err == nil {
			return ref, kind, true, nil
		}
		again, q := s.find(d)
		if q == nil || again == l {
			return ref, 0, p.Live(l.Entry), s.problem("read", d, err)
		}
		l, p = again, q // it has moved while we were reading
	}
	return Ref{}, 0, false, nil
}

// readKind reads what an entry begins with.
func (s *Store) readKind(l index.Loc, d chunks.Digest) (chunks.Kind, error) {
	p := s.packs.At(l.Pack)
	if p == nil {
		return 0, chunks.ErrMissing
	}
	b := make([]byte, format.EntrySize+min(chunks.EncryptedHeaderSize, int(l.Len)))
	if err := s.readPack(p, b, int64(l.Off)*format.SmallAlign); err != nil {
		return 0, err
	}
	if err := format.CheckHead(b[:format.EntrySize], d); err != nil {
		return 0, err
	}
	kind, err := chunks.Blob(b[format.EntrySize:]).Kind()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", chunks.ErrCorrupt, err)
	}
	return kind, nil
}
