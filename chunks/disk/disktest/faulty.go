package disktest

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Faulty is a file system that fails when its hook says so, and else does what
// the one below does. Its files have every optional ability as a method; what
// the file below lacks fails with errors.ErrUnsupported. After [ErrCrashed]
// everything fails, but nothing is lost: only [Mem] can lose what was not
// synced.
type Faulty struct {
	Faults

	below disk.FS
}

// NewFaulty returns a file system over below without faults.
func NewFaulty(below disk.FS) *Faulty { return &Faulty{below: below} }

// OpenFile opens or creates a file.
func (f *Faulty) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	op := Op{Kind: Open, Name: name}
	if flag&os.O_CREATE != 0 {
		op.Kind = Create
	}
	if err := f.before(op); err != nil {
		return nil, err
	}
	file, err := f.below.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultyFile{f, file}, nil
}

// Rename replaces newname by oldname.
func (f *Faulty) Rename(oldname, newname string) error {
	if err := f.before(Op{Kind: Rename, Name: oldname, NewName: newname}); err != nil {
		return err
	}
	return f.below.Rename(oldname, newname)
}

// Remove deletes a file or an empty directory.
func (f *Faulty) Remove(name string) error {
	if err := f.before(Op{Kind: Remove, Name: name}); err != nil {
		return err
	}
	return f.below.Remove(name)
}

// Mkdir makes a directory.
func (f *Faulty) Mkdir(name string, perm fs.FileMode) error {
	if err := f.before(Op{Kind: Mkdir, Name: name}); err != nil {
		return err
	}
	return f.below.Mkdir(name, perm)
}

// ReadDir lists a directory, sorted by name.
func (f *Faulty) ReadDir(name string) ([]fs.DirEntry, error) {
	return ask(f, Op{Kind: ReadDir, Name: name}, f.below.ReadDir)
}

// Stat describes a file or directory.
func (f *Faulty) Stat(name string) (fs.FileInfo, error) {
	return ask(f, Op{Kind: Stat, Name: name}, f.below.Stat)
}

// SyncDir makes the names in a directory durable.
func (f *Faulty) SyncDir(name string) error {
	if err := f.before(Op{Kind: SyncDir, Name: name}); err != nil {
		return err
	}
	return f.below.SyncDir(name)
}

// Lock takes a lock.
func (f *Faulty) Lock(name string) (io.Closer, error) {
	return ask(f, Op{Kind: Lock, Name: name}, f.below.Lock)
}

// Space says how full the file system is.
func (f *Faulty) Space(name string) (disk.Space, error) {
	return ask(f, Op{Kind: Space, Name: name}, f.below.Space)
}

// Ident tells directories apart.
func (f *Faulty) Ident(name string) (string, error) {
	return ask(f, Op{Kind: Ident, Name: name}, f.below.Ident)
}

func ask[T any](f *Faulty, op Op, below func(string) (T, error)) (T, error) {
	if err := f.before(op); err != nil {
		var none T
		return none, err
	}
	return below(op.Name)
}

// A faultyFile is an open file of a Faulty.
type faultyFile struct {
	fs   *Faulty
	file disk.File
}

// before is asked before an operation.
func (f *faultyFile) before(kind Kind, off, n int64) error {
	return f.fs.before(Op{Kind: kind, Name: f.file.Name(), Off: off, Len: n})
}

func (f *faultyFile) Name() string { return f.file.Name() }

func (f *faultyFile) Close() error { return f.file.Close() }

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.before(Read, off, int64(len(p))); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, off)
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.before(Write, off, int64(len(p)))
	if err == nil {
		return f.file.WriteAt(p, off)
	}
	if n := short(err, len(p)); n > 0 {
		n, below := f.file.WriteAt(p[:n], off)
		return n, errors.Join(err, below)
	}
	return 0, err
}

func (f *faultyFile) Size() (int64, error) {
	if err := f.before(Stat, 0, 0); err != nil {
		return 0, err
	}
	return f.file.Size()
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.before(Truncate, 0, size); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func (f *faultyFile) Sync() error {
	if err := f.before(Sync, 0, 0); err != nil {
		return err
	}
	return f.file.Sync()
}

// Direct tells whether the file is open past the page cache.
func (f *faultyFile) Direct() bool {
	d, ok := f.file.(disk.Directer)
	return ok && d.Direct()
}

func (f *faultyFile) Punch(off, n int64) error {
	if err := f.before(Punch, off, n); err != nil {
		return err
	}
	if p, ok := f.file.(disk.Puncher); ok {
		return p.Punch(off, n)
	}
	return errors.ErrUnsupported
}

func (f *faultyFile) CloneRange(off int64, src disk.File, srcOff, n int64) error {
	if err := f.before(Clone, off, n); err != nil {
		return err
	}
	if s, ok := src.(*faultyFile); ok {
		src = s.file
	}
	if c, ok := f.file.(disk.Cloner); ok {
		return c.CloneRange(off, src, srcOff, n)
	}
	return errors.ErrUnsupported
}

func (f *faultyFile) Map() ([]byte, func() error, error) {
	if err := f.before(Map, 0, 0); err != nil {
		return nil, nil, err
	}
	if m, ok := f.file.(disk.Mapper); ok {
		return m.Map()
	}
	return nil, nil, errors.ErrUnsupported
}

func (f *faultyFile) Allocated() (int64, error) {
	if err := f.before(Stat, 0, 0); err != nil {
		return 0, err
	}
	if e, ok := f.file.(disk.Extenter); ok {
		return e.Allocated()
	}
	return 0, errors.ErrUnsupported
}

func (f *faultyFile) NextHole(off int64) (start, end int64, err error) {
	if err := f.before(Stat, off, 0); err != nil {
		return 0, 0, err
	}
	if e, ok := f.file.(disk.Extenter); ok {
		return e.NextHole(off)
	}
	return 0, 0, errors.ErrUnsupported
}

// Plain returns fsys without optional abilities: its files have the methods of
// disk.File and no others.
func Plain(fsys disk.FS) disk.FS { return plain{fsys} }

type plain struct{ disk.FS }

func (p plain) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := p.FS.OpenFile(name, flag&^disk.Direct, perm)
	if err != nil {
		return nil, err
	}
	return struct{ disk.File }{f}, nil
}
