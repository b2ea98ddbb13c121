package logstore

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	bolt "go.etcd.io/bbolt"
)

// FirstIndex returns the index of the oldest entry, 0 if there is none.
func (s *Store) FirstIndex() (uint64, error) { return s.edge((*bolt.Cursor).First) }

// LastIndex returns the index of the newest entry, 0 if there is none.
func (s *Store) LastIndex() (uint64, error) { return s.edge((*bolt.Cursor).Last) }

func (s *Store) edge(seek func(*bolt.Cursor) ([]byte, []byte)) (index uint64, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		k, _ := seek(tx.Bucket(logBucket).Cursor())
		if k != nil {
			index, err = number(k)
		}
		return err
	})
	return index, err
}

// GetLog reads one entry; [raft.ErrLogNotFound] if it is not there.
func (s *Store) GetLog(index uint64, log *raft.Log) error {
	return s.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(logBucket).Get(key(index))
		if v == nil {
			return raft.ErrLogNotFound
		}
		if err := decode(index, v, log); err != nil {
			return fmt.Errorf("read entry %d of %s: %w", index, s, damaged(err))
		}
		return nil
	})
}

// StoreLog is [Store.StoreLogs] with one entry.
func (s *Store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs appends entries, and writes the staged commit index with them:
// after a crash both are there or neither is.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	commit := max(s.commit.Load(), s.staged.Load())
	err := s.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(logBucket)
		b.FillPercent = 1 // entries only come behind
		for _, l := range logs {
			if err := appendable(b, l.Index); err != nil {
				return err
			}
			record, err := encode(l)
			if err != nil {
				return err
			}
			if err := b.Put(key(l.Index), record); err != nil {
				return err
			}
		}
		commit = min(commit, logs[len(logs)-1].Index)
		return tx.Bucket(metaBucket).Put(commitKey, key(commit))
	})
	if err != nil {
		return fmt.Errorf("append to %s: %w", s, err)
	}
	s.commit.Store(commit)
	return nil
}

// appendable refuses a hole in the log and a second entry of the same index;
// Raft removes conflicting entries first.
func appendable(b *bolt.Bucket, index uint64) error {
	k, _ := b.Cursor().Last()
	if k == nil {
		return nil
	}
	if last, err := number(k); err != nil || index != last+1 {
		return errors.Join(err, fmt.Errorf("entry %d cannot follow entry %d", index, last))
	}
	return nil
}

// DeleteRange removes the entries from low to high, both included.
func (s *Store) DeleteRange(low, high uint64) error {
	err := s.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(logBucket)
		var gone [][]byte // a cursor may lose its place when it deletes
		c := b.Cursor()
		for k, _ := c.Seek(key(low)); k != nil; k, _ = c.Next() {
			if index, err := number(k); err != nil || index > high {
				break
			}
			gone = append(gone, k)
		}
		for _, k := range gone {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove entries %d to %d of %s: %w", low, high, s, err)
	}
	return nil
}

// IsMonotonic tells Raft that the log has no holes.
func (s *Store) IsMonotonic() bool { return true }

// StageCommitIndex remembers a commit index for the next [Store.StoreLogs].
func (s *Store) StageCommitIndex(index uint64) error {
	s.staged.Store(index)
	return nil
}

// Applied makes index durable as committed, without waiting for the next
// entry. It is for entries that were applied, which Raft never takes back.
func (s *Store) Applied(index uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index <= s.commit.Load() {
		return nil
	}
	err := s.update(func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(commitKey, key(index)) })
	if err != nil {
		return fmt.Errorf("note commit index %d in %s: %w", index, s, err)
	}
	s.commit.Store(index)
	return nil
}

// GetCommitIndex returns the newest commit index that is durable, never more
// than the last index of the log; 0 if none is known.
func (s *Store) GetCommitIndex() (uint64, error) {
	last, err := s.LastIndex()
	return min(s.commit.Load(), last), err
}

// Set stores a value beside the log.
func (s *Store) Set(k, v []byte) error {
	err := s.update(func(tx *bolt.Tx) error { return tx.Bucket(stableBucket).Put(k, v) })
	if err != nil {
		return fmt.Errorf("write %q to %s: %w", k, s, err)
	}
	return nil
}

// Get returns a value that Set stored; the error is "not found" if it did not.
func (s *Store) Get(k []byte) (v []byte, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		found := tx.Bucket(stableBucket).Get(k)
		if found == nil {
			return errNotFound
		}
		v = append([]byte{}, found...)
		return nil
	})
	return v, err
}

// SetUint64 is Set for a number.
func (s *Store) SetUint64(k []byte, v uint64) error { return s.Set(k, key(v)) }

// GetUint64 is Get for a number.
func (s *Store) GetUint64(k []byte) (uint64, error) {
	v, err := s.Get(k)
	if err != nil {
		return 0, err
	}
	return number(v)
}
