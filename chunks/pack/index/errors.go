package index

import (
	"errors"
	"fmt"
)

// ErrDamaged says that the files of an index are not what was written. The
// cure is [Rebuild]. Match it with errors.Is.
var ErrDamaged = errors.New("index is damaged")

// ErrClosed is what a call returns after [Index.Close].
var ErrClosed = errors.New("index is closed")

// A DamagedError says which file of an index is damaged, and how.
type DamagedError struct {
	File string // path
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("index file %s: %v", e.File, e.Err) }

func (e *DamagedError) Unwrap() error { return e.Err }

// Is makes every DamagedError match [ErrDamaged].
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

// Hint is printed on its own line below the error.
func (e *DamagedError) Hint() string {
	return "no chunk is lost by this: the index is built anew from the packs; if it happens again, check the disk"
}

func damaged(file, format string, args ...any) error {
	return &DamagedError{File: file, Err: fmt.Errorf(format, args...)}
}
