package cache

import (
	"io/fs"
	"sync/atomic"
	"syscall"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// full is a file system that has no room left while it says so.
type full struct {
	disk.OS
	full atomic.Bool
}

func (f *full) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	file, err := f.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &fullFile{file, f}, nil
}

type fullFile struct {
	disk.File
	f *full
}

func (f *fullFile) WriteAt(b []byte, off int64) (int, error) {
	if f.f.full.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.WriteAt(b, off)
}
