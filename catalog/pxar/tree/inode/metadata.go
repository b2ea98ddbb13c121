//go:build linux

package inode

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"golang.org/x/sys/unix"
)

// The kernel's limits for one extended attribute and for all names of a file
// (linux/limits.h).
const (
	maxXattrValue = 64 << 10
	maxXattrNames = 64 << 10
	maxXattrName  = 255

	// maxXattrTotal bounds what is kept for one file. Linux has no such limit;
	// the format's reader has one at 16 MiB.
	maxXattrTotal = 8 << 20
)

const xattrFCaps = "security.capability"

// Basic is what stat tells.
func Basic(st *unix.Stat_t) *pxar.Metadata {
	return &pxar.Metadata{
		Mode:  st.Mode,
		UID:   st.Uid,
		GID:   st.Gid,
		Mtime: pxar.Timespec{Sec: int64(st.Mtim.Sec), Nsec: uint32(st.Mtim.Nsec)},
	}
}

// A Scanner reads what stat does not tell. Each goroutine has its own.
type Scanner struct {
	names, value []byte
}

// NewScanner returns a scanner, with its 128 KiB of memory.
func NewScanner() *Scanner {
	return &Scanner{make([]byte, maxXattrNames), make([]byte, maxXattrValue)}
}

// Metadata returns everything an archive keeps of the open file or directory
// fd. What cannot be read is missing from it and part of the error.
func (s *Scanner) Metadata(fd int, st *unix.Stat_t, vol *Volume) (*pxar.Metadata, error) {
	m := Basic(st)
	var flagsErr, projectErr error
	m.Flags, flagsErr = readFlags(fd, vol)
	m.ProjectID, projectErr = readProject(fd, vol)
	return m, errors.Join(wrap("read inode flags", flagsErr), wrap("read project id", projectErr), s.xattrs(fd, m, vol))
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// xattrs reads extended attributes, and what hides in them: capabilities and
// ACLs. A file without any costs one system call.
func (s *Scanner) xattrs(fd int, m *pxar.Metadata, vol *Volume) error {
	if vol.noXattrs.Load() {
		return nil
	}
	n, err := unix.Flistxattr(fd, s.names)
	if err != nil {
		if Lacks(err) {
			vol.noXattrs.Store(true)
			return nil
		}
		return fmt.Errorf("list extended attributes: %w", err)
	}
	var failed []error
	total := 0
	for name := range strings.SplitSeq(string(s.names[:n]), "\x00") {
		if !archived(name) {
			continue
		}
		value, err := s.xattr(fd, name)
		if errors.Is(err, unix.ENODATA) {
			continue // removed since it was listed
		}
		if total += len(name) + len(value); err == nil && total > maxXattrTotal {
			err = fmt.Errorf("all together are larger than %d bytes", maxXattrTotal)
		}
		if err == nil {
			err = store(m, name, value)
		}
		failed = append(failed, wrap("read "+name, err))
	}
	return errors.Join(failed...)
}

// archived reports whether an archive keeps the attribute in some form.
func archived(name string) bool {
	switch name {
	case "security.NTACL", xattrFCaps, XattrAccessACL, XattrDefaultACL:
		return true
	}
	return len(name) <= maxXattrName && (strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted."))
}

// xattr returns a copy of one value.
func (s *Scanner) xattr(fd int, name string) ([]byte, error) {
	n, err := unix.Fgetxattr(fd, name, s.value)
	if err != nil {
		return nil, err
	}
	return append([]byte{}, s.value[:n]...), nil
}

// store puts an attribute where an archive keeps it.
func store(m *pxar.Metadata, name string, value []byte) error {
	switch name {
	case xattrFCaps:
		m.FCaps = value
	case XattrAccessACL:
		a, err := parseACL(value)
		if err != nil {
			return err
		}
		m.ACL.Users, m.ACL.Groups = a.users, a.groups
		if a.mask != pxar.NoPerm {
			m.ACL.GroupObj = &a.groupObj
		}
	case XattrDefaultACL:
		a, err := parseACL(value)
		if err != nil {
			return err
		}
		m.ACL.Default = &pxar.ACLDefault{UserObj: a.userObj, GroupObj: a.groupObj, Other: a.other, Mask: a.mask}
		m.ACL.DefaultUsers, m.ACL.DefaultGroups = a.users, a.groups
	default:
		m.Xattrs = append(m.Xattrs, pxar.Xattr{Name: name, Value: value})
	}
	return nil
}
