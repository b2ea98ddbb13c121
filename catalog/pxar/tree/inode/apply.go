//go:build linux

package inode

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"golang.org/x/sys/unix"
)

// ModeBits are the bits of st_mode that chmod sets.
const ModeBits = 0o7777

const modeSetID = unix.S_ISUID | unix.S_ISGID

// An Applier gives what was created the metadata of the archive. The order
// matters: a change of owner drops capabilities and set-id bits, an ACL changes
// the mode, everything changes the time, and some flags forbid any change.
type Applier struct {
	UID, GID uint32 // of the running user

	IgnoreOwnership   bool
	IgnorePermissions bool
	IgnoreACLs        bool
	IgnoreXattrs      bool // and capabilities
}

// ToOpen applies m to an open file or directory. If replaceACL is set there
// may be ACLs, and those that m does not have are removed. Each thing that the target
// does not accept is one error; the others are applied all the same.
func (a *Applier) ToOpen(fd int, m *pxar.Metadata, replaceACL bool) []error {
	var failed []error
	try := func(doing string, err error) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", doing, err))
		}
	}
	mode, err := a.owner(m, func(uid, gid int) error { return unix.Fchown(fd, uid, gid) })
	try(fmt.Sprintf("give it to user %d, group %d", m.UID, m.GID), err)
	if !a.IgnoreXattrs {
		for _, x := range m.Xattrs {
			try("set "+strconv.Quote(x.Name), setXattr(fd, x))
		}
		if m.FCaps != nil {
			try("set capabilities", unix.Fsetxattr(fd, xattrFCaps, m.FCaps, 0))
		}
	}
	if !a.IgnoreACLs {
		try("set the access control list", setACLs(fd, m, replaceACL))
	}
	if m.ProjectID != 0 {
		try("set the project id", writeProject(fd, m.ProjectID))
	}
	if !a.IgnorePermissions {
		try("set the mode", unix.Fchmod(fd, mode))
	}
	ts, err := timespecs(m.Mtime)
	if err == nil {
		err = futimens(fd, ts)
	}
	try("set the modification time", err)
	if m.Flags != 0 {
		try("set inode flags", WriteFlags(fd, m.Flags, false))
	}
	return failed
}

// owner changes the owner with chown, and returns the mode that may be set
// then: a program that runs as its owner must not do so for another one.
func (a *Applier) owner(m *pxar.Metadata, chown func(uid, gid int) error) (mode uint32, err error) {
	mode = m.Mode & ModeBits
	if a.IgnoreOwnership {
		if m.UID != a.UID || m.GID != a.GID {
			mode &^= modeSetID
		}
		return mode, nil
	}
	if err = chown(int(m.UID), int(m.GID)); err == nil {
		return mode, nil
	}
	if m.UID != a.UID && errors.Is(err, unix.EPERM) {
		_ = chown(-1, int(m.GID)) // the group alone may be one of ours; err stands anyway
	}
	return mode &^ modeSetID, err
}

// setXattr sets one attribute, of those that archives may hold: an archive
// from elsewhere must not set security labels.
func setXattr(fd int, x pxar.Xattr) error {
	if !archived(x.Name) || x.Name == xattrFCaps || x.Name == XattrAccessACL || x.Name == XattrDefaultACL {
		return errors.New("no archive holds attributes of that name")
	}
	return unix.Fsetxattr(fd, x.Name, x.Value, 0)
}

// setACLs sets the ACLs of m. If replace is set there may be others, which
// the archive does not have.
func setACLs(fd int, m *pxar.Metadata, replace bool) error {
	access, ok, warning := accessACL(m)
	var errs []error
	switch {
	case ok:
		errs = append(errs, warning, setACL(fd, XattrAccessACL, access))
	case replace:
		errs = append(errs, removeACL(fd, XattrAccessACL))
	}
	switch d := m.ACL.Default; {
	case d != nil && m.IsDir():
		acl := posixACL{d.UserObj, d.GroupObj, d.Mask, d.Other, m.ACL.DefaultUsers, m.ACL.DefaultGroups}
		errs = append(errs, setACL(fd, XattrDefaultACL, acl))
	case replace && m.IsDir():
		errs = append(errs, removeACL(fd, XattrDefaultACL))
	}
	return errors.Join(errs...)
}

func setACL(fd int, name string, acl posixACL) error {
	value, err := acl.value()
	if err != nil {
		return err
	}
	return unix.Fsetxattr(fd, name, value, 0)
}

// RemoveACLs removes what an open file or directory inherited.
func RemoveACLs(fd int) error {
	return errors.Join(removeACL(fd, XattrAccessACL), removeACL(fd, XattrDefaultACL))
}

// HasDefaultACL reports whether what is created in the directory inherits.
func HasDefaultACL(fd int) bool {
	n, err := unix.Fgetxattr(fd, XattrDefaultACL, nil)
	return err == nil && n > 0
}

// removeACL removes an ACL if there is one.
func removeACL(fd int, name string) error {
	err := unix.Fremovexattr(fd, name)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

// ToName applies m to something that cannot be opened without side effects:
// a symlink, a fifo, a socket, a device. These have neither attributes nor
// ACLs in an archive.
func (a *Applier) ToName(dir int, name string, m *pxar.Metadata) []error {
	var failed []error
	mode, err := a.owner(m, func(uid, gid int) error {
		return unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		failed = append(failed, fmt.Errorf("give it to user %d, group %d: %w", m.UID, m.GID, err))
	}
	if !m.IsSymlink() && !a.IgnorePermissions {
		if err := chmodName(dir, name, mode); err != nil {
			failed = append(failed, fmt.Errorf("set the mode: %w", err))
		}
	}
	ts, err := timespecs(m.Mtime)
	if err == nil {
		err = unix.UtimesNanoAt(dir, name, ts, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		failed = append(failed, fmt.Errorf("set the modification time: %w", err))
	}
	return failed
}

// chmodName changes the mode of name unless it is a symlink. Only Linux 6.6
// has a call for that; the detour through /proc works on all.
func chmodName(dir int, name string, mode uint32) error {
	fd, err := Open(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	st, err := Stat(fd)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.ELOOP
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}
