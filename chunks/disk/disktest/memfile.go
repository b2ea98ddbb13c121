package disktest

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A memFile is an open file of a Mem.
type memFile struct {
	mem    *Mem
	ino    *inode
	name   string
	flag   int
	closed bool // guarded by mem.mu
}

func (f *memFile) Name() string { return f.name }

// begin starts an operation, as Mem.begin does, on an open file.
func (f *memFile) begin(op Op) error {
	if err := f.mem.begin(op); err != nil {
		return err
	}
	if err := f.allowed(op); err != nil {
		f.mem.mu.Unlock()
		return failure(op, err)
	}
	return nil
}

// allowed checks op against how the file was opened.
func (f *memFile) allowed(op Op) error {
	mode := f.flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
	changes := op.Kind.Changes() && op.Kind != Sync
	switch {
	case f.closed:
		return fs.ErrClosed
	case changes && mode == os.O_RDONLY, op.Kind == Read && mode == os.O_WRONLY:
		return syscall.EBADF
	case op.Off < 0 || op.Len < 0:
		return syscall.EINVAL
	}
	return nil
}

// change does c now, and remembers that a crash may undo it.
func (m *Mem) change(i *inode, c change) {
	switch c.kind {
	case Truncate:
		m.truncate(&i.live, c.off)
	case Punch:
		m.zero(&i.live, c.off, c.n)
	}
	i.modified = time.Now()
	i.pending = append(i.pending, c)
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	op := Op{Kind: Read, Name: f.name, Off: off, Len: int64(len(p))}
	if err := f.begin(op); err != nil {
		return 0, err
	}
	defer f.mem.mu.Unlock()
	if f.flag&disk.Direct != 0 && !disk.IsAligned(p, off) {
		return 0, failure(op, syscall.EINVAL)
	}
	n := int(max(0, min(int64(len(p)), f.ino.live.size-off)))
	f.ino.live.readAt(p[:n], off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	op := Op{Kind: Write, Name: f.name, Off: off, Len: int64(len(p))}
	err := f.begin(op)
	if n := short(err, len(p)); n > 0 {
		f.mem.mu.Lock()
		defer f.mem.mu.Unlock()
		return f.write(p[:n], off), err
	}
	if err != nil {
		return 0, err
	}
	defer f.mem.mu.Unlock()
	if f.flag&disk.Direct != 0 && !disk.IsAligned(p, off) {
		return 0, failure(op, syscall.EINVAL)
	}
	n := f.write(p, off)
	if n < len(p) {
		return n, failure(op, syscall.ENOSPC)
	}
	return n, nil
}

func (f *memFile) write(p []byte, off int64) int {
	n := f.mem.writeAt(&f.ino.live, p, off)
	if n > 0 {
		f.mem.change(f.ino, change{kind: Write, off: off, n: int64(n), data: bytes.Clone(p[:n])})
	}
	return n
}

func (f *memFile) Truncate(size int64) error {
	if err := f.begin(Op{Kind: Truncate, Name: f.name, Len: size}); err != nil {
		return err
	}
	defer f.mem.mu.Unlock()
	f.mem.change(f.ino, change{kind: Truncate, off: size})
	return nil
}

func (f *memFile) Sync() error {
	if err := f.begin(Op{Kind: Sync, Name: f.name}); err != nil {
		return err
	}
	defer f.mem.mu.Unlock()
	f.ino.save()
	return nil
}

// Close always succeeds once, even after a crash.
func (f *memFile) Close() error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	f.ino.opens--
	f.mem.release(f.ino)
	return nil
}

func (f *memFile) Size() (int64, error) {
	if err := f.begin(Op{Kind: Stat, Name: f.name}); err != nil {
		return 0, err
	}
	defer f.mem.mu.Unlock()
	return f.ino.live.size, nil
}

// Direct tells whether the file is open past the page cache, which it would be
// if there were one.
func (f *memFile) Direct() bool {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	return f.flag&disk.Direct != 0 && !f.mem.off.Direct
}

func (f *memFile) Punch(off, n int64) error {
	op := Op{Kind: Punch, Name: f.name, Off: off, Len: n}
	if err := f.begin(op); err != nil {
		return err
	}
	defer f.mem.mu.Unlock()
	switch {
	case f.mem.off.Punch:
		return failure(op, syscall.EOPNOTSUPP)
	case n == 0:
		return failure(op, syscall.EINVAL)
	}
	f.mem.change(f.ino, change{kind: Punch, off: off, n: max(0, min(n, f.ino.live.size-off))})
	return nil
}

func (f *memFile) CloneRange(off int64, src disk.File, srcOff, n int64) error {
	op := Op{Kind: Clone, Name: f.name, Off: off, Len: n}
	if err := f.begin(op); err != nil {
		return err
	}
	defer f.mem.mu.Unlock()
	s, ok := src.(*memFile)
	switch {
	case f.mem.off.Clone:
		return failure(op, syscall.EOPNOTSUPP)
	case !ok || s.mem != f.mem:
		return failure(op, syscall.EXDEV)
	case s.closed:
		return failure(op, fs.ErrClosed)
	case (off|srcOff|n)%pageSize != 0 || srcOff < 0 || srcOff+n > s.ino.live.size,
		s.ino == f.ino && off < srcOff+n && srcOff < off+n:
		return failure(op, syscall.EINVAL)
	}
	c := change{kind: Clone, off: off, n: n}
	for i := range n / pageSize {
		pg := s.ino.live.pages[srcOff/pageSize+i]
		f.mem.share(&f.ino.live, off/pageSize+i, pg)
		var b *block
		if pg != nil {
			pg.frozen = true
			b = pg.block
		}
		c.blocks = append(c.blocks, b)
	}
	f.ino.live.size = max(f.ino.live.size, off+n)
	f.mem.change(f.ino, c)
	return nil
}

// Map returns a copy of the content. When it is unmapped, the copy is
// overwritten, so that whoever still uses it notices.
func (f *memFile) Map() ([]byte, func() error, error) {
	op := Op{Kind: Map, Name: f.name}
	if err := f.begin(op); err != nil {
		return nil, nil, err
	}
	defer f.mem.mu.Unlock()
	if f.mem.off.Map {
		return nil, nil, failure(op, syscall.EOPNOTSUPP)
	}
	data := make([]byte, f.ino.live.size)
	f.ino.live.readAt(data, 0)
	unmap := sync.OnceValue(func() error {
		for i := range data {
			data[i] = 0xdb
		}
		return nil
	})
	return data, unmap, nil
}

func (f *memFile) Allocated() (int64, error) {
	if err := f.begin(Op{Kind: Stat, Name: f.name}); err != nil {
		return 0, err
	}
	defer f.mem.mu.Unlock()
	return int64(len(f.ino.live.pages)) * pageSize, nil
}

func (f *memFile) NextHole(off int64) (start, end int64, err error) {
	if err := f.begin(Op{Kind: Stat, Name: f.name, Off: off}); err != nil {
		return 0, 0, err
	}
	defer f.mem.mu.Unlock()
	start, end = f.ino.live.nextHole(off)
	return start, end, nil
}
