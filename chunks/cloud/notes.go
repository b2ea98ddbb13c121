package cloud

import "github.com/holdfast-mesh/holdfast/chunks/cloud/notes"

// note appends a record. It is durable after the journal's next Sync.
func (s *Store) note(n notes.Note) { s.journal.Append(n.Encode()) }

// memory returns what the journal must say now. The caller holds mu, work, and
// the table's mu.
func (s *Store) memory() *notes.Memory {
	m := notes.New()
	m.Seen, m.Files = s.seen, s.files.All()
	for id, n := range s.table.numbers {
		if s.table.packs[n] != nil || n+1 == s.table.next {
			m.Numbers[id] = n
		}
	}
	for _, p := range s.table.packs {
		m.Dead[p.id], m.Bad[p.id], m.Lost[p.id] = p.dead, p.bad, p.lost
	}
	for _, d := range s.doomed {
		m.Doomed[d.Pack] = d.Since
	}
	return m
}

// tidy keeps the journal small.
func (s *Store) tidy() error {
	if s.journal.Size() < notes.RewriteFrom {
		return s.journal.Sync()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.mu.RLock()
	defer s.table.mu.RUnlock()
	return s.journal.Rewrite(s.memory().Records())
}
