package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Usage makes an error of a command line that makes no sense.
func Usage(err error) error { return usageError{err} }

// A usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Report prints err and returns the exit status for it.
func Report(e Env, cmd *cobra.Command, err error) int {
	if err == nil {
		return 0
	}
	name := cmd.CommandPath()
	fmt.Fprintf(e.Err, "%s: %v\n", name, err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(e.Err, "  hint: %s\n", hint)
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(e.Err, "usage: %s\n", cmd.UseLine())
		return 2
	}
	return 1
}

// hintFor returns what to do about err, "" if that is not known.
func hintFor(err error) string {
	var hinted interface{ Hint() string }
	switch {
	case errors.As(err, &hinted) && hinted.Hint() != "":
		return hinted.Hint()
	case errors.Is(err, fs.ErrPermission):
		return "run as the user that owns the store, or give the directory away with chown -R"
	case errors.Is(err, syscall.EROFS):
		return "a store must be writable even to be looked at: mount it read-write, or work on a copy"
	case errors.Is(err, syscall.EIO):
		return "the disk fails: look at the kernel's log and at SMART, and copy packs/ to a good disk first"
	}
	return ""
}

// A Lossy error is a restore that did what it could.
type Lossy struct {
	Count int64
	First []string // names of what was lost
}

func (e Lossy) Error() string {
	return fmt.Sprintf("%d files or directories could not be restored, the first: %s", e.Count, strings.Join(e.First, ", "))
}

// Hint is printed on its own line below the error.
func (e Lossy) Hint() string {
	return "the rest is there; heal the store from another copy (datastore heal, or datastore verify --repair-from), or take these from an older snapshot"
}

// Hint adds to err what to do about it.
func Hint(err error, cure string) error { return hinted{err, cure} }

// hinted adds to an error what to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Hint() string  { return h.hint }
func (h hinted) Unwrap() error { return h.error }
