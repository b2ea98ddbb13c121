package cloud

import (
	"errors"
	"io/fs"

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
