package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFile opens name, and leaves the page cache out only then: a file system
// that has no such mode (some in memory, in user space or on a network)
// refuses O_DIRECT with EINVAL after it has created the file.
func openFile(name string, flag int, perm fs.FileMode) (File, error) {
	file, err := os.OpenFile(name, flag&^Direct, perm)
	if err != nil {
		return nil, err
	}
	f := &linuxFile{plainFile: plainFile{file}}
	f.direct = flag&Direct != 0 && f.control("bypass the page cache of", bypassCache) == nil
	return f, nil
}

func bypassCache(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_DIRECT)
	}
	return err
}

// A linuxFile has every optional ability as a method, and the file system
// below decides which of them work.
type linuxFile struct {
	plainFile
	direct bool
}

// Direct tells whether the file is open past the page cache.
func (f *linuxFile) Direct() bool { return f.direct }

// ReadAt reads like os.File, which goes on after a short read. At the end of
// a file whose length is no multiple of DirectAlign that next read is not
// aligned, and a strict file system refuses what others answer with 0 bytes.
func (f *linuxFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.file.ReadAt(p, off)
	if f.direct && n%DirectAlign != 0 && errors.Is(err, unix.EINVAL) {
		return n, io.EOF
	}
	return n, err
}

// Sync uses fdatasync, which leaves out times but not the length.
func (f *linuxFile) Sync() error {
	return f.control("fdatasync", unix.Fdatasync)
}

func (f *linuxFile) Punch(off, n int64) error {
	return f.control("punch hole", func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

func (f *linuxFile) CloneRange(off int64, src File, srcOff, n int64) error {
	s, ok := src.(*linuxFile)
	if !ok {
		return &fs.PathError{Op: "clone range", Path: f.Name(), Err: fmt.Errorf("from a %T: %w", src, errors.ErrUnsupported)}
	}
	if n == 0 {
		return nil // the kernel would take 0 for "up to the end"
	}
	return s.control("clone range of", func(from int) error {
		return f.control("clone range", func(to int) error {
			return unix.IoctlFileCloneRange(to, &unix.FileCloneRange{
				Src_fd: int64(from), Src_offset: uint64(srcOff), Src_length: uint64(n), Dest_offset: uint64(off),
			})
		})
	})
}

func (f *linuxFile) Map() ([]byte, func() error, error) {
	size, err := f.Size()
	if err != nil || size == 0 {
		return nil, func() error { return nil }, err // the kernel refuses to map nothing
	}
	if size > math.MaxInt {
		return nil, nil, &fs.PathError{Op: "map", Path: f.Name(), Err: unix.EFBIG}
	}
	var data []byte
	err = f.control("map", func(fd int) (err error) {
		data, err = unix.Mmap(fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
		if err == unix.ENODEV {
			err = unix.EOPNOTSUPP
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return data, sync.OnceValue(func() error { return unix.Munmap(data) }), nil
}

func (f *linuxFile) Allocated() (int64, error) {
	var st unix.Stat_t
	err := f.control("stat", func(fd int) error { return unix.Fstat(fd, &st) })
	return st.Blocks * 512, err // 512 whatever the block size: stat(2)
}

func (f *linuxFile) NextHole(off int64) (start, end int64, err error) {
	size, err := f.Size()
	if err != nil || off >= size {
		return size, size, err
	}
	err = f.control("seek hole", func(fd int) (err error) {
		start, err = unix.Seek(fd, off, unix.SEEK_HOLE)
		return err
	})
	if err != nil || start >= size { // the end of a file counts as a hole
		return size, size, err
	}
	err = f.control("seek data", func(fd int) (err error) {
		end, err = unix.Seek(fd, start, unix.SEEK_DATA)
		if err == unix.ENXIO { // no more data
			end, err = size, nil
		}
		return err
	})
	return start, min(end, size), err
}

// control calls fn with the descriptor, again while a signal interrupts it.
// The descriptor cannot be closed and reused meanwhile.
func (f *plainFile) control(op string, fn func(fd int) error) error {
	raw, err := f.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = retry(func() error { return fn(int(fd)) })
	})
	if err != nil {
		failed = fs.ErrClosed // nothing else can go wrong
	}
	if failed != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: failed}
	}
	return nil
}

// retry calls fn until no signal interrupts it.
func retry(fn func() error) error {
	for {
		if err := fn(); err != syscall.EINTR {
			return err
		}
	}
}

// SyncDir makes the entries of a directory durable. File systems that cannot
// sync a directory (some in user space, some on a network) say EINVAL; on
// those there is nothing that we could do.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close() // it was only read
	if err := d.Sync(); !errors.Is(err, unix.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// Space asks statfs.
func (OS) Space(name string) (Space, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(name, &st) }); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	unit := uint64(st.Frsize)
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	return Space{
		TotalBytes: clip(st.Blocks, unit), FreeBytes: clip(st.Bavail, unit), ReservedBytes: clip(max(st.Bfree, st.Bavail)-st.Bavail, unit),
		TotalInodes: clip(st.Files, 1), FreeInodes: clip(st.Ffree, 1),
	}, nil
}

// clip returns n*unit, or the largest int64: network file systems report
// sizes that mean "unlimited".
func clip(n, unit uint64) int64 {
	if unit != 0 && n > math.MaxInt64/unit {
		return math.MaxInt64
	}
	return int64(n * unit)
}

// diskFull leaves err alone: here it is ENOSPC already.
func diskFull(err error) error { return err }
