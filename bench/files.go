package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// files is the peer: a store with a file for each chunk, laid out as Proxmox
// Backup Server does, written as it writes (look, temporary file, rename).
type files struct {
	dir   string
	sync  bool // fsync each file
	fan   int  // directories; PBS has 65,536
	round int
}

func newFiles(dir string, fan int) (*files, error) {
	f := &files{dir: dir, fan: fan}
	for i := range fan {
		if err := os.Mkdir(f.shard(i), 0o700); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *files) shard(i int) string { return filepath.Join(f.dir, fmt.Sprintf("%04x", i)) }

func (f *files) name(d chunks.Digest) string {
	return filepath.Join(f.shard((int(d[0])<<8|int(d[1]))*f.fan>>16), d.String())
}

func (f *files) put(d chunks.Digest, b chunks.Blob) error {
	name := f.name(d)
	if _, err := os.Lstat(name); err == nil {
		return nil
	}
	if err := b.Check(); err != nil {
		return err
	}
	tmp, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := tmp.Write(b); err != nil {
		return err
	}
	if f.sync {
		if err := tmp.Sync(); err != nil {
			return err
		}
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

// commit is what PBS does at the end of a backup by default.
func (f *files) commit() error {
	d, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// collect does what a garbage collection of PBS does to the files, short of
// removing any: touch the access time of the live ones, then look at all.
func (f *files) collect(live []chunks.Digest) (mark, sweep time.Duration, err error) {
	began := time.Now()
	for _, d := range live {
		now := unix.NsecToTimespec(time.Now().UnixNano())
		keep := unix.Timespec{Nsec: unix.UTIME_OMIT}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, f.name(d), []unix.Timespec{now, keep}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return 0, 0, err
		}
	}
	mark = time.Since(began)
	began = time.Now()
	for i := range f.fan {
		entries, err := os.ReadDir(f.shard(i))
		if err != nil {
			return 0, 0, err
		}
		for _, e := range entries {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(f.shard(i), e.Name()), &st); err != nil {
				return 0, 0, err
			}
		}
	}
	return mark, time.Since(began), nil
}
