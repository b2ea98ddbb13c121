package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// lock takes the directory for this process alone, until the result is closed
// or the process ends.
func lock(dir string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			pid := make([]byte, 20)
			n, _ := f.Read(pid) // it is only for the message
			err = &hinted{fmt.Errorf("process %s has it", bytes.TrimSpace(pid[:n])), "one daemon at a time: see `systemctl status holdfast`"}
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

// owner returns the user and group that path belongs to.
func owner(path string) (uid, gid int, err error) {
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
