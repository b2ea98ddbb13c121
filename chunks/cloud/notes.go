package cloud

import (
	"iter"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/notes"
)

// note appends a record. It is durable after the journal's next Sync.
func (s *Store) note(n notes.Note) { s.journal.Append(n.Encode()) }

// notes yields what the journal must say now. The caller holds mu and work.
func (s *Store) notes() iter.Seq[notes.Note] {
	return func(yield func(notes.Note) bool) {
		ok := true
		say := func(n notes.Note) { ok = ok && yield(n) }
		for id, n := range s.table.numbers {
			if s.table.packs[n] != nil || n+1 == s.table.next {
				say(notes.Note{Kind: notes.Number, Pack: id, Number: n})
			}
		}
		for _, p := range s.table.packs {
			if len(p.dead) > 0 {
				say(notes.Note{Kind: notes.Dead, Pack: p.id, Bits: p.dead})
			}
			if len(p.bad) > 0 {
				say(notes.Note{Kind: notes.Bad, Pack: p.id, Bits: p.bad})
			}
			if p.lost {
				say(notes.Note{Kind: notes.Lost, Pack: p.id, On: true})
			}
		}
		for _, d := range s.doomed {
			say(notes.Note{Kind: notes.Doomed, Pack: d.Pack, Time: d.Since})
		}
		for n, at := range s.seen {
			say(notes.Note{Kind: notes.Seen, Number: n, Time: at})
		}
		for name, keep := range s.pending {
			say(notes.Note{Kind: notes.File, Name: name, On: keep})
		}
	}
}

// rewriteFrom is the size from which the journal is written anew.
const rewriteFrom = 8 << 20

// tidy keeps the journal small.
func (s *Store) tidy() error {
	if s.journal.Size() < rewriteFrom {
		return s.journal.Sync()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.mu.RLock()
	defer s.table.mu.RUnlock()
	return s.journal.Rewrite(notes.Encoded(s.notes()))
}
