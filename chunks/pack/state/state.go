package state

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// journalSlack is how far the journal may grow beyond its content before it is
// written anew.
const journalSlack = 1 << 20

// A State is the journal and what it is about. Its methods may be called
// concurrently, except Adopt, which comes first.
type State struct {
	SetAside string // the name under which a damaged journal was put aside; "" for none
	Lost     bool   // what was noted before is not all there: only the packs themselves can tell

	*Table

	journal *disk.Journal
	base    atomic.Int64 // length of the journal that is not worth shortening
	epoch   atomic.Uint64
	read    *replay

	mu sync.Mutex

	dropped map[uint32]format.ID // packs whose files, or rows in the last durable table, may still be there
	removed map[uint32]format.ID // those of dropped whose files are gone for good
	loaded  bool                 // a store was once loaded whole with this journal
}

// Open replays the journal in the file name. One that is damaged is set aside
// under another name and a new one begun; the package's comment says why that
// is safe.
func Open(fsys disk.FS, name string, log *slog.Logger) (*State, error) {
	s := &State{Table: &Table{}, read: newReplay()}
	j, err := disk.OpenJournal(fsys, name, s.read.apply)
	if damaged := (*disk.JournalError)(nil); errors.As(err, &damaged) {
		s.SetAside = fmt.Sprintf("%s.damaged-%d", name, time.Now().UnixNano())
		log.Error("state journal is damaged; set aside", "as", s.SetAside, "err", err)
		if err := fsys.Rename(name, s.SetAside); err != nil {
			return nil, fmt.Errorf("set damaged journal aside: %w", err)
		}
		s.read = newReplay()
		j, err = disk.OpenJournal(fsys, name, s.read.apply)
	}
	if err != nil {
		return nil, fmt.Errorf("open state journal: %w", err)
	}
	s.journal, s.dropped, s.loaded, s.Lost = j, s.read.dropped, s.read.loaded, !s.read.loaded
	s.epoch.Store(max(s.read.epoch, 1))
	s.base.Store(j.Size())
	return s, nil
}

// Adopt makes t the list of packs, and gives them what the journal says.
func (s *State) Adopt(t *Table) {
	s.Table = t
	t.Reserve(s.read.next)
	for _, p := range t.All() {
		s.Replay(p)
	}
}

// Replay gives p what the journal, as it was at start, says of it.
func (s *State) Replay(p *Pack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.committed.Store(s.read.committed[p.Number])
	e := s.read.packs[p.Number]
	if e == nil {
		return
	}
	if e.dead != nil {
		p.dead.Store(p.dead.Load().With(*e.dead))
	}
	if e.bad != nil {
		p.bad.Store(p.bad.Load().With(*e.bad))
	}
	if e.gone != nil {
		p.gone.Store(p.gone.Load().With(*e.gone))
	}
}

// CommittedAtStart returns up to which offset the journal, as it was at start,
// knows the pack to be durable. It may have been durable further.
func (s *State) CommittedAtStart(number uint32) int64 { return s.read.committed[number] }

