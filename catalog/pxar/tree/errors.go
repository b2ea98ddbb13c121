package tree

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
)

// Errors that end [Create] or [Extract], or that a [Warning] holds.
var (
	ErrTooManyEntries = inode.ErrTooManyEntries
	ErrVirtual        = errors.New("the file system shows the state of the kernel and holds no files")

	errShrank  = errors.New("the file became shorter while it was read; zeros stand for the end")
	errGrew    = errors.New("the file became longer while it was read; the new end is not there")
	errChanged = errors.New("the file was written to while it was read")
)

// A LimitError says that a directory is too large to be archived.
type LimitError struct {
	Path  string
	Limit int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("list the directory %q: %v, at most %d are allowed", e.Path, ErrTooManyEntries, e.Limit)
}

func (e *LimitError) Unwrap() error { return ErrTooManyEntries }

// Hint tells how to archive it all the same.
func (e *LimitError) Hint() string {
	return "allow more entries, at 100 bytes of memory or so for each, or exclude the directory"
}

// An ExistsError says that something is where the archive would put an entry.
type ExistsError struct{ Path string }

func (e *ExistsError) Error() string { return fmt.Sprintf("%q exists in the target", e.Path) }

// Is makes the error errors.Is fs.ErrExist.
func (e *ExistsError) Is(target error) bool { return target == fs.ErrExist }

// Hint tells how to extract all the same.
func (e *ExistsError) Hint() string {
	return "extract to an empty directory, or allow existing directories, or allow overwriting"
}

// A NotEmptyError says that the target holds something already.
type NotEmptyError struct{ Target string }

func (e *NotEmptyError) Error() string { return fmt.Sprintf("the directory %s is not empty", e.Target) }

// Is makes the error errors.Is fs.ErrExist.
func (e *NotEmptyError) Is(target error) bool { return target == fs.ErrExist }

// Hint tells how to extract all the same.
func (e *NotEmptyError) Hint() string {
	return "extract to an empty directory, or allow existing directories"
}

// An IncompleteError says that something of the archive is not in the target.
type IncompleteError struct {
	Target string
	Count  int64   // of entries
	First  Warning // what happened to one of them
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("extract to %s: %d entries are missing or incomplete, such as %v", e.Target, e.Count, e.First)
}

func (e *IncompleteError) Unwrap() error { return e.First.Err }

// Hint says what is there.
func (e *IncompleteError) Hint() string {
	return "everything else was restored; the report names what is missing"
}
