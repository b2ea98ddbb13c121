package cloud

import (
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/ahead"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/bitmap"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/layout"
	"github.com/holdfast-mesh/holdfast/chunks/pack/format"
	"github.com/holdfast-mesh/holdfast/chunks/pack/index"
)

// A remote is a pack in the bucket. Only what is below kinds changes.
type remote struct {
	number  uint32
	id      format.ID
	size    int64
	created time.Time
	sealed  bool
	offs    []uint32 // of the frames, in units of 8 bytes
	lens    []uint32 // stored lengths
	kinds   []chunks.Kind
	dead    []uint64 // condemned entries
	bad     []uint64 // entries that are denied because they are damaged
	lost    bool     // the bucket has it not
	seen    bool     // the bucket has shown it since the start
	doubt   bool     // it has not, and copies on the disk were preferred for that
}

// live reports whether an entry may be relied on.
func (p *remote) live(entry uint32) bool {
	return int(entry) < len(p.offs) && !p.lost && !bitmap.Has(p.dead, entry) && !bitmap.Has(p.bad, entry)
}

func (p *remote) frame(entry uint32) (off, n int64) {
	return int64(p.offs[entry]) * format.SmallAlign, layout.FrameSize(p.sealed, p.lens[entry])
}

// want is an entry as it has to be read.
func (p *remote) want(entry uint32) ahead.Want {
	w := ahead.Want{Pack: ahead.Pack{Number: p.number, ID: p.id, Size: p.size, Sealed: p.sealed}, Entry: entry}
	w.Off, w.N = p.frame(entry)
	return w
}

// A table is what is known of the packs in the bucket, and finds their chunks.
// The index is derived: it is made from index objects at every start.
type table struct {
	mu      sync.RWMutex
	idx     *index.Index
	packs   map[uint32]*remote
	numbers map[format.ID]uint32 // also of packs that are gone: a number is never used twice
	next    uint32
	gen     uint64
	sure    bool // the bucket was ours when it was last asked, after the root that names all this
}

// trust notes whether a root that names the packs is known to count.
func (t *table) trust(sure bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sure && !sure {
		t.gen++ // copies on the disk are what is relied on again
	}
	t.sure = sure
}

func (t *table) trusted() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.sure
}

func (t *table) close() error {
	if t.idx == nil {
		return nil
	}
	return t.idx.Close()
}

// number returns the number of a pack, and whether it was given just now. The
// caller holds mu.
func (t *table) number(id format.ID) (n uint32, fresh bool) {
	if n, ok := t.numbers[id]; ok {
		return n, false
	}
	n = t.next
	t.next++
	t.numbers[id] = n
	return n, true
}

// add makes a pack known. The caller holds mu.
func (t *table) add(p layout.Pack, number uint32, dead []uint64) {
	r := &remote{number: number, id: p.ID, size: p.Size, created: p.Created, sealed: p.Sealed, dead: dead}
	for _, row := range p.Rows {
		r.offs = append(r.offs, uint32(row.Off/format.SmallAlign))
		r.lens = append(r.lens, row.Stored)
		r.kinds = append(r.kinds, row.Kind)
	}
	t.packs[number] = r
}

// locs yields the rows of packs as the index has them.
func (t *table) locs(packs []layout.Pack) iter.Seq2[chunks.Digest, index.Loc] {
	return func(yield func(chunks.Digest, index.Loc) bool) {
		for _, p := range packs {
			n := t.numbers[p.ID]
			for i, row := range p.Rows {
				loc := index.Loc{Pack: n, Entry: uint32(i), Off: uint32(row.Off / format.SmallAlign), Len: row.Stored}
				if !yield(row.Digest, loc) {
					return
				}
			}
		}
	}
}

// better is the place of a chunk that lies in two packs: the one that lives,
// or else the younger.
func (t *table) better(_ chunks.Digest, a, b index.Loc) index.Loc {
	pa, pb := t.packs[a.Pack], t.packs[b.Pack]
	la, lb := pa != nil && pa.live(a.Entry), pb != nil && pb.live(b.Entry)
	if la && !lb || la == lb && a.Pack > b.Pack {
		return a
	}
	return b
}

// find returns the pack that has d, and the entry, condemned or not.
func (t *table) find(d chunks.Digest) (*remote, uint32) {
	loc, ok := t.idx.Lookup(d)
	if !ok {
		return nil, 0
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.packs[loc.Pack], loc.Entry
}

// lookup returns where d lives.
func (t *table) lookup(d chunks.Digest) (number, entry uint32, ok bool) {
	loc, ok := t.idx.Lookup(d)
	if !ok {
		return 0, 0, false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	p := t.packs[loc.Pack]
	return loc.Pack, loc.Entry, p != nil && p.live(loc.Entry)
}

// located is lookup, and finds what is denied as well: what cannot be read is
// not garbage.
func (t *table) located(d chunks.Digest) (number, entry uint32, ok bool) {
	loc, ok := t.idx.Lookup(d)
	if !ok {
		return 0, 0, false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	p := t.packs[loc.Pack]
	return loc.Pack, loc.Entry, p != nil && !bitmap.Has(p.dead, loc.Entry)
}

// lost reports whether the bucket has not a pack.
func (t *table) lost(p *remote) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return p.lost
}

// all returns the packs by number.
func (t *table) all() []*remote {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]*remote, 0, len(t.packs))
	for _, p := range t.packs {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *remote) int { return int(int64(a.number) - int64(b.number)) })
	return list
}

func (t *table) stats() (st Stats) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	st.Packs = len(t.packs)
	for _, p := range t.packs {
		st.Bytes += p.size
		st.Chunks += int64(len(p.offs))
		dead := 0
		for i, n := range p.lens {
			if bitmap.Has(p.dead, uint32(i)) {
				st.Dead += int64(n)
				st.Chunks--
				dead++
			}
		}
		if p.lost && dead < len(p.lens) {
			st.Lost++
		}
	}
	return st
}
