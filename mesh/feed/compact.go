package feed

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// KindBase is the kind of a record with which a node says anew all that still
// holds: its data is the number of records that follow it and say so, u32 big
// endian. What is before it need not be kept, nor pulled by who comes later.
const KindBase uint16 = 0xffff

// maxBase bounds how many records a base has behind it.
const maxBase = 1 << 16

func isBase(r Record) bool {
	n, ok := BaseLength(r)
	return ok && n <= maxBase
}

// BaseLength returns how many records belong to a base; false if r begins none.
func BaseLength(r Record) (n uint32, ok bool) {
	if r.Kind != KindBase || len(r.Data) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(r.Data), true
}

// Rebase appends a base to this node's own feed: the records say all that
// still holds. Either all of it is stored or nothing; it returns the new head.
func (s *Store) Rebase(key ed25519.PrivateKey, at time.Time, records []Statement) (Head, error) {
	all, err := Base(records)
	if err != nil {
		return Head{}, err
	}
	return s.append(key, at, all, 0)
}

// Base returns a base and the records that belong to it.
func Base(records []Statement) ([]Statement, error) {
	if len(records) > maxBase {
		return nil, fmt.Errorf("a base of %d records, want at most %d", len(records), maxBase)
	}
	base := Statement{KindBase, binary.BigEndian.AppendUint32(nil, uint32(len(records)))}
	return append([]Statement{base}, records...), nil
}

// A Statement is what a record says, before it is one.
type Statement struct {
	Kind uint16
	Data []byte
}

// Compact deletes what is before the newest base of a feed that is here as a
// whole, and returns how many records that were.
func (s *Store) Compact(o Origin) (deleted int, err error) {
	err = s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(o[:])
		if b == nil {
			return nil
		}
		base, err := newestBase(o, b)
		if err != nil || base == nil {
			return err
		}
		c := b.Cursor()
		for k, _ := c.First(); k != nil && bytes.Compare(k, base) < 0; k, _ = c.First() {
			if err := c.Delete(); err != nil {
				return err
			}
			deleted++
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("compact %s: %w", s, err)
	}
	return deleted, nil
}

// newestBase returns the place of the newest base that is here as a whole.
func newestBase(o Origin, b *bolt.Bucket) ([]byte, error) {
	var behind uint32 // records of the same epoch behind the cursor
	var epoch uint64
	c := b.Cursor()
	for k, v := c.Last(); k != nil; k, v = c.Prev() {
		if e := binary.BigEndian.Uint64(k); e != epoch {
			epoch, behind = e, 0
		}
		if len(v) >= recordHead && binary.BigEndian.Uint16(v[57:]) == KindBase {
			r, err := Parse(o, v)
			if err != nil {
				return nil, err
			}
			if n, ok := BaseLength(r); ok && n <= behind {
				return bytes.Clone(k), nil
			}
		}
		behind++
	}
	return nil, nil
}
