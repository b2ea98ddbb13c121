//go:build linux

package inode

import (
	"unsafe"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"golang.org/x/sys/unix"
)

// timespecs returns access and modification time as utimensat(2) takes them;
// the access time stays as it is.
func timespecs(m pxar.Timespec) ([]unix.Timespec, error) {
	mtime, err := unix.TimeToTimespec(m.Time())
	return []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}, err
}

// futimens sets the times of an open file: utimensat(2) without a path.
func futimens(fd int, ts []unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts[0])), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// fsxattr is struct fsxattr of linux/fs.h, 28 bytes.
type fsxattr struct {
	flags, extentSize, extents, projectID, cowExtentSize uint32
	_                                                    [8]byte
}

// FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR, FAT_IOCTL_GET_ATTRIBUTES and
// FAT_IOCTL_SET_ATTRIBUTES of linux/fs.h and linux/msdos_fs.h, which x/sys
// does not name. (MIPS, PowerPC and SPARC number them otherwise; there the
// call fails like that of a file system without the feature.)
const (
	ioctlGetFsxattr = 0x801c581f
	ioctlSetFsxattr = 0x401c5820
	ioctlGetFAT     = 0x80047210
	ioctlSetFAT     = 0x40047211
)

func ioctlFsxattr(fd int, request uintptr, x *fsxattr) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(x)))
	if errno != 0 {
		return errno
	}
	return nil
}
