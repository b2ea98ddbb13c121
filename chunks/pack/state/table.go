package state

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

var le = binary.LittleEndian

// A Table holds the packs of a store by number. Reading takes no lock.
type Table struct {
	Ident string // as decoded: of the directory that the table was written in

	rows atomic.Pointer[[]*Pack]

	mu sync.Mutex

	next uint32 // the next number
}

// At returns the pack of a number, nil if there is none (any more).
func (t *Table) At(number uint32) *Pack {
	rows := t.rows.Load()
	if rows == nil || int64(number) >= int64(len(*rows)) {
		return nil
	}
	return (*rows)[number]
}

// All returns the packs by number.
func (t *Table) All() []*Pack {
	var all []*Pack
	if rows := t.rows.Load(); rows != nil {
		for _, p := range *rows {
			if p != nil {
				all = append(all, p)
			}
		}
	}
	return all
}

// Add puts p into the table: under its own number if it has one that is free,
// else under the next.
func (t *Table) Add(p *Pack, numbered bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !numbered || p.Number >= format.MaxNumber || t.At(p.Number) != nil {
		p.Number = t.next
	}
	t.next = max(t.next, p.Number+1)
	t.set(p.Number, p)
}

// Reserve makes sure that numbers below n are never given out, and returns the
// next one.
func (t *Table) Reserve(n uint32) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next = max(t.next, n)
	return t.next
}

// Drop forgets a pack; its number stays taken.
func (t *Table) Drop(number uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.At(number) != nil {
		t.set(number, nil)
	}
}

// set changes one row in a copy: readers keep the slice that they have.
func (t *Table) set(number uint32, p *Pack) {
	var old []*Pack
	if rows := t.rows.Load(); rows != nil {
		old = *rows
	}
	rows := make([]*Pack, max(len(old), int(number)+1))
	copy(rows, old)
	rows[number] = p
	t.rows.Store(&rows)
}

// A Coverage says what was in the index at one moment: everything of the packs
// below Next, but of those that were open only the entries before the one
// named.
type Coverage struct {
	Next uint32
	Open map[uint32]uint32
}

func (c Coverage) of(p *Pack) uint32 {
	if n, open := c.Open[p.Number]; open {
		return n
	}
	if p.Number >= c.Next {
		return 0
	}
	return p.Entries.Load()
}

// Rows of the table as the index keeps them, 48 bytes each:
//
//	0  number u32     8  id [16]      32  entries u32     40  size u64
//	4  flags u32     24  epoch u64    36  covered u32
const (
	tableHeadSize = 12
	tableRowSize  = 48
	rowSealed     = 1 << 0
	rowRetired    = 1 << 1
	rowMissing    = 1 << 2
)

// Encode returns the table for the index to keep: next number u32, number of
// rows u32, length of ident u32, ident, rows. The next number is slack higher
// than it is now.
func (t *Table) Encode(covered Coverage, ident string, slack uint32) []byte {
	all := t.All()
	b := make([]byte, tableHeadSize, tableHeadSize+len(ident)+len(all)*tableRowSize)
	le.PutUint32(b, t.Reserve(0)+slack)
	le.PutUint32(b[4:], uint32(len(all)))
	le.PutUint32(b[8:], uint32(len(ident)))
	b = append(b, ident...)
	for _, p := range all {
		var r [tableRowSize]byte
		flags := uint32(0)
		if p.Sealed.Load() {
			flags |= rowSealed
		}
		if p.Retired.Load() {
			flags |= rowRetired
		}
		if p.Missing.Load() {
			flags |= rowMissing
		}
		le.PutUint32(r[:], p.Number)
		le.PutUint32(r[4:], flags)
		copy(r[8:], p.ID[:])
		le.PutUint64(r[24:], p.Epoch)
		le.PutUint32(r[32:], p.Entries.Load())
		le.PutUint32(r[36:], covered.of(p))
		le.PutUint64(r[40:], uint64(p.Size.Load()))
		b = append(b, r[:]...)
	}
	return b
}

// DecodeTable reads what Encode wrote.
func DecodeTable(b []byte) (*Table, error) {
	t := &Table{}
	if len(b) == 0 {
		return t, nil
	}
	if len(b) < tableHeadSize || int64(len(b)) != tableHeadSize+int64(le.Uint32(b[8:]))+int64(le.Uint32(b[4:]))*tableRowSize {
		return nil, fmt.Errorf("pack table of %d bytes is damaged", len(b))
	}
	t.next, t.Ident = le.Uint32(b), string(b[tableHeadSize:tableHeadSize+le.Uint32(b[8:])])
	b = b[tableHeadSize+len(t.Ident):]
	if t.next > format.MaxNumber {
		return nil, fmt.Errorf("pack table is damaged: its next number is %d", t.next)
	}
	packs := make([]Pack, len(b)/tableRowSize) // one allocation: open must be quick
	rows := make([]*Pack, t.next)
	for i := range packs {
		r, p := b[i*tableRowSize:], &packs[i]
		p.Number, p.ID, p.Epoch = le.Uint32(r), format.ID(r[8:24]), le.Uint64(r[24:])
		p.Entries.Store(le.Uint32(r[32:]))
		p.Covered = le.Uint32(r[36:])
		p.Size.Store(int64(le.Uint64(r[40:])))
		p.Sealed.Store(le.Uint32(r[4:])&rowSealed != 0)
		p.Retired.Store(le.Uint32(r[4:])&rowRetired != 0)
		p.Missing.Store(le.Uint32(r[4:])&rowMissing != 0)
		if p.Number >= t.next || rows[p.Number] != nil || p.Entries.Load() > format.MaxEntries {
			return nil, fmt.Errorf("pack table is damaged at row %d", i)
		}
		rows[p.Number] = p
	}
	t.rows.Store(&rows)
	return t, nil
}
