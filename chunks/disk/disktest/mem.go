// Package disktest has file systems that fail on purpose.
//
// [Mem] lives in memory and knows what of it would survive a power cut:
// [Mem.Crash] returns one of the many states in which a disk may wake up. It
// is stricter than any real file system, so what passes on it may rely on what
// package disk promises and on nothing else. [Faulty] injects errors into any
// file system, [Plain] hides the optional abilities of one, and [Run] tests
// that a file system behaves as package disk says.
package disktest

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Mem is a file system in memory, with every optional ability. Content and
// length of a file are durable after File.Sync, a name after SyncDir of its
// directory, and nothing else makes anything durable. It is safe for
// concurrent use. Use [NewMem].
type Mem struct {
	Faults

	mu sync.Mutex

	device int64 // differs between file systems, but not over a crash
	root   *inode
	last   int64 // number of the newest inode
	links  []linkage
	used   int64 // bytes of all pages
	limit  int64 // of used; 0: none
	off    disk.Abilities
}

var devices atomic.Int64

// NewMem returns an empty file system with a root directory, "/".
func NewMem() *Mem {
	m := &Mem{device: devices.Add(1)}
	m.root = m.newInode(fs.ModeDir | 0o755)
	return m
}

func (m *Mem) newInode(mode fs.FileMode) *inode {
	m.last++
	i := &inode{number: m.last, mode: mode, modified: time.Now()}
	if mode.IsDir() {
		i.entries, i.durable = map[string]*inode{}, map[string]*inode{}
	} else {
		i.live.pages, i.saved = map[int64]*page{}, map[int64]*block{}
	}
	return i
}

// SetLimit makes the disk full when its files occupy n bytes, in blocks of
// 4096; 0 takes the limit away.
func (m *Mem) SetLimit(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = n
}

// Disable switches abilities off: those that are true in a. The calls fail
// with an error that is errors.ErrUnsupported, as on Linux; a file opened with
// disk.Direct is an ordinary one, but still minds its alignment. Abilities
// that are absent as methods are what [Plain] is for.
func (m *Mem) Disable(a disk.Abilities) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off = a
}

// begin starts an operation: it takes the lock, or fails.
func (m *Mem) begin(op Op) error {
	if err := m.before(op); err != nil {
		return err
	}
	m.mu.Lock()
	if m.Crashed() { // while we waited
		m.mu.Unlock()
		return failure(op, ErrCrashed)
	}
	return nil
}

// find returns the inode of name.
func (m *Mem) find(name string) (*inode, error) {
	at := m.root
	for part := range strings.SplitSeq(path.Clean("/"+name), "/") {
		if part == "" {
			continue
		}
		if !at.isDir() {
			return nil, syscall.ENOTDIR
		}
		if at = at.entries[part]; at == nil {
			return nil, syscall.ENOENT
		}
	}
	return at, nil
}

// place returns the directory of name, the last part of name, and what is
// there: nil if nothing is.
func (m *Mem) place(name string) (dir *inode, base string, at *inode, err error) {
	name = path.Clean("/" + name)
	dir, err = m.find(path.Dir(name))
	if err != nil {
		return nil, "", nil, err
	}
	if !dir.isDir() {
		return nil, "", nil, syscall.ENOTDIR
	}
	if base = path.Base(name); base == "/" {
		return dir, base, dir, nil
	}
	return dir, base, dir.entries[base], nil
}

// OpenFile opens or creates a file.
func (m *Mem) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	op := Op{Kind: Open, Name: name}
	if flag&os.O_CREATE != 0 {
		op.Kind = Create
	}
	if err := m.begin(op); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	i, err := m.open(name, flag, perm)
	if err != nil {
		return nil, failure(op, err)
	}
	i.opens++
	return &memFile{mem: m, ino: i, name: name, flag: flag}, nil
}

func (m *Mem) open(name string, flag int, perm fs.FileMode) (*inode, error) {
	dir, base, i, err := m.place(name)
	switch {
	case err != nil:
		return nil, err
	case i == nil && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case i == nil:
		i = m.newInode(perm.Perm())
		m.link(entry{dir, base, nil, i})
		return i, nil
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, syscall.EEXIST
	case i.isDir():
		return nil, syscall.EISDIR
	}
	if flag&os.O_TRUNC != 0 {
		m.change(i, change{kind: Truncate})
	}
	return i, nil
}

// Rename replaces newname by oldname. A crash leaves the one or the other.
func (m *Mem) Rename(oldname, newname string) error {
	if err := m.begin(Op{Kind: Rename, Name: oldname, NewName: newname}); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if err := m.rename(path.Clean("/"+oldname), path.Clean("/"+newname)); err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	return nil
}

