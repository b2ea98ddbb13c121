//go:build !386 && !arm && !mips && !mipsle

package mount

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

// Inodes are numbered by the part, counted from 1, and by where in the archive
// their entry lies, so that a file has the same number however it is reached
// and whenever it is mounted, and all names of a hard link have one. The root
// of the mount is 1, as FUSE wants it.
const (
	rootInode = fuse.FUSE_ROOT_ID
	partShift = 48 // an archive has less than 256 TiB: an index names no more than 128
)

// An inode is a file or directory that the kernel knows.
type inode struct {
	id   uint64
	part int        // number of the part; -1: the directory of all parts
	node *pxar.Node // in an archive; nil for the directory of all parts and for plain files
}

// number returns the number of the entry at pos in a part.
func (f *fileSystem) number(part int, pos pxar.Position) uint64 {
	base := uint64(part+1) << partShift
	if f.content.Flat {
		base = 0
	}
	return base | (uint64(pos) + 1)
}

// inodes are those that the kernel knows. It says when it forgets one.
type inodes struct {
	mu    sync.Mutex
	known map[uint64]*known
}

type known struct {
	inode
	lookups uint64 // that the kernel has to take back
	linked  bool   // it has more than one name
}

// get returns an inode that the kernel was told of.
func (t *inodes) get(id uint64) (inode, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, ok := t.known[id]
	if !ok {
		return inode{}, false
	}
	return k.inode, true
}

// tell notes that the kernel is told of an inode.
func (t *inodes) tell(n inode, linked bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.known[n.id]
	if k == nil {
		k = &known{inode: n}
		t.known[n.id] = k
	}
	k.lookups++
	k.linked = k.linked || linked
}

// isLinked reports whether an inode is known to have more than one name.
func (t *inodes) isLinked(id uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.known[id]
	return k != nil && k.linked
}

// forget takes lookups back.
func (t *inodes) forget(id, lookups uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.known[id]
	if k == nil || id == rootInode {
		return
	}
	if k.lookups -= min(k.lookups, lookups); k.lookups == 0 {
		delete(t.known, id)
	}
}
