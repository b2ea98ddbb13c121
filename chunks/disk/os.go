package disk

import (
	"io/fs"
	"os"
	"sync/atomic"
)

// OS is the file system of the machine. Its errors are those of package os.
//
// On Linux its files have every optional ability of this package as a method;
// what the disk below cannot do fails with an error that is
// errors.ErrUnsupported. Elsewhere the methods are absent and [Direct] has no
// effect.
type OS struct{}

// OpenFile opens name. With [Direct], a file system that has no such mode
// gets an ordinary open; [Directer] tells.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	return openFile(name, flag, perm)
}

// Rename replaces newname by oldname atomically.
func (OS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// Remove deletes a file or an empty directory.
func (OS) Remove(name string) error { return os.Remove(name) }

// Mkdir makes one directory.
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// ReadDir lists a directory, sorted by name.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Stat describes a file, following symbolic links.
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// A plainFile is an open file with the abilities that every system has.
type plainFile struct {
	file *os.File
}

func (f *plainFile) Name() string { return f.file.Name() }

func (f *plainFile) ReadAt(p []byte, off int64) (int, error) { return f.file.ReadAt(p, off) }

func (f *plainFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.file.WriteAt(p, off)
	return n, diskFull(err)
}

func (f *plainFile) Truncate(size int64) error { return diskFull(f.file.Truncate(size)) }

func (f *plainFile) Sync() error { return diskFull(f.file.Sync()) }

func (f *plainFile) Close() error { return f.file.Close() }

func (f *plainFile) Size() (int64, error) {
	info, err := f.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// lockedFile is a lock for as long as it is open.
type lockedFile struct {
	close  func() error
	closed atomic.Bool
}

func (l *lockedFile) Close() error {
	if l.closed.Swap(true) {
		return fs.ErrClosed
	}
	return l.close()
}