func (m *Mem) rename(oldname, newname string) error {
	from, oldBase, i, err := m.place(oldname)
	if err != nil {
		return err
	}
	to, newBase, target, err := m.place(newname)
	switch {
	case err != nil:
		return err
	case i == nil:
		return syscall.ENOENT
	case i == target:
		return nil
	case i.isDir() && strings.HasPrefix(newname+"/", oldname+"/"):
		return syscall.EINVAL
	case target != nil && i.isDir() && !target.isDir():
		return syscall.ENOTDIR
	case target != nil && !i.isDir() && target.isDir():
		return syscall.EEXIST // what package os makes of EISDIR
	case target != nil && len(target.entries) > 0:
		return syscall.ENOTEMPTY
	}
	m.link(entry{from, oldBase, i, nil}, entry{to, newBase, target, i})
	m.unlink(target)
	return nil
}

// Remove deletes a file or an empty directory.
func (m *Mem) Remove(name string) error {
	op := Op{Kind: Remove, Name: name}
	if err := m.begin(op); err != nil {
		return err
	}
	defer m.mu.Unlock()
	dir, base, i, err := m.place(name)
	switch {
	case err != nil:
		return failure(op, err)
	case i == nil:
		return failure(op, syscall.ENOENT)
	case len(i.entries) > 0 || i == m.root:
		return failure(op, syscall.ENOTEMPTY)
	}
	m.link(entry{dir, base, i, nil})
	m.unlink(i)
	return nil
}

// unlink is told that i has lost its name.
func (m *Mem) unlink(i *inode) {
	if i != nil {
		i.removed = true
		m.release(i)
	}
}

// release gives the space of i back if nobody can reach it any more. What was
// saved stays with i: a crash may bring its name back.
func (m *Mem) release(i *inode) {
	if i.removed && i.opens == 0 {
		for _, p := range slices.Collect(maps.Keys(i.live.pages)) {
			m.drop(&i.live, p)
		}
	}
}

// Mkdir makes a directory.
func (m *Mem) Mkdir(name string, perm fs.FileMode) error {
	op := Op{Kind: Mkdir, Name: name}
	if err := m.begin(op); err != nil {
		return err
	}
	defer m.mu.Unlock()
	dir, base, i, err := m.place(name)
	if err == nil && i != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return failure(op, err)
	}
	m.link(entry{dir, base, nil, m.newInode(fs.ModeDir | perm.Perm())})
	return nil
}

// ReadDir lists a directory, sorted by name.
func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	op := Op{Kind: ReadDir, Name: name}
	if err := m.begin(op); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	dir, err := m.find(name)
	if err == nil && !dir.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, failure(op, err)
	}
	var list []fs.DirEntry
	for _, base := range slices.Sorted(maps.Keys(dir.entries)) {
		list = append(list, dir.entries[base].info(base))
	}
	return list, nil
}

// Stat describes a file or directory.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	i, err := m.lookUp(Op{Kind: Stat, Name: name})
	if err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return i.info(path.Clean("/" + name)), nil
}

// lookUp begins an operation on op.Name that only looks at its inode.
func (m *Mem) lookUp(op Op) (*inode, error) {
	if err := m.begin(op); err != nil {
		return nil, err
	}
	i, err := m.find(op.Name)
	if err != nil {
		m.mu.Unlock()
		return nil, failure(op, err)
	}
	return i, nil
}

// SyncDir makes the names in a directory durable; not what they stand for.
func (m *Mem) SyncDir(name string) error {
	op := Op{Kind: SyncDir, Name: name}
	dir, err := m.lookUp(op)
	if err != nil {
		return err
	}
	defer m.mu.Unlock()
	if !dir.isDir() {
		return failure(op, syscall.ENOTDIR)
	}
	m.syncDir(dir)
	return nil
}

// Lock takes a lock that a crash releases.
func (m *Mem) Lock(name string) (io.Closer, error) {
	op := Op{Kind: Lock, Name: name}
	if err := m.begin(op); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	i, err := m.open(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil && i.locked {
		err = disk.ErrLocked
	}
	if err != nil {
		return nil, failure(op, err)
	}
	i.locked = true
	return &memLock{m, i, false}, nil
}

type memLock struct {
	mem    *Mem
	ino    *inode
	closed bool
}

func (l *memLock) Close() error {
	l.mem.mu.Lock()
	defer l.mem.mu.Unlock()
	if l.closed {
		return fs.ErrClosed
	}
	l.closed, l.ino.locked = true, false
	return nil
}

// Space reports the limit, or 1 TiB.
func (m *Mem) Space(name string) (disk.Space, error) {
	if _, err := m.lookUp(Op{Kind: Space, Name: name}); err != nil {
		return disk.Space{}, err
	}
	defer m.mu.Unlock()
	total := m.limit
	if total == 0 {
		total = 1 << 40
	}
	return disk.Space{TotalBytes: total, FreeBytes: max(0, total-m.used)}, nil
}

// Ident names the file system and the directory.
func (m *Mem) Ident(name string) (string, error) {
	i, err := m.lookUp(Op{Kind: Ident, Name: name})
	if err != nil {
		return "", err
	}
	defer m.mu.Unlock()
	return fmt.Sprintf("%d:%d", m.device, i.number), nil
}