// Loaded is called when a store has opened. It notes that from here on the
// journal knows everything, and frees what was needed until now. If it fails,
// the next start looks at everything again.
func (s *State) Loaded() error {
	for _, p := range s.All() { // in case the journal was lost
		s.epoch.Store(max(s.epoch.Load(), p.Epoch))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = newReplay()
	if s.loaded {
		return nil
	}
	s.loaded = true
	s.journal.Append(record(recLoaded))
	return s.journal.Sync()
}

// Close makes the journal durable and closes it.
func (s *State) Close() error { return s.journal.Close() }

// Epoch returns the epoch that new entries belong to.
func (s *State) Epoch() uint64 { return s.epoch.Load() }

// NextEpoch begins an epoch; it is durable after the next Sync.
func (s *State) NextEpoch() uint64 {
	epoch := s.epoch.Add(1)
	s.journal.Append(record(recEpoch, epoch))
	return epoch
}

// Committed notes that a pack is durable up to an offset. The note itself is
// handed to the file system and no more: it tells damage from a torn tail
// after a crash, and nothing depends on it.
func (s *State) Committed(p *Pack, offset int64) {
	if p.committed.Swap(offset) != offset {
		s.journal.Append(record(recCommitted, uint64(p.Number), uint64(offset)))
	}
}

// Flush hands what was noted to the file system.
func (s *State) Flush() error { return s.journal.Flush() }

// Sync makes everything noted before durable.
func (s *State) Sync() error { return s.journal.Sync() }

// Condemn makes the entries of set dead and returns how many of them were not
// before.
func (s *State) Condemn(set *Set) (condemned int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for number, words := range set.Rows() {
		p := s.At(number)
		if p == nil {
			continue
		}
		fresh, n := p.dead.Load().lacks(words)
		if n == 0 {
			continue
		}
		condemned += n
		p.dead.Store(p.dead.Load().With(fresh))
		s.journal.Append(condemnRecord(number, fresh))
	}
	return condemned
}

// Bury makes entries of p dead of which nothing is left to reclaim.
func (s *State) Bury(p *Pack, words []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.dead.Store(p.dead.Load().With(words))
	p.gone.Store(p.gone.Load().With(words))
	s.journal.Append(condemnRecord(p.Number, words))
	if slices.Equal(*p.gone.Load(), *p.dead.Load()) { // else a later reclaim will say so
		s.journal.Append(record(recReclaimed, uint64(p.Number)))
	}
}

// SetEntries notes how many ordinals p has given out, and that those of which
// there is no row never will have an entry.
func (s *State) SetEntries(p *Pack, rows []format.Row) {
	n := uint32(0)
	for _, r := range rows {
		n = max(n, r.Ordinal+1)
	}
	p.Entries.Store(n)
	if int(n) == len(rows) {
		return
	}
	there := Ordinals(rows)
	never := make([]uint64, len(there))
	for i := range never {
		never[i] = ^there[i]
	}
	never[n>>6] &= 1<<(n&63) - 1
	s.Bury(p, never)
}

// Reclaimed notes that the space of the dead entries of p, as they were when
// its reclaiming began, was given back.
func (s *State) Reclaimed(p *Pack, dead *Bitmap) {
	if dead == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.gone.Store(p.gone.Load().With(*dead))
	s.journal.Append(record(recReclaimed, uint64(p.Number)))
}

// Condemned returns the entries that are dead and not given back.
func (s *State) Condemned() *Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := &Set{}
	for _, p := range s.All() {
		if dead := p.dead.Load(); dead != nil {
			set.OrRow(p.Number, *dead)
			set.AndNotRow(p.Number, p.gone.Load().Words())
		}
	}
	return set
}

// Waiting returns how many of the ordinals are dead and not given back.
func (s *State) Waiting(p *Pack, dead *Bitmap, ordinals iter.Seq[uint32]) (n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := range ordinals {
		if dead.Has(o) && !p.gone.Load().Has(o) {
			n++
		}
	}
	return n
}

// Quarantine denies entries of p because they are damaged.
func (s *State) Quarantine(p *Pack, words []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.bad.Store(p.bad.Load().With(words))
	for r := range RowEntries(p.Number, words) {
		s.journal.Append(record(recBad, uint64(p.Number), uint64(r.Entry)))
	}
}

// Absolve ends the quarantine of entries of p.
func (s *State) Absolve(p *Pack, words []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range RowEntries(p.Number, words) {
		p.bad.Store(p.bad.Load().without(r.Entry))
		s.journal.Append(record(recGood, uint64(p.Number), uint64(r.Entry)))
	}
}

// Rewrite writes the journal anew from what is known in memory.
func (s *State) Rewrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.Rewrite(s.records())
}

// Trim writes the journal anew once it is mostly history.
func (s *State) Trim() error {
	if s.journal.Size() < s.base.Load()+journalSlack {
		return nil
	}
	err := s.Rewrite()
	s.base.Store(2 * s.journal.Size())
	return err
}

// records says everything that the journal must say, once.
func (s *State) records() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		recs := [][]byte{record(recEpoch, s.epoch.Load()), record(recNext, uint64(s.Reserve(0)))}
		if s.loaded {
			recs = append(recs, record(recLoaded))
		}
		for number, id := range s.dropped {
			recs = append(recs, append(record(recDropped, uint64(number)), id[:]...))
		}
		for _, p := range s.All() {
			recs = append(recs, p.records()...)
		}
		for _, rec := range recs {
			if !yield(rec) {
				return
			}
		}
	}
}

func (p *Pack) records() (recs [][]byte) {
	if gone := p.gone.Load(); gone != nil {
		recs = append(recs, condemnRecord(p.Number, *gone), record(recReclaimed, uint64(p.Number)))
	}
	if dead := p.dead.Load(); dead != nil {
		recs = append(recs, condemnRecord(p.Number, *dead))
	}
	if n := p.committed.Load(); n > 0 && !p.Sealed.Load() {
		recs = append(recs, record(recCommitted, uint64(p.Number), uint64(n)))
	}
	if bad := p.bad.Load(); bad != nil {
		for r := range RowEntries(p.Number, *bad) {
			recs = append(recs, record(recBad, uint64(p.Number), uint64(r.Entry)))
		}
	}
	return recs
}
