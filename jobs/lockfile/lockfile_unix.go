//go:build unix

// Package lockfile keeps a directory of tasks to one process, and makes its entries durable.
package lockfile

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Lock takes the file name for this process alone, until the result is closed
// or the process ends.
func Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("locked by another process")
		}
		return nil, err
	}
	return f, nil
}

// SyncDir makes the entries of a directory durable.
func SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close() // it was only read
	if err := d.Sync(); !errors.Is(err, unix.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err // some file systems cannot, and need not
	}
	return nil
}
