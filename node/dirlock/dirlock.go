// Package dirlock lets one process at a time have a directory, and says whose it
// is.
package dirlock

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// File is what is locked, in the directory. The number of the process that has
// it is in there.
const File = "lock"

// A TakenError says that another process has the directory.
type TakenError struct{ PID string }

func (e *TakenError) Error() string { return "process " + e.PID + " has it" }

// Hint is printed on its own line below the error.
func (e *TakenError) Hint() string {
	return "one daemon at a time: see `systemctl status holdfast`"
}

// Take takes a directory for this process alone, until the result is closed or
// the process ends.
func Take(dir string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, File), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			pid := make([]byte, 20)
			n, _ := f.Read(pid) // it is only for the message
			err = &TakenError{string(bytes.TrimSpace(pid[:n]))}
		}
		f.Close() // nothing was written
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		f.Close() // gives the lock back
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// Owner returns the user and group that path belongs to.
func Owner(path string) (uid, gid int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fmt.Errorf("owner of %s: %w", path, errors.ErrUnsupported)
	}
	return int(s.Uid), int(s.Gid), nil
}

// GiveAway makes all in dir belong to the owner of dir, if root has made it.
func GiveAway(dir string) error {
	uid, gid, err := Owner(dir)
	if err != nil || os.Geteuid() != 0 || uid == 0 {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}
