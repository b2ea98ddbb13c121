//go:build linux

package tree

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// A reader opens files and reads what an archive keeps of them, ahead of the
// archiver: all of a small file, the beginning of a large one into the page
// cache only.
type reader struct {
	ctx   context.Context
	opt   Options
	rec   *recorder
	links *linkTable
	scan  *inode.Scanner
}

// run serves nodes until there are no more. After the end of ctx it does
// nothing to them but say that they are done.
func (r *reader) run(jobs <-chan *node) {
	for n := range jobs {
		if n.err = r.ctx.Err(); n.err == nil {
			n.err = r.read(n)
		}
		n.at.Drop()
		close(n.done)
	}
}

func (r *reader) read(n *node) error {
	switch n.kind {
	case unix.DT_REG:
		return r.regular(n)
	case unix.DT_LNK, unix.DT_CHR, unix.DT_BLK, unix.DT_FIFO, unix.DT_SOCK:
		return r.other(n)
	}
	return errUnknown
}

// other reads what has no content. It is never opened: that could block, or
// act on a device.
func (r *reader) other(n *node) error {
	var st unix.Stat_t
	err := inode.Again(func() error { return unix.Fstatat(n.at.FD, n.name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return err
	}
	if uint8(st.Mode&unix.S_IFMT>>12) != n.kind {
		return inode.ErrKind
	}
	n.meta = inode.Basic(&st)
	switch n.kind {
	case unix.DT_CHR, unix.DT_BLK:
		n.device = pxar.Device{Major: uint64(unix.Major(uint64(st.Rdev))), Minor: uint64(unix.Minor(uint64(st.Rdev)))}
	case unix.DT_LNK:
		n.target, err = inode.Readlink(n.at.FD, n.name)
	}
	return err
}

// regular opens a file, and reads it if it is small and will be wanted.
func (r *reader) regular(n *node) error {
	fd, err := r.open(n)
	if err != nil {
		return err
	}
	st, err := inode.Stat(fd)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = inode.ErrKind
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	if r.opt.AfterStat != nil {
		r.opt.AfterStat(n.path())
	}
	vol := n.vol
	if uint64(st.Dev) != vol.Dev {
		vol = &inode.Volume{Dev: uint64(st.Dev)} // a file mounted over another: its volume says nothing about the directory's
	}
	if n.meta, err = r.scan.Metadata(fd, st, vol); err != nil {
		r.rec.warn(Attribute, n.path(), err)
	}
	n.stat, n.file, n.id, n.links = st, fd, inode.IDOf(st), uint64(st.Nlink)
	if n.links > 1 && !r.links.claim(n.id) {
		return nil // another name of it is read already, or will be
	}
	if st.Size > maxSmall {
		unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL)
		unix.Fadvise(fd, 0, readWindow, unix.FADV_WILLNEED)
		return nil
	}
	r.readSmall(n)
	return nil
}

// leaseWait is how long a file may stay closed to us because somebody holds a
// lease on it: the kernel breaks it after 45 s (/proc/sys/fs/lease-break-time).
const leaseWait = time.Minute

// open opens a file for reading. O_NONBLOCK keeps us from hanging where a
// fifo has taken the file's place; it also makes a lease, as file servers
// take them, an error at first.
func (r *reader) open(n *node) (int, error) {
	deadline := time.Now().Add(leaseWait)
	for {
		fd, err := inode.OpenQuietly(n.at.FD, n.name, inode.FileFlags)
		if !errors.Is(err, unix.EAGAIN) || time.Now().After(deadline) {
			return fd, err
		}
		select {
		case <-r.ctx.Done():
			return -1, r.ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// readSmall reads all of a file and closes it. If that fails, the file stays
// open, and the archiver reads it with more patience.
func (r *reader) readSmall(n *node) {
	buf := newBuffer(n.stat.Size)
	got, err := r.opt.pread(n.file, *buf, 0)
	if err != nil {
		freeBuffer(buf)
		return
	}
	n.content = buf
	if got < len(*buf) {
		clear((*buf)[got:])
		n.changed = errShrank
	} else {
		n.changed = changedSince(n.file, n.stat)
	}
	unix.Close(n.file)
	n.file = -1
}

// changedSince tells what happened to an open file since its stat was read.
func changedSince(fd int, before *unix.Stat_t) error {
	now, err := inode.Stat(fd)
	switch {
	case err != nil:
		return fmt.Errorf("look whether the file was changed while it was read: %w", err)
	case now.Size > before.Size:
		return errGrew
	case now.Mtim != before.Mtim || now.Size != before.Size:
		return errChanged
	case now.Ctim != before.Ctim && now.Nlink == before.Nlink:
		return errChanged // not by another name being given or taken, which leaves the content alone
	}
	return nil
}
