package index

import (
	"fmt"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Insert makes loc the place of d, whatever it was before.
func (x *Index) Insert(d chunks.Digest, loc Loc) {
	c := x.begin(d)
	defer c.end()
	_, known := c.place()
	c.put(loc, known)
}

// InsertIfAbsent makes loc the place of d if d has none, and says so; else it
// returns the place that d has.
func (x *Index) InsertIfAbsent(d chunks.Digest, loc Loc) (old Loc, inserted bool) {
	if old, known := x.Lookup(d); known {
		return old, false // the common case needs no lock
	}
	c := x.begin(d)
	defer c.end()
	if old, known := c.place(); known {
		return old, false
	}
	c.put(loc, false)
	return Loc{}, true
}

// Replace makes loc the place of d if its place is old, and says so.
func (x *Index) Replace(d chunks.Digest, old, loc Loc) bool {
	c := x.begin(d)
	defer c.end()
	if now, known := c.place(); !known || now != old {
		return false
	}
	c.put(loc, true)
	return true
}

// Delete forgets d if its place is old, and says so.
func (x *Index) Delete(d chunks.Digest, old Loc) bool {
	c := x.begin(d)
	defer c.end()
	if now, known := c.place(); !known || now != old {
		return false
	}
	c.bury()
	return true
}

// A change is one digest of which nobody else can change the place.
type change struct {
	x    *Index
	s    *shard
	d    chunks.Digest
	hash uint64
}

func (x *Index) begin(d chunks.Digest) change {
	hash := hashOf(x.seed, &d)
	c := change{x: x, s: &x.shards[shardOf(hash)], d: d, hash: hash}
	c.s.mu.Lock()
	return c
}

func (c *change) end() { c.s.mu.Unlock() }

func (c *change) place() (Loc, bool) {
	return c.x.find(c.s.tables.Load(), c.hash, &c.d)
}

// put records loc; known says whether d had a place.
func (c *change) put(loc Loc, known bool) {
	if loc.Pack == NoPack {
		panic(fmt.Sprintf("index: pack number %d is reserved", uint32(NoPack)))
	}
	net := int64(1)
	if known {
		net = 0
	}
	c.add(loc, net)
}

// bury records that d, which had a place, has none.
func (c *change) bury() { c.add(Loc{Pack: NoPack}, -1) }

// add puts a record into the delta that changes the number of live ones by net.
func (c *change) add(loc Loc, net int64) {
	t := c.s.tables.Load()
	switch {
	case t.active == nil:
		t = &tables{active: newTable(smallTable), frozen: t.frozen}
		c.s.tables.Store(t)
	case t.active.full():
		t = &tables{active: t.active.grown(c.x.seed), frozen: t.frozen}
		c.s.tables.Store(t)
	}
	rec := makeRecord(c.d, loc)
	if t.active.put(c.hash, &rec) {
		c.x.pending.Add(1)
	}
	t.active.net += net
	c.x.live.Add(net)
}
