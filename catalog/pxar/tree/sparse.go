//go:build linux

package tree

import (
	"errors"
	"io"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// copyBlock is how much of a file is read from the archive and written at
// once; each writer has a buffer of that size.
const copyBlock = 1 << 20

// directBytes is the size of the smallest file that bypasses the page cache:
// below it the cache gathers many files into one write.
const directBytes = 256 << 10

// fill writes the content of node to fd, which is empty. Blocks of zeros
// become holes.
func (w *writer) fill(fd int, node *pxar.Node) error {
	if node.Flags != 0 {
		_ = inode.WriteFlags(fd, node.Flags, true) // whether flags can be set is found, and told, at the end
	}
	content, err := node.Content()
	if err != nil {
		return &contentError{0, err}
	}
	write := inode.Write
	if w.x.opt.Direct && node.Size >= directBytes && inode.SetDirect(fd, true) {
		write = inode.WriteDirect
	}
	end := int64(0) // of what was written
	for off := int64(0); off < node.Size; {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		block := w.buf[:min(int64(len(w.buf)), node.Size-off)]
		n, err := content.ReadAt(block, off)
		if n < len(block) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return &contentError{off + int64(n), err}
		}
		if end, err = inode.WriteSparse(fd, block, off, end, write); err != nil {
			return err
		}
		off += int64(n)
	}
	if end < node.Size {
		return unix.Ftruncate(fd, node.Size)
	}
	return nil
}
