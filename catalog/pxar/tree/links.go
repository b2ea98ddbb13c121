//go:build linux

package tree

import (
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
)

// A linkTable remembers files that have several names, until all of them have
// been seen.
type linkTable struct {
	mu sync.Mutex

	known map[inode.ID]*linkedFile
}

// A linkedFile is a file with several names; dir is nil until the first of
// them is in the archive.
type linkedFile struct {
	dir  *dir
	name string
	at   pxar.Position
	left uint64 // names not seen yet
}

// claim reports whether nobody has claimed the content of id yet. Claiming is
// only about who reads it ahead; which name comes first the archive decides.
func (t *linkTable) claim(id inode.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known[id] != nil {
		return false
	}
	if t.known == nil {
		t.known = map[inode.ID]*linkedFile{}
	}
	t.known[id] = new(linkedFile)
	return true
}

// first returns the archived name of a file, or nil if n is the first of
// them. Either way n is one name less to wait for.
func (t *linkTable) first(n *node) *linkedFile {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.known[n.id]
	if f == nil || f.dir == nil {
		return nil
	}
	if f.left--; f.left == 0 {
		delete(t.known, n.id)
	}
	return f
}

// add remembers n as the first archived name of its file.
func (t *linkTable) add(n *node, at pxar.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.known[n.id]
	if f == nil {
		f = new(linkedFile)
		t.known[n.id] = f
	}
	*f = linkedFile{n.dir, n.name, at, n.links - 1}
}
