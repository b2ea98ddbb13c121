//go:build darwin || freebsd

package disk

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// SyncDir makes the entries of a directory durable.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close() // it was only read
	return d.Sync()
}

// Space asks statfs.
func (OS) Space(name string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	unit := int64(st.Bsize)
	return Space{
		TotalBytes: int64(st.Blocks) * unit, FreeBytes: max(0, int64(st.Bavail)) * unit,
		TotalInodes: int64(st.Files), FreeInodes: int64(st.Ffree),
	}, nil
}

// diskFull leaves err alone: here it is ENOSPC already.
func diskFull(err error) error { return err }
