//go:build linux

package tree

import (
	"errors"
	"strconv"
	"sync/atomic"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// A place is a directory of the target into which something is extracted. It
// becomes what the archive says, its time above all, when the walker has left
// it and all files in it are complete.
type place struct {
	dir     *dir // its path in the archive
	meta    *pxar.Metadata
	existed bool          // before we came: names in it may be taken
	foreign bool          // made by somebody else: it may have ACLs
	acl     bool          // what is created in it inherits an ACL
	id      inode.ID      // to know it again
	at      *inode.Handle // nil while it is closed for the sake of deeper ones

	pending atomic.Int32  // the walker, and each file being written
	last    *inode.Handle // set by the walker when it leaves
}

// newPlace takes over fd, the open directory d.
func newPlace(d *dir, meta *pxar.Metadata, fd int, existed bool) (*place, error) {
	st, err := inode.Stat(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	p := &place{dir: d, meta: meta, existed: existed, foreign: existed, id: inode.IDOf(st), at: inode.NewHandle(fd)}
	p.pending.Store(1)
	return p, nil
}

// makeDir makes the directory name in p, or opens the one that is there if
// that is allowed. It returns whether it was there.
func (p *place) makeDir(name string, perm uint32, opt *ExtractOptions) (fd int, existed bool, err error) {
	err = unix.Mkdirat(p.at.FD, name, perm)
	if errors.Is(err, unix.EEXIST) {
		if !p.existed {
			return -1, false, errTaken
		}
		if !opt.AllowExistingDirs {
			return -1, true, &ExistsError{Path: p.dir.path(name)}
		}
		existed = true
		if opt.Overwrite && !inode.IsDir(p.at.FD, name) {
			if err = unix.Unlinkat(p.at.FD, name, 0); err == nil {
				existed, err = false, unix.Mkdirat(p.at.FD, name, perm)
			}
		} else {
			err = nil
		}
	}
	if err != nil {
		return -1, existed, err
	}
	fd, err = inode.Open(p.at.FD, name, inode.DirFlags, 0)
	if existed && (errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)) {
		err = &ExistsError{Path: p.dir.path(name)}
	}
	if err != nil || existed || !p.acl {
		return fd, existed, err
	}
	if err := inode.RemoveACLs(fd); err != nil {
		unix.Close(fd)
		return -1, existed, err
	}
	return fd, existed, nil
}

// Modes that things have until they get their own: nobody else can enter or
// read them.
const (
	modeNewDir = 0o700
	modeNew    = 0o600
)

// temporaryName is what something is called until it replaces what has its
// name. The names of one process are all different.
func temporaryName() string {
	return ".holdfast-" + strconv.Itoa(unix.Getpid()) + "-" + strconv.FormatUint(temporaries.Add(1), 10)
}

var temporaries atomic.Uint64

// create makes something called name in the directory at, by calling make. If
// the name is taken and may be replaced, another name is used and returned,
// for commit.
func (p *place) create(at *inode.Handle, name string, overwrite bool, make func(name string) error) (used string, err error) {
	err = make(name)
	if !errors.Is(err, unix.EEXIST) {
		return name, err
	}
	switch {
	case !p.existed:
		return name, errTaken
	case !overwrite:
		return name, &ExistsError{Path: p.dir.path(name)}
	case inode.IsDir(at.FD, name):
		return name, errors.New("a directory has the name, and only what is not one is replaced")
	}
	used = temporaryName()
	return used, make(used)
}

// commit gives what create made its name.
func commit(at *inode.Handle, used, name string) error {
	if used == name {
		return nil
	}
	err := unix.Renameat(at.FD, used, at.FD, name)
	_ = unix.Unlinkat(at.FD, used, 0) // there still if that failed, or if both names are of one file already
	return err
}

// errTaken is why an entry is left out of a directory that we made ourselves:
// the archive has the name twice, or the file system takes two names for one.
var errTaken = errors.New("another entry of the archive has the name already")
