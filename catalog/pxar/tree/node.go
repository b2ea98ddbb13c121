//go:build linux

package tree

import (
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// What a node stands for.
const (
	opEnter     = iota // a directory begins
	opEntry            // something in it that is no directory
	opSynthetic        // the made-up file of exclude rules
	opLeave            // the directory ends
)

// A node is one step of the walk on its way to the archive. The walker makes
// it; if it is an entry, a reader fills in the rest; the archiver takes it.
type node struct {
	op   int
	dir  *dir // the directory that it is (opEnter, opLeave) or lies in
	name string
	kind uint8 // d_type
	at   *inode.Handle
	vol  *inode.Volume
	done chan struct{} // closed when the reader has finished; nil if there is nothing to read

	err    error // why the entry is left out
	meta   *pxar.Metadata
	links  uint64
	id     inode.ID
	target string
	device pxar.Device

	stat    *unix.Stat_t // of a regular file
	file    int          // its descriptor, if content is nil and err, too
	content *[]byte      // all of it, if that was read ahead
	changed error        // what happened while it was read ahead
}

func (n *node) path() string { return n.dir.path(n.name) }

// release gives back what n holds. Only who waited for done may call it.
func (n *node) release() {
	if n.file >= 0 && n.stat != nil {
		unix.Close(n.file)
		n.file = -1
	}
	if n.content != nil {
		freeBuffer(n.content)
		n.content = nil
	}
}

// The sizes of buffers for small files. Most files are far smaller than
// maxSmall.
const maxSmall = 256 << 10

var bufferSizes = [...]int{4 << 10, 32 << 10, maxSmall}

var bufferPools [len(bufferSizes)]sync.Pool

// newBuffer returns a buffer of n bytes, at most maxSmall.
func newBuffer(n int64) *[]byte {
	for i, size := range bufferSizes {
		if n > int64(size) {
			continue
		}
		buf, ok := bufferPools[i].Get().(*[]byte)
		if !ok {
			buf = new([]byte)
			*buf = make([]byte, size)
		}
		*buf = (*buf)[:n]
		return buf
	}
	panic("a file that is not small was to be read ahead")
}

func freeBuffer(buf *[]byte) {
	for i, size := range bufferSizes {
		if cap(*buf) == size {
			bufferPools[i].Put(buf)
			return
		}
	}
}
