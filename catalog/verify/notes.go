package verify

import (
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A note is what a run knows of one chunk, in four bytes, so that a store of a
// hundred terabytes takes some 200 MB. Zero means that nothing is known yet.
//
//	bits 0-26  length of the content in bytes; 0: not known
//	bit  27    it is encrypted
//	bits 28-29 the verdict
type note uint32

const (
	sizeMask   note = 1<<27 - 1
	encrypted  note = 1 << 27
	good       note = 1 << 28
	damaged    note = 2 << 28
	missing    note = 3 << 28
	verdictAll note = 3 << 28
)

// sized returns a note with a length, if there is room for it.
func (n note) sized(bytes int) note {
	if bytes < 0 || note(bytes) > sizeMask {
		return n
	}
	return n | note(bytes)
}

func (n note) verdict() note { return n & verdictAll }

// notes are those of all chunks seen so far, by pack and ordinal. A place in a
// pack is never given to another chunk while the store is open, so what is
// noted stays true; a chunk that is moved or stored again has another place,
// and is looked at again.
type notes struct {
	mu    sync.Mutex
	packs map[uint32][]note
}

func (s *notes) get(r pack.Ref) note {
	s.mu.Lock()
	defer s.mu.Unlock()
	if row := s.packs[r.Pack]; int64(r.Entry) < int64(len(row)) {
		return row[r.Entry]
	}
	return 0
}

func (s *notes) set(r pack.Ref, n note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.packs == nil {
		s.packs = map[uint32][]note{}
	}
	row := s.packs[r.Pack]
	if short := int(r.Entry) + 1 - len(row); short > 0 {
		row = append(row, make([]note, short)...)
		s.packs[r.Pack] = row
	}
	row[r.Entry] = n
}
