// Package cli is what the verbs of the command line share: flags, arguments,
// progress, results, and the way in which errors are told.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Env is all that a command may touch, so that a test can hand it something
// else.
type Env struct {
	Out, Err io.Writer
	Getenv   func(string) string
	Terminal bool // Err is one, so bars may be drawn on it
}

// Options are the flags that every command has.
type Options struct {
	Env
	Data       string // directory of the node on this machine
	Repository string
	Format     string // "text", "json" or "json-pretty"
	Quiet      bool

	RecoveryKey string // file with that of a bucket
}

// Check refuses formats that there are not.
func (o *Options) Check() error {
	switch o.Format {
	case "text", "json", "json-pretty":
		return nil
	}
	return usageError{fmt.Errorf("--output-format is %q, want text, json or json-pretty", o.Format)}
}

// Dir returns the directory of the store that a command is about.
func (o *Options) Dir(args []string) (string, error) {
	dir := o.Repository
	if len(args) > 0 {
		dir = args[0]
	}
	switch {
	case dir == "":
		return "", usageError{errors.New("which store? name its directory, or give --repository")}
	case strings.HasPrefix(dir, "s3://"), !strings.ContainsRune(dir, '/') && strings.ContainsRune(dir, ':'):
		return "", usageError{fmt.Errorf("%q is not a directory", dir)}
	}
	return dir, nil
}

// NoArgs accepts no argument.
func NoArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("takes no argument, and got %q", args[0])}
	}
	return nil
}

// OneDir accepts at most one argument.
func OneDir(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError{fmt.Errorf("one directory at a time, not %d", len(args))}
	}
	return nil
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
