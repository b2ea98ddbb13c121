package disktest

import (
	"io/fs"
	"path"
	"slices"
	"time"
)

// An inode is a file or a directory: what it is now, what of that is durable,
// and for a file what has happened in between. For directories that is kept
// by the Mem, because a rename may concern two of them.
type inode struct {
	number   int64
	mode     fs.FileMode
	modified time.Time

	live    content
	saved   map[int64]*block // what a crash cannot take
	size    int64            // of saved
	pending []change
	opens   int
	removed bool
	locked  bool

	entries map[string]*inode // nil: not a directory
	durable map[string]*inode
}

func (i *inode) isDir() bool { return i.entries != nil }

// A change is something done to a file that is not durable yet.
type change struct {
	kind   Kind // Write, Truncate, Punch or Clone
	off, n int64
	data   []byte   // of Write
	blocks []*block // of Clone; nil is a hole
}

// span returns the pages that a change concerns: [first, last).
func (c change) span() (first, last int64) {
	if c.kind == Truncate {
		return c.off / pageSize, 1 << 52
	}
	return c.off / pageSize, (c.off + c.n + pageSize - 1) / pageSize
}

// save makes the file durable as it is.
func (i *inode) save() {
	for _, c := range i.pending {
		first, last := c.span()
		if last-first <= int64(len(i.live.pages)+len(i.saved)) {
			for p := first; p < last; p++ {
				i.savePage(p)
			}
			continue
		}
		for p := range i.saved {
			if p >= first && p < last {
				i.savePage(p)
			}
		}
		for p := range i.live.pages {
			if p >= first && p < last {
				i.savePage(p)
			}
		}
	}
	i.size, i.pending = i.live.size, nil
}

func (i *inode) savePage(p int64) {
	pg := i.live.pages[p]
	if pg == nil {
		delete(i.saved, p)
		return
	}
	pg.frozen = true
	i.saved[p] = pg.block
}

// info describes an inode under a name, as fs.FileInfo and fs.DirEntry.
type info struct {
	name     string
	size     int64
	mode     fs.FileMode
	modified time.Time
}

func (i *inode) info(name string) info {
	return info{path.Base(name), i.live.size, i.mode, i.modified}
}

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.size }
func (i info) Mode() fs.FileMode          { return i.mode }
func (i info) Type() fs.FileMode          { return i.mode.Type() }
func (i info) ModTime() time.Time         { return i.modified }
func (i info) IsDir() bool                { return i.mode.IsDir() }
func (i info) Sys() any                   { return nil }
func (i info) Info() (fs.FileInfo, error) { return i, nil }
func (i info) String() string             { return fs.FormatFileInfo(i) }

// An entry is one name in one directory, before and after a change.
type entry struct {
	dir           *inode
	name          string
	before, after *inode // nil: no such name
}

// A linkage is a change of names that happens as a whole or not at all. It is
// durable when all its directories were synced.
type linkage struct {
	entries  []entry
	unsynced []*inode
}

// link changes names now, and remembers that a crash may undo it.
func (m *Mem) link(entries ...entry) {
	l := linkage{entries: entries}
	for _, e := range entries {
		set(e.dir.entries, e.name, e.after)
		e.dir.modified = time.Now()
		if !slices.Contains(l.unsynced, e.dir) {
			l.unsynced = append(l.unsynced, e.dir)
		}
	}
	m.links = append(m.links, l)
}

func set(names map[string]*inode, name string, to *inode) {
	if to == nil {
		delete(names, name)
	} else {
		names[name] = to
	}
}

// syncDir makes the names of a directory durable, and with them the changes of
// names elsewhere without which they could not be.
func (m *Mem) syncDir(dir *inode) {
	type key struct {
		dir  *inode
		name string
	}
	needed := map[key]bool{}
	due := make([]bool, len(m.links))
	for i := range slices.Backward(m.links) {
		l := &m.links[i]
		l.unsynced = slices.DeleteFunc(l.unsynced, func(d *inode) bool { return d == dir })
		due[i] = len(l.unsynced) == 0
		for _, e := range l.entries {
			due[i] = due[i] || needed[key{e.dir, e.name}]
		}
		if due[i] {
			for _, e := range l.entries {
				needed[key{e.dir, e.name}] = true
			}
		}
	}
	rest := m.links[:0]
	for i, l := range m.links {
		if !due[i] {
			rest = append(rest, l)
			continue
		}
		for _, e := range l.entries {
			set(e.dir.durable, e.name, e.after)
		}
	}
	clear(m.links[len(rest):])
	m.links = rest
}
