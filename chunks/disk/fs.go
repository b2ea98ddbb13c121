// Package disk is the file system as a datastore sees it.
//
// Everything that a store keeps goes through an [FS], so that a test can put
// the machine's own file system ([OS]) aside and use a twin that counts,
// fails, fills up or loses power at a chosen call (package disktest). What a
// file system may or may not be able to do (punch holes, share blocks, map a
// file) is an interface of its own, found by assertion on a [File]; whether
// it works on the disk at hand is found by trying ([Probe]), and what does not
// fails with an error that is errors.ErrUnsupported.
//
// On top of that stand three things that every store needs: a file replaced
// as a whole ([WriteFileAtomic]), directories that survive a power cut
// ([MkdirAll]), and a log of small records ([Journal]).
package disk

import (
	"errors"
	"io"
	"io/fs"
)

// An FS is a file system. Names are slash-separated paths. Errors satisfy
// errors.Is with fs.ErrNotExist, fs.ErrExist, fs.ErrPermission and
// syscall.ENOSPC where these apply.
type FS interface {
	// OpenFile opens name with the os.O_* flags given, and [Direct]. Created
	// files and directories are durable only after SyncDir of their parent.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)

	// Rename replaces newname by oldname atomically. It is durable only after
	// SyncDir of the parent (of both parents, if they differ).
	Rename(oldname, newname string) error

	Remove(name string) error
	Mkdir(name string, perm fs.FileMode) error
	ReadDir(name string) ([]fs.DirEntry, error) // sorted by name
	Stat(name string) (fs.FileInfo, error)

	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error

	// Lock takes an exclusive lock on the file name, creating it if need be,
	// for as long as the process lives or until the result is closed. It
	// fails with [ErrLocked] at once if another holder has it, in this
	// process or another.
	Lock(name string) (io.Closer, error)

	// Space says how full the file system of name is.
	Space(name string) (Space, error)

	// Ident tells two directories apart: it stays the same for as long as
	// the directory is not copied to another place (device and inode).
	Ident(name string) (string, error)
}

// A File is an open file. ReadAt and WriteAt may be called concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Size() (int64, error)
	Truncate(size int64) error

	// Sync makes content and length durable (fdatasync). After an error
	// nothing is known of what was written since the last success, and
	// calling again proves nothing: the kernel may have dropped the pages.
	Sync() error
}

// Direct asks OpenFile to bypass the page cache where the file system can.
// Offsets, lengths and memory of every call must then be multiples of
// [DirectAlign]; [AlignedBuffer] makes such memory. It shares no bit with the
// os.O_* flags.
const Direct = 1 << 30

// DirectAlign is the alignment in bytes that Direct needs on every disk we
// know of, and the block size on which holes and shared extents begin.
const DirectAlign = 4096

// A Directer tells whether a file opened with [Direct] does bypass the page
// cache, or got an ordinary open because the file system cannot.
type Directer interface{ Direct() bool }

// ErrLocked says that another process, or another store in this one, holds
// the lock.
var ErrLocked = errors.New("locked by another process")

// Space is the size of a file system. Inodes are 0 where it has no limit.
type Space struct {
	TotalBytes, FreeBytes   int64 // free to this user, without the reserve
	ReservedBytes           int64 // free, but not to this user
	TotalInodes, FreeInodes int64
}

// Used returns how many bytes files take.
func (s Space) Used() int64 { return s.TotalBytes - s.FreeBytes - s.ReservedBytes }

// A Puncher can give the space of a part of a file back: [off, off+n) reads
// as zeros afterwards, the length stays.
type Puncher interface{ Punch(off, n int64) error }

// A Cloner can share blocks: [off, off+n) of the receiver becomes a copy of
// the same number of bytes at srcOff of src without moving data. All three
// numbers are multiples of DirectAlign.
type Cloner interface {
	CloneRange(off int64, src File, srcOff, n int64) error
}

// A Mapper can show its content as memory. The mapping stays valid after the
// file is closed or removed, until unmap is called; a second unmap does
// nothing. Where the disk fails, or the file was cut shorter, reading the
// memory faults, which only runtime/debug.SetPanicOnFault turns into a panic.
type Mapper interface {
	Map() (data []byte, unmap func() error, err error)
}

// An Extenter tells what of a file occupies the disk.
type Extenter interface {
	// Allocated returns the bytes of disk that the file occupies.
	Allocated() (int64, error)

	// NextHole returns the first hole [start, end) at or after off; start is
	// the file's length if there is none.
	NextHole(off int64) (start, end int64, err error)
}
