package pxar

import (
	"fmt"
	"strings"
	"time"
)

// File types in the mode of [Metadata] (S_IFMT and its values, stat(2)).
const (
	modeType    = 0o170000
	modeSocket  = 0o140000
	modeSymlink = 0o120000
	modeRegular = 0o100000
	modeBlock   = 0o060000
	modeDir     = 0o040000
	modeChar    = 0o020000
	modeFifo    = 0o010000
)

// Bits of Metadata.Flags (§2.3): attributes of FAT, and those that chattr sets
// (FS_*_FL of Linux, in another order).
const (
	FlagHidden         uint64 = 0x2000
	FlagSystem         uint64 = 0x4000
	FlagArchive        uint64 = 0x8000
	FlagAppend         uint64 = 0x10000
	FlagNoAtime        uint64 = 0x20000
	FlagCompress       uint64 = 0x40000
	FlagNoCow          uint64 = 0x80000
	FlagNoDump         uint64 = 0x100000
	FlagDirSync        uint64 = 0x200000
	FlagImmutable      uint64 = 0x400000
	FlagSync           uint64 = 0x800000
	FlagNoCompress     uint64 = 0x1000000
	FlagProjectInherit uint64 = 0x2000000
)

// Metadata is what an archive keeps of an inode besides its content (§2).
// There is no atime, no ctime, no inode number and no link count.
type Metadata struct {
	Mode      uint32 // st_mode, with the type bits
	Flags     uint64 // Flag bits
	UID, GID  uint32
	Mtime     Timespec
	Xattrs    []Xattr // in the order of the file system
	ACL       ACL
	FCaps     []byte // raw security.capability of Linux; nil if there is none
	ProjectID uint64 // of quotas; 0 if there is none
}

// A Timespec is a time as stat returns it: Nsec, 0 to 999,999,999, counts
// forward from Sec also before 1970.
type Timespec struct {
	Sec  int64
	Nsec uint32
}

// Time returns t as a time.Time.
func (t Timespec) Time() time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// An Xattr is an extended attribute. Name and value take at most [MaxXattr]
// bytes with the NUL between them, the name at most [MaxXattrName].
type Xattr struct {
	Name  string
	Value []byte
}

// An ACL is what POSIX access control lists hold beyond the mode (§2.4). Its
// zero value is no ACL. Lists are sorted by ID, as the kernel keeps them.
type ACL struct {
	Users, Groups []ACLEntry

	// GroupObj is the permission of the owning group. It is set if the ACL
	// has a mask, and then the group bits of the mode hold the mask.
	GroupObj *uint64

	Default                     *ACLDefault // of directories
	DefaultUsers, DefaultGroups []ACLEntry
}

// An ACLEntry is what one user or group may do: read 4, write 2, execute 1.
type ACLEntry struct {
	ID   uint32
	Perm uint64
}

// NoPerm stands for an entry that an [ACLDefault] does not have.
const NoPerm = ^uint64(0)

// ACLDefault holds the entries of a default ACL that name nobody; each is a
// permission or [NoPerm].
type ACLDefault struct {
	UserObj, GroupObj, Other, Mask uint64
}

// IsZero reports whether there is no ACL.
func (a *ACL) IsZero() bool {
	return a.GroupObj == nil && a.Default == nil &&
		len(a.Users)+len(a.Groups)+len(a.DefaultUsers)+len(a.DefaultGroups) == 0
}

func (m *Metadata) isType(t uint32) bool { return m.Mode&modeType == t }

// IsDir reports whether m is of a directory.
func (m *Metadata) IsDir() bool { return m.isType(modeDir) }

// IsRegular reports whether m is of a regular file.
func (m *Metadata) IsRegular() bool { return m.isType(modeRegular) }

// IsSymlink reports whether m is of a symbolic link.
func (m *Metadata) IsSymlink() bool { return m.isType(modeSymlink) }

// IsDevice reports whether m is of a block or character device.
func (m *Metadata) IsDevice() bool { return m.isType(modeBlock) || m.isType(modeChar) }

// IsBlockDevice reports whether m is of a block device.
func (m *Metadata) IsBlockDevice() bool { return m.isType(modeBlock) }

// IsFifo reports whether m is of a named pipe.
func (m *Metadata) IsFifo() bool { return m.isType(modeFifo) }

// IsSocket reports whether m is of a socket.
func (m *Metadata) IsSocket() bool { return m.isType(modeSocket) }

// check tells why m cannot be written, or read back.
func (m *Metadata) check() error {
	if m.Mtime.Nsec >= uint32(time.Second) {
		return fmt.Errorf("mtime has %d nanoseconds, want below a second", m.Mtime.Nsec)
	}
	total := len(m.FCaps)
	if len(m.FCaps) > MaxXattr {
		return fmt.Errorf("capabilities take %d bytes, at most %d are possible", len(m.FCaps), MaxXattr)
	}
	for _, x := range m.Xattrs {
		if err := x.check(); err != nil {
			return err
		}
		total += headerSize + len(x.Name) + 1 + len(x.Value)
	}
	acl := len(m.ACL.Users) + len(m.ACL.Groups) + len(m.ACL.DefaultUsers) + len(m.ACL.DefaultGroups)
	if total += 2 * headerSize * acl; total > maxAttributes {
		return fmt.Errorf("attributes take %d bytes, at most %d are possible", total, maxAttributes)
	}
	return nil
}

func (x *Xattr) check() error {
	switch {
	case x.Name == "" || len(x.Name) > MaxXattrName:
		return fmt.Errorf("name of extended attribute %.40q has %d bytes, want 1 to %d", x.Name, len(x.Name), MaxXattrName)
	case strings.ContainsRune(x.Name, 0):
		return fmt.Errorf("name of extended attribute %q holds a NUL", x.Name)
	case len(x.Name)+1+len(x.Value) > MaxXattr:
		return fmt.Errorf("extended attribute %q has a value of %d bytes, too large for the format", x.Name, len(x.Value))
	}
	return nil
}
