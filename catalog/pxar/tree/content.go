//go:build linux

package tree

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

const (
	// readBlock is how much of a large file is read at once.
	readBlock = 1 << 20

	// readWindow is how far ahead of us the kernel is asked to read. Its own
	// read-ahead stops at 256 KiB, which a fast disk outruns.
	readWindow = 8 << 20

	// sector is what is given up where a disk fails. What is given up doubles
	// with each failure in a row, up to sector<<maxRow (64 MiB): a disk may
	// try for a minute before it admits that it cannot read a sector.
	sector = 4096
	maxRow = 14
)

// A fileReader copies exactly as many bytes of a file as stat promised,
// whatever happens to the file meanwhile.
type fileReader struct {
	ctx   context.Context
	pread func(fd int, buf []byte, off int64) (int, error)
	fd    int
	size  int64
	buf   []byte // readBlock bytes

	lost   int64 // bytes that could not be read
	first  error // why
	row    int   // failures since the last byte that could be read
	resume int64 // where to try again
	shrank bool
}

// copyTo writes the content to w. An error is one of w, or the end of ctx.
func (r *fileReader) copyTo(w io.Writer) error {
	for off := int64(0); off < r.size; {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if ahead := off + readWindow; ahead < r.size {
			unix.Fadvise(r.fd, ahead, readBlock, unix.FADV_WILLNEED)
		}
		block := r.buf[:min(readBlock, r.size-off)]
		if err := r.fill(block, off); err != nil {
			return err
		}
		if _, err := w.Write(block); err != nil {
			return err
		}
		off += int64(len(block))
	}
	return nil
}

// fill reads block at off, with zeros where there is nothing, or nothing that
// the disk can read.
func (r *fileReader) fill(block []byte, off int64) error {
	for len(block) > 0 && !r.shrank {
		if skip := min(r.resume-off, int64(len(block))); skip > 0 {
			clear(block[:skip])
			block, off, r.lost = block[skip:], off+skip, r.lost+skip
			continue
		}
		n, err := r.pread(r.fd, block, off)
		block, off = block[n:], off+int64(n)
		if n > 0 {
			r.row = 0
		}
		if err == nil {
			r.shrank = len(block) > 0
			continue
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if r.first == nil {
			r.first = fmt.Errorf("at byte %d: %w", off, err)
		}
		r.resume = (off/sector + 1<<r.row) * sector
		r.row = min(r.row+1, maxRow)
	}
	clear(block)
	return nil
}

// damage tells what could not be read, or nil.
func (r *fileReader) damage() error {
	if r.first == nil {
		return nil
	}
	return fmt.Errorf("%d of %d bytes could not be read and are zeros in the archive: %w", r.lost, r.size, r.first)
}

var errUnknown = errors.New("a kind of file that an archive cannot hold")
