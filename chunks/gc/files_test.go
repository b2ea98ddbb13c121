package gc

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"os"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

var errNotExist = fs.ErrNotExist

// files is a file system in memory, made for speed: the model checker starts
// a million collectors on it. A crash takes what was not synced from files,
// but for bitmaps, which harm more if they stay; names and removals are kept.
type files struct {
	onSync func() // called by each Sync, before it

	mu sync.Mutex

	all  map[string]*file
	dirs map[string]bool
}

type file struct {
	fs           *files
	name         string
	data, synced []byte
}

func newFiles() *files { return &files{all: map[string]*file{}, dirs: map[string]bool{}} }

// content returns what every file holds.
func (f *files) content() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]string{}
	for name, x := range f.all {
		all[name] = string(x.data)
	}
	return all
}

func (f *files) crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, old := range f.all {
		if path.Base(path.Dir(name)) == "marks" {
			continue
		}
		f.all[name] = &file{fs: f, name: name, data: slices.Clone(old.synced), synced: old.synced}
	}
}

func (f *files) OpenFile(name string, flag int, _ fs.FileMode) (disk.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.all[name]
	if x == nil && flag&os.O_CREATE == 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if x == nil {
		x = &file{fs: f, name: name}
		f.all[name] = x
	}
	if flag&os.O_TRUNC != 0 {
		x.data = nil
	}
	return x, nil
}

func (f *files) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.all[from]
	if x == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	delete(f.all, from)
	x.name = to
	f.all[to] = x
	return nil
}

func (f *files) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	delete(f.all, name)
	return nil
}

func (f *files) Mkdir(name string, _ fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if dir := path.Dir(name); dir != "." && !f.dirs[dir] {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrNotExist}
	}
	if f.dirs[name] {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	f.dirs[name] = true
	return nil
}

func (f *files) ReadDir(name string) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []fs.DirEntry
	for full, x := range f.all {
		if path.Dir(full) == name {
			all = append(all, fs.FileInfoToDirEntry(fileInfo{path.Base(full), int64(len(x.data)), 0}))
		}
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return all, nil
}

func (f *files) Stat(name string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dirs[name] {
		return fileInfo{path.Base(name), 0, fs.ModeDir}, nil
	}
	x := f.all[name]
	if x == nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return fileInfo{path.Base(name), int64(len(x.data)), 0}, nil
}

func (f *files) SyncDir(string) error             { return nil }
func (f *files) Lock(string) (io.Closer, error)   { return nil, errors.ErrUnsupported }
func (f *files) Space(string) (disk.Space, error) { return disk.Space{}, errors.ErrUnsupported }
func (f *files) Ident(string) (string, error)     { return "", errors.ErrUnsupported }
func (x *file) Name() string                      { return x.name }
func (x *file) Close() error                      { return nil }
func (x *file) Size() (int64, error)              { return int64(len(x.data)), nil }
func (x *file) ReadAt(b []byte, o int64) (int, error) {
	x.fs.mu.Lock()
	defer x.fs.mu.Unlock()
	if o >= int64(len(x.data)) {
		return 0, io.EOF
	}
	n := copy(b, x.data[o:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (x *file) WriteAt(b []byte, o int64) (int, error) {
	x.fs.mu.Lock()
	defer x.fs.mu.Unlock()
	if need := int(o) + len(b); need > len(x.data) {
		x.data = append(x.data, make([]byte, need-len(x.data))...)
	}
	return copy(x.data[o:], b), nil
}

func (x *file) Truncate(n int64) error {
	x.fs.mu.Lock()
	defer x.fs.mu.Unlock()
	x.data = append(x.data[:min(int(n), len(x.data))], make([]byte, max(0, int(n)-len(x.data)))...)
	return nil
}

func (x *file) Sync() error {
	if hook := x.fs.onSync; hook != nil {
		hook()
	}
	x.fs.mu.Lock()
	defer x.fs.mu.Unlock()
	x.synced = slices.Clone(x.data)
	return nil
}

type fileInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return i.mode | 0o600 }
func (i fileInfo) ModTime() time.Time { return time.Time{} }
func (i fileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }
