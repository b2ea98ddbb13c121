//go:build !386 && !arm && !mips && !mipsle

package mount

import (
	"io"
	"iter"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

// A handle is an open file or directory.
type handle struct {
	inode inode
	file  io.ReaderAt // of files
	dir   *listing    // of directories
}

// handles are those that the kernel holds.
type handles struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]*handle
}

func (t *handles) add(h *handle) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	t.open[t.last] = h
	return t.last
}

func (t *handles) get(id uint64) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[id]
}

func (t *handles) remove(id uint64) {
	t.mu.Lock()
	h := t.open[id]
	delete(t.open, id)
	t.mu.Unlock()
	if h != nil && h.dir != nil {
		h.dir.close()
	}
}

func (t *handles) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.open {
		if h.dir != nil {
			h.dir.close()
		}
	}
	clear(t.open)
}

// An entry is one name in a directory.
type entry struct {
	name  string
	mode  uint32 // the type bits
	inode inode  // node is nil if more would have to be read to know it
	err   error  // it cannot be read
}

// maxPlus is how many entries of an open directory the kernel is told all of,
// which saves it a question for each. After that it gets names only, and asks
// for those it wants: a directory of a million files is not to be remembered
// because somebody lists it.
const maxPlus = 10000

// A listing is a directory that is being read, entry by entry as they come out
// of the archive.
type listing struct {
	entries iter.Seq[entry]

	mu sync.Mutex // guards what follows

	next   func() (entry, bool)
	stop   func()
	at     uint64 // entries handed out
	held   *entry // the next one, if it did not fit
	failed bool   // an entry could not be read
}

func (l *listing) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rewind()
}

// rewind goes back to the beginning. l.mu must be held.
func (l *listing) rewind() {
	if l.stop != nil {
		l.stop()
	}
	l.next, l.stop, l.at, l.held, l.failed = nil, nil, 0, nil, false
}

// seek goes to entry n. l.mu must be held.
func (l *listing) seek(n uint64) {
	if n < l.at {
		l.rewind()
	}
	for l.at < n {
		if _, ok := l.take(); !ok {
			return
		}
	}
}

// take returns the next entry. l.mu must be held.
func (l *listing) take() (e entry, ok bool) {
	if l.held != nil {
		e, l.held = *l.held, nil
		l.at++
		return e, true
	}
	if l.next == nil {
		l.next, l.stop = iter.Pull(l.entries)
	}
	if e, ok = l.next(); ok {
		l.at++
	}
	return e, ok
}

// putBack makes e the next entry again. l.mu must be held.
func (l *listing) putBack(e entry) {
	l.held = &e
	l.at--
}

// OpenDir opens a directory.
func (f *fileSystem) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, ok := f.inodes.get(in.NodeId)
	if !ok {
		return fuse.ENOENT
	}
	out.Fh = f.handles.add(&handle{inode: n, dir: &listing{entries: f.entries(n)}})
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR
	return fuse.OK
}

// ReleaseDir hears that a directory was closed.
func (f *fileSystem) ReleaseDir(in *fuse.ReleaseIn) { f.handles.remove(in.Fh) }

// ReadDir answers names.
func (f *fileSystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(e entry, off uint64) bool {
		return out.AddDirEntry(fuse.DirEntry{Name: e.name, Mode: e.mode, Ino: e.inode.id, Off: off})
	})
}

// ReadDirPlus answers names and what stat would show of them.
func (f *fileSystem) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(e entry, off uint64) bool {
		slot := out.AddDirLookupEntry(fuse.DirEntry{Name: e.name, Mode: e.mode, Ino: e.inode.id, Off: off})
		if slot == nil {
			return false
		}
		if off > 2 && off <= maxPlus && e.inode.node != nil {
			f.tell(e.inode, false, slot)
		}
		return true
	})
}

// list hands out entries from in.Offset until add has no more room. What could
// not be read is left out, and at the end the program is told so.
func (f *fileSystem) list(in *fuse.ReadIn, add func(e entry, off uint64) bool) fuse.Status {
	h := f.handles.get(in.Fh)
	if h == nil || h.dir == nil {
		return fuse.EBADF
	}
	if f.ctx.Err() != nil {
		return fuse.EIO
	}
	l := h.dir
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seek(in.Offset)
	for some := false; ; {
		e, ok := l.take()
		if !ok {
			if l.failed && !some {
				l.failed = false
				return fuse.EIO
			}
			return fuse.OK
		}
		if e.err != nil {
			f.failed("list", h.inode, e.err)
			l.failed = true
			continue
		}
		if !add(e, l.at) {
			l.putBack(e)
			return fuse.OK
		}
		some = true
	}
}

// entries returns what is in a directory, itself and its parent first.
func (f *fileSystem) entries(dir inode) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		const isDir = syscall.S_IFDIR
		if !yield(entry{name: ".", mode: isDir, inode: dir}) || !yield(entry{name: "..", mode: isDir, inode: dir}) {
			return
		}
		if dir.part < 0 {
			f.partEntries(yield)
		} else if dir.node != nil {
			f.nodeEntries(dir, yield)
		}
	}
}

func (f *fileSystem) partEntries(yield func(entry) bool) {
	for i, p := range f.content.Parts {
		e := entry{name: p.Name, mode: syscall.S_IFREG, inode: inode{id: f.number(i, 0), part: i}}
		if p.Archive != nil {
			e.mode = syscall.S_IFDIR
		}
		if !yield(e) {
			return
		}
	}
}

func (f *fileSystem) nodeEntries(dir inode, yield func(entry) bool) {
	for node, err := range dir.node.Entries() {
		e := entry{err: err}
		if err == nil {
			e = entry{name: node.Name, mode: node.Mode, inode: inode{f.number(dir.part, node.Position), dir.part, node}}
		}
		if err == nil && node.Kind == pxar.Hardlink { // its file may be far away
			e.mode, e.inode = syscall.S_IFREG, inode{id: f.number(dir.part, node.Link), part: dir.part}
		}
		if !yield(e) {
			return
		}
	}
}
