package consensus

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// errDisk ends a life whose stores cannot be written.
var errDisk = errors.New("the disk of the ledger fails")

// A brittle store ends the life of its Raft with the first write that fails.
// raft panics if it cannot store its term, which would take the backups of
// this site down with it. So that one write seems to succeed, after the life
// was told to end; from then on every other write fails, and without writes
// raft grants no vote and confirms no entry.
type brittle struct {
	LogStore
	failed chan error    // gets the first failure
	ending chan struct{} // closed when raft was told to end

	mu  sync.Mutex
	err error
}

func newBrittle(s LogStore) *brittle {
	return &brittle{LogStore: s, failed: make(chan error, 1), ending: make(chan struct{})}
}

// try writes, unless a write has failed before.
func (s *brittle) try(write func() error) error {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err = write(); err == nil {
		return nil
	}
	err = fmt.Errorf("%w: %w", errDisk, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.failed <- err
	}
	return err
}

// SetUint64 stores the term.
func (s *brittle) SetUint64(k []byte, v uint64) error {
	if err := s.try(func() error { return s.LogStore.SetUint64(k, v) }); err != nil {
		select {
		case <-s.ending:
		case <-time.After(helloTimeout): // raft is still being made
		}
	}
	return nil
}

func (s *brittle) Set(k, v []byte) error { return s.try(func() error { return s.LogStore.Set(k, v) }) }

func (s *brittle) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *brittle) StoreLogs(l []*raft.Log) error {
	return s.try(func() error { return s.LogStore.StoreLogs(l) })
}

func (s *brittle) DeleteRange(low, high uint64) error {
	return s.try(func() error { return s.LogStore.DeleteRange(low, high) })
}

func (s *brittle) Applied(index uint64) error {
	return s.try(func() error { return s.LogStore.Applied(index) })
}

// IsMonotonic tells raft that the log has no holes, as every store here has none.
func (s *brittle) IsMonotonic() bool { return true }
