package cloud

import (
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// The kinds of note.
const (
	noteNumber = "number" // a pack was given a number
	noteDead   = "dead"   // entries of a pack are condemned
	noteDoomed = "doomed" // a pack is to be buried by the next root
	noteSeen   = "seen"   // a local pack was first seen
	noteLost   = "lost"   // the bucket has not what it should have, or has it again
	noteFile   = "file"   // a file waits for the next root
	noteFiled  = "filed"  // a root names what waited
)

// A note is a record of the store's journal: what the bucket does not know. If
// the journal is lost, condemned chunks live again until the next collection.
type note struct {
	Kind   string    `json:"k"`
	Pack   format.ID `json:"p,omitzero"`
	Number uint32    `json:"n,omitempty"`
	Bits   []uint64  `json:"b,omitempty"`
	Time   time.Time `json:"t,omitzero"`
	Name   string    `json:"f,omitempty"`
	On     bool      `json:"o,omitempty"`
}

// note appends a record. It is durable after the journal's next Sync.
func (s *Store) note(n note) {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err) // a note is plain data
	}
	s.journal.Append(b)
}

// memory is what the notes of a journal add up to.
type memory struct {
	numbers map[format.ID]uint32
	next    uint32
	dead    map[format.ID][]uint64
	doomed  map[format.ID]time.Time
	seen    map[uint32]time.Time
	lost    map[format.ID]bool
	files   map[string]bool
}

func newMemory() *memory {
	return &memory{
		numbers: map[format.ID]uint32{}, dead: map[format.ID][]uint64{}, doomed: map[format.ID]time.Time{},
		seen: map[uint32]time.Time{}, lost: map[format.ID]bool{}, files: map[string]bool{},
	}
}

// apply replays one record. Records of other programs are skipped.
func (m *memory) apply(record []byte) error {
	var n note
	if err := json.Unmarshal(record, &n); err != nil {
		return fmt.Errorf("a note of the cloud store: %w", err)
	}
	switch n.Kind {
	case noteNumber:
		m.numbers[n.Pack] = n.Number
		m.next = max(m.next, n.Number+1)
	case noteDead:
		m.dead[n.Pack] = n.Bits
	case noteDoomed:
		m.doomed[n.Pack] = n.Time
	case noteSeen:
		m.seen[n.Number] = n.Time
	case noteLost:
		m.lost[n.Pack] = n.On
	case noteFile:
		m.files[n.Name] = n.On
	case noteFiled:
		delete(m.files, n.Name)
	}
	return nil
}

// notes yields what the journal must say now. The caller holds mu and work.
func (s *Store) notes() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		say := func(n note) bool {
			b, err := json.Marshal(n)
			return err == nil && yield(b)
		}
		ok := true
		for id, n := range s.table.numbers {
			if s.table.packs[n] != nil || n+1 == s.table.next {
				ok = ok && say(note{Kind: noteNumber, Pack: id, Number: n})
			}
		}
		for _, p := range s.table.packs {
			if len(p.dead) > 0 {
				ok = ok && say(note{Kind: noteDead, Pack: p.id, Bits: p.dead})
			}
			if p.lost {
				ok = ok && say(note{Kind: noteLost, Pack: p.id, On: true})
			}
		}
		for _, d := range s.doomed {
			ok = ok && say(note{Kind: noteDoomed, Pack: d.Pack, Time: d.Since})
		}
		for n, at := range s.seen {
			ok = ok && say(note{Kind: noteSeen, Number: n, Time: at})
		}
		for name, keep := range s.pending {
			ok = ok && say(note{Kind: noteFile, Name: name, On: keep})
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
	return s.journal.Rewrite(s.notes())
}
