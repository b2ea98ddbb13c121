package disk

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// usage is what the kernel says of a quota: struct if_dqblk of linux/quota.h.
type usage struct {
	bytesHard, bytesSoft   uint64 // in units of 1 KiB
	bytes                  uint64
	inodesHard, inodesSoft uint64
	inodes                 uint64
	bytesTime, inodesTime  uint64
	valid                  uint32
	_                      uint32
}

// getQuota is Q_GETQUOTA, which the kernel wants beside the kind of a quota.
const getQuota = 0x800007 << 8

// attributes is struct fsxattr of linux/fs.h, whose project a file belongs to.
type attributes struct {
	flags, extent, extents, project, cow uint32
	_                                    [8]byte
}

const getAttributes = 0x801c581f // FS_IOC_FSGETXATTR

func quotas(dir string) (all []Quota) {
	d, err := os.Open(dir)
	if err != nil {
		return nil // whoever wants to work there is told
	}
	defer d.Close() // it was only asked about
	fd := d.Fd()
	var a attributes
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, fd, getAttributes, uintptr(unsafe.Pointer(&a))) // else there are no projects
	for kind, who := range []struct {
		of string
		id int
	}{{"user", os.Geteuid()}, {"group", os.Getegid()}, {"project", int(a.project)}} {
		if who.id == 0 {
			continue // root, and what belongs to no project, has no limit
		}
		var u usage
		_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, fd, uintptr(getQuota|kind), uintptr(who.id), uintptr(unsafe.Pointer(&u)), 0, 0)
		if errno != 0 {
			continue // there is none, or the kernel is too old, or this process may not know
		}
		if s, limited := u.space(); limited {
			all = append(all, Quota{who.of, s})
		}
	}
	return all
}

// space returns a quota as the size of a file system; false if it has no limit.
func (u usage) space() (s Space, limited bool) {
	s.TotalBytes, s.FreeBytes = left(clip(first(u.bytesHard, u.bytesSoft), 1024), clip(u.bytes, 1))
	s.TotalInodes, s.FreeInodes = left(clip(first(u.inodesHard, u.inodesSoft), 1), clip(u.inodes, 1))
	return s, s.TotalBytes > 0 || s.TotalInodes > 0
}

func first(hard, soft uint64) uint64 {
	if hard > 0 {
		return hard
	}
	return soft
}

// left returns a limit, 0 if there is none, and what is left of it.
func left(limit, used int64) (total, free int64) {
	if limit == 0 {
		return 0, 0
	}
	return limit, max(0, limit-used)
}
