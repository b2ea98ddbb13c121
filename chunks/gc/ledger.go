package gc

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// Records of the lease journal. Each begins with its type in one byte and the
// lease's ID in eight; times are Unix milliseconds; names have one byte of
// length before them.
//
//	opened   created, renewed, kind, owner: the lease exists and has no pins
//	pins     renewed, rows of entries: these are pinned as well
//	renewed  renewed
//	closed
//
// A record about a lease that is not open says nothing. A chunk that moved is
// pinned again at its new place; the old place stays, and is never used again.
const (
	recOpened  = 1
	recPins    = 2
	recRenewed = 3
	recClosed  = 4
)

// maxName bounds kind and owner, whose length is written in one byte.
const maxName = 255

// maxRecord is where a record of pins is split, far below the journal's limit
// of 16 MiB even after one more row.
const maxRecord = 1 << 20

var errRecord = errors.New("record of a lease is damaged")

func appendHead(b []byte, kind byte, id LeaseID) []byte {
	return le.AppendUint64(append(b, kind), uint64(id))
}

func appendTime(b []byte, t time.Time) []byte {
	return le.AppendUint64(b, uint64(t.UnixMilli()))
}

func encodeOpened(id LeaseID, created, renewed time.Time, kind, owner string) []byte {
	b := appendTime(appendTime(appendHead(nil, recOpened, id), created), renewed)
	b = append(append(b, byte(len(kind))), kind...)
	return append(append(b, byte(len(owner))), owner...)
}

func encodeRenewed(id LeaseID, renewed time.Time) []byte {
	return appendTime(appendHead(nil, recRenewed, id), renewed)
}

func encodeClosed(id LeaseID) []byte { return appendHead(nil, recClosed, id) }

// encodePins yields the records that pin set. They share one buffer.
func encodePins(id LeaseID, renewed time.Time, set *pack.Set) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		head := appendTime(appendHead(nil, recPins, id), renewed)
		b := head
		for number, words := range set.Rows() {
			b = appendRow(b, number, words)
			if len(b) < maxRecord {
				continue
			}
			if !yield(b) {
				return
			}
			b = b[:len(head)]
		}
		if len(b) > len(head) {
			yield(b)
		}
	}
}

// lease is what the journal says of one.
type lease struct {
	created, renewed time.Time
	kind, owner      string

	// pins has a bitmap per pack. It is no pack.Set, whose size depends on
	// the numbers of packs: those in a file are believed only once the store
	// has confirmed that the packs exist.
	pins map[uint32][]uint64
}

// set returns the pins in packs that exist.
func (l *lease) set(packs map[uint32]pack.Usage) (s pack.Set) {
	for number, words := range l.pins {
		if _, ok := packs[number]; ok {
			s.OrRow(number, words)
		}
	}
	return s
}

// A ledger is the state that the records of a journal add up to.
type ledger struct {
	leases  map[LeaseID]*lease
	scratch []uint64
}

func newLedger() *ledger { return &ledger{leases: map[LeaseID]*lease{}} }

// apply takes in one record.
func (g *ledger) apply(b []byte) error {
	if len(b) < 9 {
		return fmt.Errorf("%w: it has %d bytes", errRecord, len(b))
	}
	kind, id, body := b[0], LeaseID(le.Uint64(b[1:])), b[9:]
	switch kind {
	case recOpened:
		return g.applyOpened(id, body)
	case recPins:
		return g.applyPins(id, body)
	case recRenewed:
		if len(body) != 8 {
			return fmt.Errorf("%w: renewal of %d bytes", errRecord, len(body))
		}
		if l := g.leases[id]; l != nil {
			l.renewed = readTime(body)
		}
	case recClosed:
		if len(body) != 0 {
			return fmt.Errorf("%w: end of %d bytes", errRecord, len(body))
		}
		delete(g.leases, id)
	default:
		return fmt.Errorf("%w: type %d is unknown to this version", errRecord, kind)
	}
	return nil
}

func (g *ledger) applyOpened(id LeaseID, b []byte) error {
	if len(b) < 18 {
		return fmt.Errorf("%w: beginning of %d bytes", errRecord, len(b))
	}
	l := &lease{created: readTime(b), renewed: readTime(b[8:]), pins: map[uint32][]uint64{}}
	var ok1, ok2 bool
	l.kind, b, ok1 = readName(b[16:])
	l.owner, b, ok2 = readName(b)
	if !ok1 || !ok2 || len(b) != 0 {
		return fmt.Errorf("%w: names do not fit", errRecord)
	}
	g.leases[id] = l
	return nil
}

func (g *ledger) applyPins(id LeaseID, b []byte) error {
	if len(b) < 8 {
		return fmt.Errorf("%w: pins of %d bytes", errRecord, len(b))
	}
	for _, err := range readRows(b[8:]) {
		if err != nil {
			return fmt.Errorf("%w: %w", errRecord, err)
		}
	}
	l := g.leases[id]
	if l == nil {
		return nil
	}
	l.renewed = readTime(b)
	for r := range readRows(b[8:]) {
		g.scratch = r.bitmap(g.scratch)
		l.pins[r.number] = or(l.pins[r.number], g.scratch)
	}
	return nil
}

// or adds the bits of b to a and returns it, grown if need be.
func or(a, b []uint64) []uint64 {
	if len(a) < len(b) {
		a = append(a, make([]uint64, len(b)-len(a))...)
	}
	for i, w := range b {
		a[i] |= w
	}
	return a
}

func readTime(b []byte) time.Time { return time.UnixMilli(int64(le.Uint64(b))) }

func readName(b []byte) (name string, rest []byte, ok bool) {
	if len(b) == 0 || int(b[0]) > len(b)-1 {
		return "", nil, false
	}
	n := 1 + int(b[0])
	return string(b[1:n]), b[n:], true
}
