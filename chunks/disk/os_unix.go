//go:build darwin || freebsd || linux

package disk

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Lock uses flock, which excludes other processes and other opens of this one.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			break
		}
	}
	if err == nil {
		return &lockedFile{close: f.Close}, nil
	}
	_ = f.Close() // nothing was written
	if err == unix.EWOULDBLOCK {
		err = ErrLocked
	}
	return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
}

// Ident returns the numbers of device and inode.
func (OS) Ident(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", &fs.PathError{Op: "stat", Path: name, Err: fs.ErrInvalid}
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}
