//go:build linux

package inode

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Volume is what we learn about one mounted file system: that it Lacks a
// feature is found by trying once, not by a table of names.
type Volume struct {
	Dev     uint64 // st_dev
	Virtual bool   // shows the state of the kernel and holds no files
	fat     bool   // has the attributes of FAT

	noXattrs, noFlags, noProject atomic.Bool
}

// Volumes finds the volume of a device.
type Volumes struct {
	mu sync.Mutex

	known map[uint64]*Volume
}

// Of returns the volume of the open directory fd on device dev.
func (v *Volumes) Of(fd int, dev uint64) (*Volume, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if found := v.known[dev]; found != nil {
		return found, nil
	}
	var st unix.Statfs_t
	if err := Again(func() error { return unix.Fstatfs(fd, &st) }); err != nil {
		return nil, err
	}
	magic := uint32(st.Type)
	found := &Volume{Dev: dev, Virtual: slices.Contains(virtualMagics, magic), fat: magic == unix.MSDOS_SUPER_MAGIC}
	if v.known == nil {
		v.known = map[uint64]*Volume{}
	}
	v.known[dev] = found
	return found, nil
}

// virtualMagics are the file systems that only show the state of the kernel.
// Reading one may never end (a tracing pipe) or act on the machine.
var virtualMagics = []uint32{
	unix.AAFS_MAGIC, unix.ANON_INODE_FS_MAGIC, unix.AUTOFS_SUPER_MAGIC, unix.BDEVFS_MAGIC, unix.BINDERFS_SUPER_MAGIC,
	unix.BINFMTFS_MAGIC, unix.BPF_FS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC,
	unix.DEVPTS_SUPER_MAGIC, unix.EFIVARFS_MAGIC, unix.FUTEXFS_SUPER_MAGIC, unix.HUGETLBFS_MAGIC, unix.NSFS_MAGIC,
	unix.OPENPROM_SUPER_MAGIC, unix.PIPEFS_MAGIC, unix.PROC_SUPER_MAGIC, unix.PSTOREFS_MAGIC, unix.RDTGROUP_SUPER_MAGIC,
	unix.SECURITYFS_MAGIC, unix.SELINUX_MAGIC, unix.SMACK_MAGIC, unix.SOCKFS_MAGIC, unix.SYSFS_MAGIC,
	unix.TRACEFS_MAGIC, unix.USBDEVICE_SUPER_MAGIC, unix.XENFS_SUPER_MAGIC,
	0x19800202, // mqueue (ipc/mqueue.c)
	0x62656570, // configfs (fs/configfs/mount.c)
	0x65735543, // fusectl (fs/fuse/control.c)
	0x67596969, // rpc_pipefs (net/sunrpc/rpc_pipe.c)
}

// Lacks reports whether err says that the file system does not know a call.
func Lacks(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.ENOSYS)
}
