//go:build linux

package inode

import (
	"golang.org/x/sys/unix"
)

// Read reads at off until buf is full or the file ends.
func Read(fd int, buf []byte, off int64) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := unix.Pread(fd, buf[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		default:
			n += m
		}
	}
	return n, nil
}

// Write writes all of buf at off.
func Write(fd int, buf []byte, off int64) error {
	for len(buf) > 0 {
		n, err := unix.Pwrite(fd, buf, off)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		default:
			buf, off = buf[n:], off+int64(n)
		}
	}
	return nil
}
