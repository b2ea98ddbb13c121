package index

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// The delta is split by a keyed hash of the digest, so that writers rarely
// meet and nobody can choose digests that collide.
const (
	shardBits = 5
	shards    = 1 << shardBits
)

// A shard is one part of the delta. Lookups take no lock: they load tables
// once and see them as they were at that moment.
type shard struct {
	mu sync.Mutex // held by whoever changes tables, or anything in them

	tables atomic.Pointer[tables]
	_      [48]byte // keeps neighbours off the cache line
}

// tables are the delta of a shard: what is newest, and what a flush is writing
// (or failed to write). Either may be nil, which is an empty table.
type tables struct {
	active, frozen *table
}

func (t *tables) find(hash uint64, d *chunks.Digest) *record {
	if rec := t.active.find(hash, d); rec != nil {
		return rec
	}
	return t.frozen.find(hash, d)
}

// A table is a hash table with open addressing. It is read without a lock
// while one writer adds to it: a record is written first and never changed,
// then a slot is made to name it, atomically. A newer record of the same
// digest takes over the slot; the old one is garbage until the table grows.
type table struct {
	slots []atomic.Uint64 // upper half of the hash, ordinal of the record + 1
	recs  []record
	n     int   // records used, for the writer
	used  int   // slots used: the distinct digests, for the writer
	net   int64 // by how many live records it changes the index, for the writer
}

// smallTable is the capacity of the first table of a shard: 4 KiB.
const smallTable = 64

// newTable returns a table with room for n records.
func newTable(n int) *table {
	slots := 2
	for slots*3 < n*4 {
		slots *= 2
	}
	return &table{slots: make([]atomic.Uint64, slots), recs: make([]record, n)}
}

// slot returns the slot of d and its record, or the empty slot where it
// belongs and nil. There always is an empty one.
func (t *table) slot(hash uint64, d *chunks.Digest) (*atomic.Uint64, *record) {
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := t.slots[i].Load()
		if s == 0 {
			return &t.slots[i], nil
		}
		if s>>32 == hash>>32 {
			if rec := &t.recs[uint32(s)-1]; *rec.digest() == *d {
				return &t.slots[i], rec
			}
		}
	}
}

// find returns the record of d, or nil.
func (t *table) find(hash uint64, d *chunks.Digest) *record {
	if t == nil {
		return nil
	}
	_, rec := t.slot(hash, d)
	return rec
}

// put adds r and reports whether its digest is new to the table. The table
// must not be full.
func (t *table) put(hash uint64, r *record) bool {
	slot, old := t.slot(hash, r.digest())
	t.recs[t.n] = *r
	t.n++
	slot.Store(hash>>32<<32 | uint64(t.n))
	if old == nil {
		t.used++
	}
	return old == nil
}

func (t *table) full() bool { return t.n == len(t.recs) }

// each calls fn with the newest record of every digest. It may run beside the
// writer.
func (t *table) each(fn func(*record)) {
	if t == nil {
		return
	}
	for i := range t.slots {
		if s := t.slots[i].Load(); s != 0 {
			fn(&t.recs[uint32(s)-1])
		}
	}
}

// grown returns a table with the records of t, without the garbage, and room
// for half as many again.
func (t *table) grown(seed maphash.Seed) *table {
	g := newTable(max(smallTable, t.used+t.used/2))
	g.fill(seed, t)
	g.net = t.net
	return g
}

func (t *table) fill(seed maphash.Seed, from *table) {
	from.each(func(r *record) { t.put(hashOf(seed, r.digest()), r) })
}

// joined returns one table with everything in t, active over frozen.
func (t *tables) joined(seed maphash.Seed) *table {
	switch {
	case t.frozen == nil:
		return t.active
	case t.active == nil:
		return t.frozen
	}
	j := newTable(t.frozen.used + t.active.used)
	j.fill(seed, t.frozen)
	j.fill(seed, t.active)
	j.net = t.frozen.net + t.active.net
	return j
}

// size returns the number of distinct digests, for the writer.
func (t *table) size() int64 {
	if t == nil {
		return 0
	}
	return int64(t.used)
}

// heapBytes returns the memory that the table holds.
func (t *table) heapBytes() int64 {
	if t == nil {
		return 0
	}
	return int64(len(t.slots))*8 + int64(len(t.recs))*recordSize
}

func hashOf(seed maphash.Seed, d *chunks.Digest) uint64 { return maphash.Bytes(seed, d[:]) }

// shardOf returns the shard of a digest with this hash, by bits that choose
// neither the slot nor its tag in small tables.
func shardOf(hash uint64) int { return int(hash >> (32 - shardBits) & (shards - 1)) }
