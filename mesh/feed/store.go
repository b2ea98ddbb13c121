package feed

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// A Store keeps feeds in one file: this node's own and those that it pulled
// from others. One process has it open; its methods may be called
// concurrently.
type Store struct {
	db   *bolt.DB
	path string
}

// Open opens the file, or makes it.
func Open(path string) (*Store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if errors.Is(err, bolterrors.ErrTimeout) {
		err = errors.New("another process has it open")
	}
	if errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrChecksum) || errors.Is(err, bolterrors.ErrVersionMismatch) {
		err = &DamagedError{err}
	}
	if err != nil {
		return nil, fmt.Errorf("open feeds %s: %w", path, err)
	}
	return &Store{db, path}, nil
}

// A DamagedError says that a file is none of feeds, or not any more.
type DamagedError struct{ Err error }

func (e *DamagedError) Error() string { return "the file is damaged: " + e.Err.Error() }
func (e *DamagedError) Unwrap() error { return e.Err }

func (s *Store) String() string { return "feeds " + s.path }

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// place is the key of a record: the order of places is that of heads.
func place(epoch, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, epoch), seq)
}

// Append signs and stores the next records of this node's own feed, all or
// none, and returns where it ends when they are durable.
func (s *Store) Append(key ed25519.PrivateKey, at time.Time, records ...Statement) (Head, error) {
	return s.append(key, at, records, 0)
}

// NewEpoch begins a new epoch of this node's own feed with records behind the
// newest that is here. It is for a node that finds itself behind what others
// have of it; known is the newest head that they have.
func (s *Store) NewEpoch(key ed25519.PrivateKey, at time.Time, known Head, records ...Statement) (Head, error) {
	return s.append(key, at, records, known.Epoch+1)
}

func (s *Store) append(key ed25519.PrivateKey, at time.Time, records []Statement, epoch uint64) (h Head, err error) {
	o := OriginOf(key)
	err = s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(o[:])
		if err != nil {
			return err
		}
		if h, err = head(o, b); err != nil {
			return err
		}
		for _, st := range records {
			if len(st.Data) > MaxData {
				return fmt.Errorf("a record of %d bytes, want at most %d", len(st.Data), MaxData)
			}
			r := Record{Epoch: max(h.Epoch, epoch, 1), Seq: h.Seq + 1, At: time.UnixMilli(at.UnixMilli()), Prev: h.Hash, Kind: st.Kind, Data: st.Data}
			r.sign(key)
			if err := b.Put(place(r.Epoch, r.Seq), r.Bytes()); err != nil {
				return err
			}
			h = Head{r.Epoch, r.Seq, r.Hash(o)}
		}
		return nil
	})
	if err != nil {
		return Head{}, fmt.Errorf("append to %s: %w", s, err)
	}
	return h, nil
}

// head is where a stored feed ends.
func head(o Origin, b *bolt.Bucket) (Head, error) {
	_, v := b.Cursor().Last()
	if v == nil {
		return Head{}, nil
	}
	r, err := Read(v)
	return Head{r.Epoch, r.Seq, r.Hash(o)}, err
}

// stored reads a record of a bucket and tells whether its hash is this one. The
// signature of one that is in the way is checked: a disk that has flipped a bit
// is no proof against whoever has signed it.
func stored(o Origin, v []byte, hash [32]byte) (r Record, same bool, err error) {
	if r, err = Read(v); err == nil && r.Hash(o) != hash {
		r, err = Parse(o, v)
		return r, false, err
	}
	return r, err == nil, err
}

// Head returns where the feed of a node ends here; zero if there is nothing.
func (s *Store) Head(o Origin) (h Head, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(o[:])
		if b == nil {
			return nil
		}
		h, err = head(o, b)
		return err
	})
	if err != nil {
		err = fmt.Errorf("read %s: %w", s, err)
	}
	return h, err
}

// Origins returns the nodes of whom something is here.
func (s *Store) Origins() (all []Origin, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, _ *bolt.Bucket) error {
			if len(name) == len(Origin{}) {
				all = append(all, Origin(name))
			}
			return nil
		})
	})
	return all, err
}

// After returns records of a feed behind a place, oldest first, at most n of
// them and at most so many bytes, but one at least if there is one.
func (s *Store) After(o Origin, epoch, seq uint64, n, size int) (records [][]byte, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(o[:])
		if b == nil {
			return nil
		}
		from := place(epoch, seq)
		c := b.Cursor()
		for k, v := c.Seek(from); k != nil && len(records) < n; k, v = c.Next() {
			if bytes.Equal(k, from) {
				continue
			}
			if size -= len(v); size < 0 && len(records) > 0 {
				break
			}
			records = append(records, bytes.Clone(v))
		}
		return nil
	})
	return records, err
}

