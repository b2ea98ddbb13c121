//go:build linux

package inode

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Flags for [Open]. Every name is opened relative to the descriptor of its
// directory and without following a symlink, so nobody who changes the tree
// meanwhile can lead us elsewhere, and no path grows too long for the kernel.
// O_NONBLOCK keeps us from hanging where a fifo has taken the place of a file.
const (
	DirFlags  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	FileFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
)

// An ID is what the kernel knows a file by, whatever its names.
type ID struct{ Dev, Ino uint64 }

// IDOf returns the ID of what st was read from.
func IDOf(st *unix.Stat_t) ID { return ID{uint64(st.Dev), uint64(st.Ino)} }

// Stat is fstat(2) of an open file; the conversions of fields differ between machines.
func Stat(fd int) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	return st, Again(func() error { return unix.Fstat(fd, st) })
}

// Again repeats f for as long as a signal interrupts it.
func Again(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Open is openat(2). It never follows a symlink with the flags of this package.
func Open(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// OpenQuietly opens name to be read without leaving a trace in its access
// time, which only its owner and root may do.
func OpenQuietly(dir int, name string, flags int) (int, error) {
	fd, err := Open(dir, name, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		return Open(dir, name, flags, 0)
	}
	return fd, err
}

// ReopenParent opens the directory above child and makes sure that it is the
// one that was there before.
func ReopenParent(child int, want ID) (int, error) {
	fd, err := OpenQuietly(child, "..", DirFlags)
	if err != nil {
		return -1, err
	}
	if err := Is(fd, want); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Is fails unless fd is the inode want.
func Is(fd int, want ID) error {
	st, err := Stat(fd)
	if err == nil && IDOf(st) != want {
		err = ErrMoved
	}
	return err
}

// IsDir reports whether name is a directory.
func IsDir(dir int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// IsRegular reports whether name is a regular file.
func IsRegular(dir int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// Readlink returns where the symlink name leads to, or [ErrKind].
func Readlink(dir int, name string) (string, error) {
	var buf [unix.PathMax + 1]byte
	n, err := unix.Readlinkat(dir, name, buf[:])
	switch {
	case err == unix.EINVAL:
		return "", ErrKind
	case err != nil:
		return "", err
	}
	return string(buf[:n]), nil
}
