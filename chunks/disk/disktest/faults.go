package disktest

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
)

// ErrCrashed is what every operation returns after a crash. A hook that
// returns it makes the file system crash there and then.
var ErrCrashed = errors.New("the machine has lost power")

// A Kind says what an operation does.
type Kind int

// The operations. One that creates a file if need be is a Create, whether or
// not the file was there.
const (
	Open Kind = iota + 1
	Create
	Read
	Write
	Truncate
	Sync
	Punch
	Clone
	Map
	Stat // also File.Size and what Extenter asks
	Rename
	Remove
	Mkdir
	ReadDir
	SyncDir
	Lock
	Space
	Ident
)

var kindNames = [...]string{
	"", "open", "create", "read", "write", "truncate", "sync", "punch", "clone", "map", "stat",
	"rename", "remove", "mkdir", "readdir", "syncdir", "lock", "space", "ident",
}

func (k Kind) String() string { return kindNames[k] }

// Changes tells whether operations of this kind change what a crash leaves
// behind, so that a crash before one differs from a crash after it.
func (k Kind) Changes() bool {
	switch k {
	case Create, Write, Truncate, Sync, Punch, Clone, Rename, Remove, Mkdir, SyncDir, Lock:
		return true
	}
	return false
}

// An Op is one call that is about to be done.
type Op struct {
	Seq      int // 1 is the first of this file system
	Kind     Kind
	Name     string
	NewName  string // of Rename
	Off, Len int64  // of Read, Write, Punch, Clone; Len is the new size of Truncate
}

func (o Op) String() string {
	return fmt.Sprintf("#%d %s %s %s [%d,+%d)", o.Seq, o.Kind, o.Name, o.NewName, o.Off, o.Len)
}

// A Short is an error of a hook that lets the first N bytes of a Write happen
// before the write fails with Err.
type Short struct {
	N   int
	Err error
}

func (s *Short) Error() string { return fmt.Sprintf("%v after %d bytes", s.Err, s.N) }

func (s *Short) Unwrap() error { return s.Err }

// Faults decides which operations of a file system fail. The zero value lets
// all succeed. It is embedded in [Mem] and [Faulty], and may be changed while
// these are in use.
type Faults struct {
	mu sync.Mutex

	ops     int
	hook    func(Op) error
	at      map[int]error
	crashed bool
}

// Ops returns how many operations there were.
func (f *Faults) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// FailAt makes operation n fail with err, n counted as [Op.Seq]: the next one
// is Ops()+1. If err is [ErrCrashed], so do all that follow.
func (f *Faults) FailAt(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		f.at = map[int]error{}
	}
	f.at[n] = err
}

// SetHook has hook called before each operation, possibly from several
// goroutines at once. The operation fails with the error that hook returns,
// and then has no effect, but see [Short]. A hook must not use the file
// system itself, other than to look at it with Bytes or Names.
func (f *Faults) SetHook(hook func(Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// Crashed tells whether the file system has crashed.
func (f *Faults) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

func (f *Faults) crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
}

// before counts op and returns the error it is to fail with.
func (f *Faults) before(op Op) error {
	f.mu.Lock()
	if f.crashed {
		f.mu.Unlock()
		return failure(op, ErrCrashed)
	}
	f.ops++
	op.Seq = f.ops
	hook, err := f.hook, f.at[op.Seq]
	f.mu.Unlock()

	if hook != nil && err == nil {
		err = hook(op)
	}
	if errors.Is(err, ErrCrashed) {
		f.crash()
	}
	if err != nil {
		return failure(op, err)
	}
	return nil
}

// failure is the error of op in the form of package os.
func failure(op Op, err error) error {
	return &fs.PathError{Op: op.Kind.String(), Path: op.Name, Err: err}
}

// short returns how many of n bytes to write although err is not nil.
func short(err error, n int) int {
	var s *Short
	if errors.As(err, &s) {
		return max(0, min(s.N, n))
	}
	return 0
}