// Take stores records of a feed that somebody has given us, oldest first: all
// of them, or none if one is not valid. Those that are here already are
// skipped. A [*Fork] is returned if the node has signed something else before.
func (s *Store) Take(o Origin, records [][]byte) (added int, err error) {
	err = s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(o[:])
		if err != nil {
			return err
		}
		for _, bytes := range records {
			r, err := Parse(o, bytes)
			if err != nil {
				return err
			}
			fresh, err := fits(o, b, r)
			if err != nil {
				return err
			}
			if fresh {
				added++
				if err := b.Put(place(r.Epoch, r.Seq), bytes); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("take records into %s: %w", s, err)
	}
	return added, nil
}

// fits tells whether r is new and stands where it may.
func fits(o Origin, b *bolt.Bucket, r Record) (fresh bool, err error) {
	if v := b.Get(place(r.Epoch, r.Seq)); v != nil {
		ours, same, err := stored(o, v, r.Hash(o))
		if err == nil && !same {
			err = &Fork{o, ours, r}
		}
		return false, err
	}
	h, err := head(o, b)
	switch {
	case err != nil:
		return false, err
	case r.Epoch == h.Epoch && r.Seq == h.Seq+1 && r.Prev == h.Hash:
		return true, nil
	case r.Epoch == h.Epoch && r.Seq == h.Seq+1:
		_, v := b.Cursor().Last()
		ours, err := Parse(o, v)
		if err == nil {
			err = &Fork{o, ours, r}
		}
		return false, err
	case isBase(r) && (r.Epoch > h.Epoch || r.Epoch == h.Epoch && r.Seq > h.Seq+1):
		return true, nil // what is between was left out by the origin itself
	case r.Epoch <= h.Epoch:
		return false, invalid("record %d.%d does not stand behind %d.%d", r.Epoch, r.Seq, h.Epoch, h.Seq)
	}
	return opens(o, b, r)
}

// opens tells whether r is the first of a new epoch: behind a record of an
// earlier one that is here, or the first of all.
func opens(o Origin, b *bolt.Bucket, r Record) (bool, error) {
	if r.Seq == 1 && r.Prev == [32]byte{} {
		return true, nil
	}
	c := b.Cursor()
	for k, v := c.Last(); k != nil; k, v = c.Prev() {
		if binary.BigEndian.Uint64(k[8:]) != r.Seq-1 {
			continue
		}
		if before, err := Read(v); err != nil || before.Hash(o) == r.Prev {
			return err == nil, err
		}
	}
	return false, invalid("record %d.%d begins an epoch behind a record that is not here", r.Epoch, r.Seq)
}

// Check compares a head that somebody else has of a feed with what is here. It
// returns [ErrForked] if both cannot be of one feed, and behind if the other
// one is later than ours.
func (s *Store) Check(o Origin, theirs Head) (behind bool, err error) {
	ours, err := s.Head(o)
	if err != nil {
		return false, err
	}
	err = s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(o[:])
		if b == nil {
			return nil
		}
		if v := b.Get(place(theirs.Epoch, theirs.Seq)); v != nil {
			_, same, err := stored(o, v, theirs.Hash)
			if err == nil && !same {
				err = fmt.Errorf("%w: at %d.%d", ErrForked, theirs.Epoch, theirs.Seq)
			}
			return err
		}
		if theirs.Epoch == ours.Epoch && theirs.Seq < ours.Seq {
			return passed(o, b, theirs)
		}
		return nil
	})
	return ours.Before(theirs), err
}

// passed tells whether the feed in b, which is longer, has gone through a head
// of the same epoch that is not here; nil also if that was left out.
func passed(o Origin, b *bolt.Bucket, h Head) error {
	k, v := b.Cursor().Seek(place(h.Epoch, h.Seq))
	next, err := Parse(o, v)
	if err != nil {
		return err
	}
	if bytes.Equal(k, place(h.Epoch, h.Seq+1)) && next.Prev == h.Hash || isBase(next) && next.Seq > h.Seq+1 {
		return nil
	}
	if first, _ := b.Cursor().First(); bytes.Equal(first, k) && next.Seq > h.Seq+1 {
		return nil
	}
	return fmt.Errorf("%w: %d.%d is not here, and %d.%d is", ErrForked, h.Epoch, h.Seq, next.Epoch, next.Seq)
}

// ErrForked says that two heads of a feed contradict each other. The records
// behind them are the proof.
var ErrForked = errors.New("a node shows two histories")
