package cloud

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// hasty is the machine's file system, but it does not wait for the disk: no test
// here loses power, and processes that die lose nothing that was written.
type hasty struct{ disk.OS }

func (h hasty) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := h.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return hastyFile{f}, nil
}

func (hasty) SyncDir(string) error { return nil }

type hastyFile struct{ disk.File }

func (hastyFile) Sync() error { return nil }

func (f hastyFile) Map() ([]byte, func() error, error) {
	if m, ok := f.File.(disk.Mapper); ok {
		return m.Map()
	}
	return nil, nil, errors.ErrUnsupported
}

func (f hastyFile) Punch(off, n int64) error {
	if p, ok := f.File.(disk.Puncher); ok {
		return p.Punch(off, n)
	}
	return errors.ErrUnsupported
}

func (f hastyFile) Allocated() (int64, error) {
	if e, ok := f.File.(disk.Extenter); ok {
		return e.Allocated()
	}
	return 0, errors.ErrUnsupported
}

func (f hastyFile) NextHole(off int64) (start, end int64, err error) {
	if e, ok := f.File.(disk.Extenter); ok {
		return e.NextHole(off)
	}
	return 0, 0, errors.ErrUnsupported
}

// crowded is a disk with room for one pack that is on its way.
type crowded struct{ hasty }

func (c crowded) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if strings.HasSuffix(name, "/new.pack") {
		files, err := c.ReadDir(path.Dir(name))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if strings.HasSuffix(f.Name(), ".pack") {
				return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
			}
		}
	}
	return c.hasty.OpenFile(name, flag, perm)
}

// A disk that is nearly full is what an offload is for: with room for one pack
// it sends one after the other.
func TestOffloadFromAFullDisk(t *testing.T) {
	s := newSite(t, true)
	st := s.node(t.TempDir(), func(c *Config) { c.FS, c.PackBytes = crowded{}, 150_000 })
	if err := st.Acquire(t.Context(), AcquireOptions{}); err != nil {
		t.Fatal(err)
	}
	all := put(t, st, 60_000, 1, 8)
	s.proxy.Delay(20 * time.Millisecond) // so that a pack is on its way when the next is built
	r, err := st.Offload(t.Context(), OffloadOptions{})
	if err != nil || r.Evicted != len(all) || r.Packs < 3 {
		t.Errorf("offload: %+v, %v", r, err)
	}
	wantAll(t, st, all)
}
