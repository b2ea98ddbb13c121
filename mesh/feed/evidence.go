package feed

import (
	"encoding/binary"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// evidence is the bucket of proofs, by origin. Its name is no origin's.
var evidence = []byte("evidence")

// Bytes returns the proof as it is stored and sent: the length of the first
// record, u32 big endian, and both records.
func (f *Fork) Bytes() []byte {
	a := f.Ours.Bytes()
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(len(a))), a...), f.Theirs.Bytes()...)
}

// ParseFork reads a proof, and checks that it is one.
func ParseFork(o Origin, b []byte) (*Fork, error) {
	if len(b) < 4 {
		return nil, invalid("a proof of %d bytes", len(b))
	}
	n := uint64(binary.BigEndian.Uint32(b))
	if b = b[4:]; n > uint64(len(b)) {
		return nil, invalid("a record of %d bytes in a proof of %d", n, len(b))
	}
	ours, err := Parse(o, b[:n])
	if err != nil {
		return nil, err
	}
	theirs, err := Parse(o, b[n:])
	if err != nil {
		return nil, err
	}
	f := &Fork{o, ours, theirs}
	if !f.proves() {
		return nil, invalid("records %d.%d and %d.%d can both be in one feed", ours.Epoch, ours.Seq, theirs.Epoch, theirs.Seq)
	}
	return f, nil
}

// proves tells whether both records cannot be in one feed.
func (f *Fork) proves() bool {
	a, b := f.Ours, f.Theirs
	switch {
	case a.Epoch != b.Epoch:
		return false
	case a.Seq == b.Seq:
		return a.Hash(f.Origin) != b.Hash(f.Origin)
	case a.Seq+1 == b.Seq:
		return b.Prev != a.Hash(f.Origin)
	case b.Seq+1 == a.Seq:
		return a.Prev != b.Hash(f.Origin)
	}
	return false
}

// Keep stores a proof; the first of a node is enough. It tells whether it is
// the first.
func (s *Store) Keep(f *Fork) (first bool, err error) {
	if !f.proves() {
		return false, invalid("it proves nothing")
	}
	err = s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(evidence)
		if err != nil || b.Get(f.Origin[:]) != nil {
			return err
		}
		first = true
		return b.Put(f.Origin[:], f.Bytes())
	})
	if err != nil {
		return false, fmt.Errorf("keep a proof in %s: %w", s, err)
	}
	return first, nil
}

// Forks returns the proofs that are here.
func (s *Store) Forks() (all []*Fork, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(evidence)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			if len(k) != len(Origin{}) {
				return errors.New("a proof of nobody")
			}
			f, err := ParseFork(Origin(k), v)
			if err == nil {
				all = append(all, f)
			}
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read proofs in %s: %w", s, err)
	}
	return all, nil
}
