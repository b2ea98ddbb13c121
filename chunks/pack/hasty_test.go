package pack

import (
	"errors"
	"io/fs"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// hasty is the machine's file system, but it does not wait for the disk: these
// tests open and close thousands of stores, and none of them loses power.
type hasty struct{ disk.OS }

func (h hasty) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := h.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return hastyFile{f}, nil
}

func (hasty) SyncDir(string) error { return nil }

// Ident says that every directory is the one that it was before.
func (hasty) Ident(string) (string, error) { return "here", nil }

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
