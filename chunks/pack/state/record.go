package state

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
)

// Kinds of records in the journal: a byte, then the numbers named as unsigned
// varints. Records of an unknown kind are passed over.
const (
	recEpoch     = 1 // epoch
	recCondemned = 2 // number, then words of 8 bytes: dead from now on
	recReclaimed = 3 // number: the space of all its dead entries was given back
	recDropped   = 4 // number, then the id: the file may be removed
	recBad       = 5 // number, entry: quarantined
	recGood      = 6 // number, entry: no longer
	recCommitted = 7 // number, offset: the pack is durable up to here
	recNext      = 8 // number: the next one to give out is not below
	recLoaded    = 9 // the journal is not the successor of one that was lost
)

func record(kind byte, numbers ...uint64) []byte {
	b := []byte{kind}
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func condemnRecord(number uint32, words []uint64) []byte {
	b := record(recCondemned, uint64(number))
	for _, w := range words {
		b = le.AppendUint64(b, w)
	}
	return b
}

// A replay is what the journal says, gathered at start.
type replay struct {
	epoch     uint64
	next      uint32
	packs     map[uint32]*entries
	dropped   map[uint32]format.ID
	committed map[uint32]int64
	loaded    bool
}

type entries struct{ dead, gone, bad *Bitmap }

func newReplay() *replay {
	return &replay{packs: map[uint32]*entries{}, dropped: map[uint32]format.ID{}, committed: map[uint32]int64{}}
}

func (r *replay) pack(number uint32) *entries {
	e := r.packs[number]
	if e == nil {
		e = &entries{}
		r.packs[number] = e
	}
	return e
}

var errShort = errors.New("record is cut short")

// apply takes one record in.
func (r *replay) apply(rec []byte) error {
	if len(rec) == 0 {
		return errShort
	}
	kind, b := rec[0], rec[1:]
	if kind == recLoaded {
		r.loaded = true
		return nil
	}
	if kind < recEpoch || kind > recNext {
		return nil
	}
	n, w := binary.Uvarint(b)
	if w <= 0 {
		return errShort
	}
	b = b[w:]
	if kind == recEpoch {
		r.epoch = max(r.epoch, n)
		return nil
	}
	if n >= format.MaxNumber {
		return fmt.Errorf("record of kind %d names pack %d", kind, n)
	}
	if kind == recNext {
		r.next = max(r.next, uint32(n))
		return nil
	}
	r.next = max(r.next, uint32(n)+1) // even if the pack itself was lost
	return r.applyTo(kind, uint32(n), b)
}

// applyTo takes in a record about one pack.
func (r *replay) applyTo(kind byte, number uint32, b []byte) error {
	switch kind {
	case recCondemned:
		words, err := decodeWords(b)
		if err != nil {
			return err
		}
		e := r.pack(number)
		e.dead = e.dead.With(words)
		return nil
	case recReclaimed:
		e := r.pack(number)
		e.gone = e.dead.With(nil)
		return nil
	case recDropped:
		if len(b) != len(format.ID{}) {
			return errShort
		}
		r.dropped[number] = format.ID(b)
		delete(r.packs, number)
		return nil
	}
	n, w := binary.Uvarint(b)
	switch {
	case w <= 0:
		return errShort
	case kind == recCommitted:
		r.committed[number] = max(r.committed[number], int64(n&(1<<62-1)))
		return nil
	case n >= format.MaxEntries:
		return fmt.Errorf("record of kind %d names entry %d", kind, n)
	}
	e := r.pack(number)
	if kind == recGood {
		e.bad = e.bad.without(uint32(n))
	} else {
		e.bad = e.bad.With(One(uint32(n)))
	}
	return nil
}

func decodeWords(b []byte) ([]uint64, error) {
	if len(b)%8 != 0 || len(b) > format.MaxEntries/8 {
		return nil, fmt.Errorf("bitmap has %d bytes", len(b))
	}
	words := make([]uint64, len(b)/8)
	for i := range words {
		words[i] = le.Uint64(b[8*i:])
	}
	return words, nil
}
