// Package brittle is the log of one life of Raft, which ends with the first thing
// that must not be: a write that fails, or a leader that takes back what was
// agreed on (consensus notes §1.4).
package brittle

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ErrDisk ends a life whose stores cannot be written.
var ErrDisk = errors.New("the disk of the ledger fails")

// A Log is what [Store] wraps.
type Log interface {
	raft.CommitTrackingLogStore
	raft.StableStore
	Applied(index uint64) error
}

// A TakenBackError ends a life whose leader does not have entries that this node
// knew to be agreed on. Raft would replace them, and the machine would keep what
// they have done: from then on its state would be another one than everybody's.
// From is 0 if it is not known where this node's history left that of the others.
type TakenBackError struct{ From, To uint64 }

func (e *TakenBackError) Error() string {
	if e.From == 0 {
		return fmt.Sprintf("the ledger of this node, up to entry %d, is of another time than that of its cluster", e.To)
	}
	return fmt.Sprintf("entries %d to %d, which were agreed on, are not those of the leader", e.From, e.To)
}

// Departs makes it a [Departure].
func (e *TakenBackError) Departs() (from, to uint64) { return e.From, e.To }

// A Store ends the life of its Raft with the first write that fails. raft
// panics if it cannot store its term, which would take the backups of this site
// down with it. So that one write seems to succeed, after the life was told to
// end; from then on every other write fails, and without writes raft grants no
// vote and confirms no entry.
type Store struct {
	Log
	Failed chan error // gets the first failure

	ending   chan struct{} // closed when raft was told to end
	patience time.Duration

	mu        sync.Mutex
	err       error
	committed uint64 // index of the newest entry that was agreed on
	installed bool   // a snapshot of the leader has just taken the place of the log
}

// New returns a store for one life. Raft is told to end by then, or is still being
// made.
func New(log Log, patience time.Duration) (*Store, error) {
	committed, err := log.GetCommitIndex()
	return &Store{Log: log, Failed: make(chan error, 1), ending: make(chan struct{}), patience: patience, committed: committed}, err
}

// End says that raft was told to end.
func (s *Store) End() { close(s.ending) }

// Installed says that a snapshot of the leader has taken the place of all that was
// here; the log is emptied next, if there is one.
func (s *Store) Installed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.installed = true
}

// Refuse ends the life for a reason of the caller's, unless it ends already.
func (s *Store) Refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.Failed <- err
	}
}

// try writes, unless a write has failed before.
func (s *Store) try(write func() error) error {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err = write(); err == nil {
		return nil
	}
	if taken := new(TakenBackError); !errors.As(err, &taken) {
		err = fmt.Errorf("%w: %w", ErrDisk, err)
	}
	s.Refuse(err)
	return err
}

// SetUint64 stores the term.
func (s *Store) SetUint64(k []byte, v uint64) error {
	if err := s.try(func() error { return s.Log.SetUint64(k, v) }); err != nil {
		select {
		case <-s.ending:
		case <-time.After(s.patience): // raft is still being made
		}
	}
	return nil
}

// Set stores a value, such as a vote.
func (s *Store) Set(k, v []byte) error { return s.try(func() error { return s.Log.Set(k, v) }) }

// StoreLog stores an entry.
func (s *Store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores entries.
func (s *Store) StoreLogs(l []*raft.Log) error {
	return s.try(func() error {
		s.mu.Lock()
		s.installed = false
		s.mu.Unlock()
		return s.Log.StoreLogs(l)
	})
}

// DeleteRange removes entries that a snapshot has, or that the leader does not
// have; not those that were agreed on.
func (s *Store) DeleteRange(low, high uint64) error {
	return s.try(func() error {
		if err := s.mayDelete(low, high); err != nil {
			return err
		}
		return s.Log.DeleteRange(low, high)
	})
}

func (s *Store) mayDelete(low, high uint64) error {
	last, err := s.LastIndex()
	if err != nil || high < last {
		return err // the beginning of the log, which a snapshot has
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.installed && low <= s.committed {
		return &TakenBackError{low, s.committed}
	}
	s.installed, s.committed = false, min(s.committed, low-1)
	return nil
}

// fits says whether a snapshot that ends with an entry of a term may be of the history
// that was agreed on here. The entry at its end is not there if the log was shortened.
func (s *Store) fits(index, term uint64) error {
	s.mu.Lock()
	committed := s.committed
	s.mu.Unlock()
	var l raft.Log
	if index > committed || s.GetLog(index, &l) != nil || l.Term == term {
		return nil
	}
	return &TakenBackError{index, committed}
}

// Applied notes that an entry was agreed on.
func (s *Store) Applied(index uint64) error {
	return s.try(func() error {
		s.mu.Lock()
		s.committed = max(s.committed, index)
		s.mu.Unlock()
		return s.Log.Applied(index)
	})
}

// IsMonotonic tells raft that the log has no holes, as every store here has none.
func (s *Store) IsMonotonic() bool { return true }
