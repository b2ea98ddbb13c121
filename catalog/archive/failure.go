package archive

import (
	"errors"
	"fmt"
	"strings"
)

// The ways in which a backup or a restore is refused, or comes out damaged.
// Match them with errors.Is. Chunks fail with chunks.ErrMissing,
// chunks.ErrCorrupt, chunks.ErrNoKey and chunks.ErrWrongKey.
var (
	ErrSource   = errors.New("source cannot be backed up")
	ErrExists   = errors.New("target exists")
	ErrMismatch = errors.New("file does not match the manifest")
	ErrDamaged  = errors.New("content was damaged")
	ErrNotFound = errors.New("not in the snapshot")
)

// A failure is an error with a known cure. Its kind is one of the errors above
// or nil, its cause what the system said or nil; both can be matched.
type failure struct {
	text  string
	cure  string
	kind  error
	cause error
}

func (f *failure) Error() string {
	if f.cause != nil {
		return f.text + ": " + f.cause.Error()
	}
	return f.text
}

// Hint is printed on its own line below the error.
func (f *failure) Hint() string { return f.cure }

func (f *failure) Unwrap() []error {
	var all []error
	for _, err := range []error{f.kind, f.cause} {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// maxRanges bounds the list of a DamagedError; neighbours count once.
const maxRanges = 1000

// A Range is a stretch of an archive's content in bytes: [Start, End).
type Range struct{ Start, End int64 }

// A DamagedError lists the parts of a restored image that could not be read
// and hold zeros instead. It is matched by ErrDamaged and by its first cause.
type DamagedError struct {
	Archive string
	Ranges  []Range // ascending; the first 1,000
	Bytes   int64   // all that is damaged
	First   error   // what went wrong first
}

func (e *DamagedError) Error() string {
	var list strings.Builder
	for i, r := range e.Ranges {
		if i == 3 {
			fmt.Fprintf(&list, " and %d more", len(e.Ranges)-i)
			break
		}
		fmt.Fprintf(&list, " [%d, %d)", r.Start, r.End)
	}
	return fmt.Sprintf("restore %s: %d bytes could not be read and are zero:%s; first: %v", e.Archive, e.Bytes, &list, e.First)
}

func (e *DamagedError) Unwrap() []error { return []error{ErrDamaged, e.First} }

// Hint is printed on its own line below the error.
func (e *DamagedError) Hint() string {
	return "heal the datastore from another copy and restore again, or take these parts from an older snapshot"
}
