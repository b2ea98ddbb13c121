//go:build linux

package inode

import (
	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"golang.org/x/sys/unix"
)

// Inode flags of linux/fs.h (FS_*_FL) and FAT attributes of
// linux/msdos_fs.h, with the bit that an archive keeps each in.
var (
	inodeFlags = []flagBit{
		{0x20, pxar.FlagAppend, false},
		{0x80, pxar.FlagNoAtime, true},
		{0x04, pxar.FlagCompress, true},
		{0x800000, pxar.FlagNoCow, true},
		{0x40, pxar.FlagNoDump, false},
		{0x10000, pxar.FlagDirSync, false},
		{0x10, pxar.FlagImmutable, false},
		{0x08, pxar.FlagSync, false},
		{0x400, pxar.FlagNoCompress, true},
		{0x20000000, pxar.FlagProjectInherit, true},
	}
	fatFlags = []flagBit{
		{0x02, pxar.FlagHidden, false},
		{0x04, pxar.FlagSystem, false},
		{0x20, pxar.FlagArchive, false},
	}
)

// A flagBit is one flag as the kernel numbers it and as an archive does.
// Early ones make a difference to data written after they are set, and do not
// hinder writing it.
type flagBit struct {
	kernel  uint32
	archive uint64
	early   bool
}

func toArchive(flags uint32, table []flagBit) (bits uint64) {
	for _, f := range table {
		if flags&f.kernel != 0 {
			bits |= f.archive
		}
	}
	return bits
}

// fromArchive also returns the mask of all kernel flags that bits speaks of.
func fromArchive(bits uint64, table []flagBit, early bool) (flags, mask uint32) {
	for _, f := range table {
		if early && !f.early {
			continue
		}
		mask |= f.kernel
		if bits&f.archive != 0 {
			flags |= f.kernel
		}
	}
	return flags, mask
}

// readFlags returns the inode flags of an open file or directory as an
// archive keeps them.
func readFlags(fd int, vol *Volume) (uint64, error) {
	if vol.noFlags.Load() {
		return 0, nil
	}
	var bits uint64
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err == nil {
		bits = toArchive(flags, inodeFlags)
	} else if !Lacks(err) {
		return 0, err
	}
	if !vol.fat {
		vol.noFlags.Store(err != nil)
		return bits, nil
	}
	attributes, err := unix.IoctlGetUint32(fd, ioctlGetFAT)
	if err != nil {
		return bits, err
	}
	return bits | toArchive(attributes, fatFlags), nil
}

// WriteFlags sets the inode flags of an archive: the early ones on a file
// that is still empty, all of them at the very end. Flags that no archive
// keeps stay as the file system made them.
func WriteFlags(fd int, bits uint64, early bool) error {
	want, mask := fromArchive(bits, inodeFlags, early)
	if want != 0 {
		if err := changeFlags(fd, unix.FS_IOC_GETFLAGS, unix.FS_IOC_SETFLAGS, want, mask); err != nil {
			return err
		}
	}
	want, mask = fromArchive(bits, fatFlags, early)
	if want == 0 {
		return nil
	}
	return changeFlags(fd, ioctlGetFAT, ioctlSetFAT, want, mask)
}

func changeFlags(fd int, get, set uint, want, mask uint32) error {
	have, err := unix.IoctlGetUint32(fd, get)
	if err != nil || have&mask == want {
		return err
	}
	return unix.IoctlSetPointerInt(fd, set, int(have&^mask|want))
}

// readProject returns the project id of an open file or directory, 0 if it
// has none.
func readProject(fd int, vol *Volume) (uint64, error) {
	if vol.noProject.Load() {
		return 0, nil
	}
	var x fsxattr
	err := ioctlFsxattr(fd, ioctlGetFsxattr, &x)
	if err != nil && Lacks(err) {
		vol.noProject.Store(true)
		return 0, nil
	}
	return uint64(x.projectID), err
}

func writeProject(fd int, id uint64) error {
	if id>>32 != 0 {
		return unix.ERANGE
	}
	var x fsxattr
	if err := ioctlFsxattr(fd, ioctlGetFsxattr, &x); err != nil {
		return err
	}
	x.projectID = uint32(id)
	return ioctlFsxattr(fd, ioctlSetFsxattr, &x)
}
