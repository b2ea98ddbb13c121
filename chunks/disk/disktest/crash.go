package disktest

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Crash cuts the power and returns what the disk holds when it comes back.
// This file system fails from then on, with [ErrCrashed]. Crash may be called
// again with other seeds: each gives another of the states that are possible.
//
// Of the changes of a file since its last Sync any may be there or not, and of
// a write any of its sectors of 512 bytes. (Which order the disk wrote in then
// makes no difference, as a sector that was written twice holds either.) A
// length is one that the file had, or would have had on the way; what is
// within it and was never written reads as zeros. Of the changes of names
// since SyncDir any may be there that is possible without the others: a rename
// whose file was never there is not, and a rename is whole.
func (m *Mem) Crash(seed uint64) *Mem {
	rng := rand.New(rand.NewPCG(seed, 0x6861726473746f70))
	odds := []float64{0.1, 0.5, 0.5, 0.9, 1}
	names, data := odds[rng.IntN(len(odds))], odds[rng.IntN(len(odds))]
	keep := func() bool { return rng.Float64() < names }
	return m.restart(keep, func(i *inode) (map[int64]*block, int64) {
		return i.torn(rng, data)
	})
}

// CrashLosing is the crash that loses all that is not durable.
func (m *Mem) CrashLosing() *Mem {
	return m.restart(func() bool { return false }, func(i *inode) (map[int64]*block, int64) {
		return i.saved, i.size
	})
}

// CrashKeeping is the crash that loses nothing, like the end of a process.
func (m *Mem) CrashKeeping() *Mem {
	return m.restart(func() bool { return true }, func(i *inode) (map[int64]*block, int64) {
		blocks := map[int64]*block{}
		for n, pg := range i.live.pages {
			pg.frozen = true
			blocks[n] = pg.block
		}
		return blocks, i.live.size
	})
}

// restart crashes m and returns a file system with the names that keep tells
// and the contents that content returns.
func (m *Mem) restart(keep func() bool, content func(*inode) (map[int64]*block, int64)) *Mem {
	m.crash()
	m.mu.Lock()
	defer m.mu.Unlock()
	names := map[*inode]map[string]*inode{}
	for _, l := range m.links {
		if keep() {
			l.apply(names)
		}
	}
	w := waking{
		mem:     &Mem{device: m.device, last: m.last, limit: m.limit, off: m.off},
		names:   names,
		content: content,
		pages:   map[*block]*page{},
	}
	w.mem.root = w.wake(m.root)
	return w.mem
}

// apply does a change of names to what a crash leaves, if it is possible
// there: names has the directories that differ from what is durable.
func (l linkage) apply(names map[*inode]map[string]*inode) {
	for _, e := range l.entries {
		if names[e.dir] == nil {
			names[e.dir] = maps.Clone(e.dir.durable)
		}
		if names[e.dir][e.name] != e.before {
			return
		}
	}
	for _, e := range l.entries {
		set(names[e.dir], e.name, e.after)
	}
}

// waking is the making of a file system out of what a crash left.
type waking struct {
	mem     *Mem
	names   map[*inode]map[string]*inode           // directories that differ from what was durable
	content func(*inode) (map[int64]*block, int64) // of a file
	pages   map[*block]*page                       // made so far
}

// wake returns a copy of old, and of all below it.
func (w *waking) wake(old *inode) *inode {
	i := &inode{number: old.number, mode: old.mode, modified: old.modified}
	if !old.isDir() {
		blocks, size := w.content(old)
		i.saved, i.size = maps.Clone(blocks), size
		i.live = content{map[int64]*page{}, size}
		for n, b := range blocks {
			i.live.pages[n] = w.page(b)
		}
		return i
	}
	below := w.names[old]
	if below == nil {
		below = old.durable
	}
	i.entries = map[string]*inode{}
	for _, name := range slices.Sorted(maps.Keys(below)) { // in an order that a seed repeats
		i.entries[name] = w.wake(below[name])
	}
	i.durable = maps.Clone(i.entries)
	return i
}

// page returns the page of a block, the same for all files that share it.
func (w *waking) page(b *block) *page {
	pg := w.pages[b]
	if pg == nil {
		pg = &page{block: b, frozen: true}
		w.pages[b] = pg
		w.mem.used += pageSize
	}
	pg.refs++
	return pg
}
