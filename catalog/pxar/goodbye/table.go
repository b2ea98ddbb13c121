// Package goodbye builds, reads and searches the goodbye tables of pxar
// archives.
//
// Such a table stands behind the entries of a directory and has a record for
// each: the hash of its name, where it is and how long it is. The records lie
// in the order of a binary search tree, and one more at the very end says how
// long the table and the directory are, so that whoever knows where a directory
// ends finds an entry in it with one read or two. The section numbers in
// comments are those of our pxar notes.
package goodbye

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

const (
	// Type is the type of the item that holds a table (§1).
	Type = 0x2fec4fa642d5731d

	// HeaderSize is the length of an item's header in bytes: type and size.
	HeaderSize = 16

	// RecordSize is the length of a record in bytes: hash, offset and size of
	// an entry, little-endian (§4).
	RecordSize = 24

	// TailMark stands in place of the hash in the last record of a table.
	TailMark = 0xef5eed5b753e1555

	// MaxEntries bounds a directory: its table takes 384 MiB then. Official
	// clients refuse to go beyond one million unless told otherwise.
	MaxEntries = 16 << 20

	// maxCollisions bounds how many names of one hash a lookup reads. Two are
	// a wonder, more are an attack.
	maxCollisions = 16
)

// ErrFormat says that bytes are not the table they should be.
var ErrFormat = errors.New("malformed goodbye table")

func malformed(end int64, format string, args ...any) error {
	return fmt.Errorf("%w that ends at offset %d: %w", ErrFormat, end, fmt.Errorf(format, args...))
}

// A Record describes an entry of a directory.
type Record struct {
	Hash uint64 // of the name

	// Offset is the distance in bytes from the name of the entry to the table;
	// in the tail, from the start of the directory.
	Offset uint64

	// Size is the length of the entry in bytes; in split archives with that of
	// the content added, or not (§4). In the tail it is that of the table's
	// item.
	Size uint64
}

// ParseRecord reads the first [RecordSize] bytes of b.
func ParseRecord(b []byte) Record {
	_ = b[RecordSize-1]
	return Record{
		Hash:   binary.LittleEndian.Uint64(b),
		Offset: binary.LittleEndian.Uint64(b[8:]),
		Size:   binary.LittleEndian.Uint64(b[16:]),
	}
}

// SearchTree sorts records by hash and returns them in the order of a table: a
// complete binary search tree, the children of index i at 2i+1 and 2i+2. Equal
// hashes come in descending order of offset, which is that of the archive.
func SearchTree(records []Record) []Record {
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Hash, b.Hash), cmp.Compare(b.Offset, a.Offset))
	})
	tree := make([]Record, len(records))
	i := leftmost(0, len(records))
	for _, r := range records {
		tree[i] = r
		i = successor(i, len(records))
	}
	return tree
}

// leftmost returns the smallest index below i in a tree of n: i itself if it
// has no left child.
func leftmost(i, n int) int {
	for 2*i+1 < n {
		i = 2*i + 1
	}
	return i
}

// successor returns the index that follows i in order: the leftmost below its
// right child or, if there is none, the first ancestor that i is left of. Behind
// the last it returns 0, which nobody uses.
func successor(i, n int) int {
	if right := 2*i + 2; right < n {
		return leftmost(right, n)
	}
	for i > 0 && i%2 == 0 {
		i = (i - 1) / 2
	}
	return (i - 1) / 2
}

// A Table is a goodbye table, read back.
type Table struct {
	At    int64 // where its item begins
	Start int64 // where the directory begins, as the tail says

	records []byte // without the tail
}

// Len returns how many entries the directory has.
func (t *Table) Len() int { return len(t.records) / RecordSize }

func (t *Table) record(i int) Record { return ParseRecord(t.records[i*RecordSize:]) }

// Find returns the records that have the hash. Records in the order of the
// tree are found by descending; since some programs write them in another
// order, all are looked at if that finds nothing (§5).
func (t *Table) Find(hash uint64) ([]Record, error) {
	found := t.descend(hash)
	if len(found) == 0 {
		found = t.scan(hash)
	}
	if len(found) > maxCollisions {
		return nil, malformed(t.end(), "more than %d names have the hash %016x", maxCollisions, hash)
	}
	return found, nil
}

func (t *Table) end() int64 { return t.At + HeaderSize + int64(len(t.records)) + RecordSize }

// descend searches the tree, and below an equal hash both sides of it.
func (t *Table) descend(hash uint64) (found []Record) {
	todo := make([]int, 1, 8)
	for len(todo) > 0 && len(found) <= maxCollisions {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if i >= t.Len() {
			continue
		}
		r := t.record(i)
		if r.Hash == hash {
			found = append(found, r)
		}
		if hash >= r.Hash {
			todo = append(todo, 2*i+2)
		}
		if hash <= r.Hash {
			todo = append(todo, 2*i+1)
		}
	}
	return found
}

// scan looks at all records.
func (t *Table) scan(hash uint64) (found []Record) {
	for i := range t.Len() {
		if r := t.record(i); r.Hash == hash && len(found) <= maxCollisions {
			found = append(found, r)
		}
	}
	return found
}

// Position returns where the name of an entry begins, which is inside of the
// directory.
func (t *Table) Position(r Record) (int64, error) {
	if r.Offset == 0 || r.Offset >= uint64(t.At-t.Start) {
		return 0, malformed(t.end(), "an entry begins %d bytes in front of it", r.Offset)
	}
	return t.At - int64(r.Offset), nil
}

// Extent returns where an entry begins and where, if it is a directory, it
// ends. Both are inside of the directory.
func (t *Table) Extent(r Record) (start, end int64, err error) {
	if start, err = t.Position(r); err != nil {
		return 0, 0, err
	}
	if r.Size > uint64(t.At-start) {
		return 0, 0, malformed(t.end(), "the entry at %d has %d bytes and goes beyond its directory", start, r.Size)
	}
	return start, start + int64(r.Size), nil
}

// ByPosition returns the records in the order of the archive.
func (t *Table) ByPosition() []Record {
	all := make([]Record, t.Len())
	for i := range all {
		all[i] = t.record(i)
	}
	slices.SortFunc(all, func(a, b Record) int { return cmp.Compare(b.Offset, a.Offset) })
	return all
}
