package index

import (
	"runtime"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// Lookup returns where the chunk d is stored, if it is. It takes no lock and
// allocates nothing.
func (x *Index) Lookup(d chunks.Digest) (Loc, bool) {
	hash := hashOf(x.seed, &d)
	t := x.shards[shardOf(hash)].tables.Load()
	return x.find(t, hash, &d)
}

// find looks in the delta, then in the runs. In this order nothing escapes
// it: a flush shows the new run before it drops the table that became it.
func (x *Index) find(t *tables, hash uint64, d *chunks.Digest) (Loc, bool) {
	if rec := t.find(hash, d); rec != nil {
		return rec.live()
	}
	v := x.view.Load()
	k := makeKey(d)
	loc, known := v.find(&k)
	runtime.KeepAlive(v) // and its mappings
	return loc, known
}

func (v *view) find(k *key) (Loc, bool) {
	for _, r := range v.runs {
		if rec := r.find(k); rec != nil {
			return rec.live()
		}
	}
	return Loc{}, false
}

// LookupMany looks up each of ds and calls fn with its place in ds and the
// result of Lookup, in order. It is several times faster than as many calls of
// Lookup, because it waits for the memory of many at once.
func (x *Index) LookupMany(ds []chunks.Digest, fn func(i int, loc Loc, known bool)) {
	var b batch
	for from := 0; from < len(ds); from += batchSize {
		part := ds[from:min(from+batchSize, len(ds))]
		b.lookup(x, part)
		for i := range part {
			fn(from+i, b.locs[i], b.known[i])
		}
	}
}

// A batch is a number of lookups that go through each stage together, so that
// a processor which looks ahead has all their cache misses under way at once.
// For that the loops that read are kept short.
type batch struct {
	keys  [batchSize]key
	locs  [batchSize]Loc
	known [batchSize]bool
	open  []uint8 // places in keys of what is not found yet
	space [batchSize]uint8
	words [batchSize]uint64 // by place: the first word of the line
	seen  [batchSize]candidate
}

const batchSize = 32

// A candidate is a record that may be the one of a key.
type candidate struct {
	place uint8
	ord   uint64
}

func (b *batch) lookup(x *Index, ds []chunks.Digest) {
	b.open = b.space[:0]
	for i := range ds {
		d := &ds[i]
		hash := hashOf(x.seed, d)
		rec := x.shards[shardOf(hash)].tables.Load().find(hash, d)
		b.locs[i], b.known[i] = rec.live()
		if rec == nil {
			b.keys[i] = makeKey(d)
			b.open = append(b.open, uint8(i))
		}
	}
	v := x.view.Load()
	for _, r := range v.runs {
		b.lookupRun(r)
	}
	runtime.KeepAlive(v)
}

// lookupRun looks up what is open in one run.
func (b *batch) lookupRun(r *run) {
	seen := b.candidates(r)
	for _, c := range seen {
		rec := r.record(c.ord) // often on two cache lines
		b.words[c.place] = uint64(rec[0]) + uint64(rec[recordSize-1])
	}
	for _, c := range seen {
		k := &b.keys[c.place]
		rec := r.record(c.ord)
		if *rec.digest() != *k.d {
			rec = r.find(k)
		}
		if rec == nil {
			b.open = append(b.open, c.place)
			continue
		}
		b.locs[c.place], b.known[c.place] = rec.live()
	}
}

// candidates moves what the run may have from open to its result.
func (b *batch) candidates(r *run) []candidate {
	if len(r.lines) > 0 {
		for _, i := range b.open {
			b.words[i] = lineWord(r.line(&b.keys[i]), 0)
		}
	}
	open, seen := b.open[:0], b.seen[:0]
	for _, i := range b.open {
		if ord, ok := r.candidate(&b.keys[i]); ok {
			seen = append(seen, candidate{i, ord})
		} else {
			open = append(open, i)
		}
	}
	b.open = open
	return seen
}

// candidate returns a record that may be that of k, unless there is none. It
// does not read it.
func (r *run) candidate(k *key) (ord uint64, ok bool) {
	if len(r.lines) == 0 {
		return 0, r.n > 0
	}
	line := r.line(k)
	ord = uint64(uint32(lineWord(line, 0)))
	if ord&lineOverflow != 0 {
		ord &^= lineOverflow
	} else if m := match(line, k.prints); m != 0 {
		ord += m.any()
	} else {
		return 0, false
	}
	return ord, ord < r.n
}
