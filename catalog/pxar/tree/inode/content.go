//go:build linux

package inode

import (
	"unsafe"

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

// DirectAlign is the multiple of bytes in which files are written past the page
// cache: of place, length and address in memory.
const DirectAlign = 4096

// SetDirect makes writes to fd bypass the page cache, or not any more. It
// reports whether they do.
func SetDirect(fd int, on bool) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return false
	}
	if on {
		flags |= unix.O_DIRECT
	} else {
		flags &^= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
	return on && err == nil
}

// AlignedBuffer returns n bytes of memory that begin at a multiple of
// [DirectAlign].
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+DirectAlign)
	at := -int(uintptr(unsafe.Pointer(&b[0]))) & (DirectAlign - 1)
	return b[at : at+n : at+n]
}

// WriteDirect is Write for a file that bypasses the page cache. What is not a
// whole block, at the end of a file, goes by way of the cache, and so does all
// where the file system does not take it otherwise.
func WriteDirect(fd int, buf []byte, off int64) error {
	whole := len(buf) &^ (DirectAlign - 1)
	err := Write(fd, buf[:whole], off)
	if err == nil && whole == len(buf) {
		return nil
	}
	if err != nil && err != unix.EINVAL {
		return err
	}
	if err != nil {
		whole = 0
	}
	SetDirect(fd, false)
	return Write(fd, buf[whole:], off+int64(whole))
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
