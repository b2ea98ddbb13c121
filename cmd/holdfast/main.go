// Command holdfast is the command line of Holdfast: one file for each verb.
//
// Whatever fails is printed in one place, as what failed, then a hint what to
// do about it. Exit status: 0 done, 1 failed, 2 misused.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the Makefile from the git tag.
var version = "development"

// env is all that a command may touch, so that a test can hand it something
// else.
type env struct {
	out, err io.Writer
	getenv   func(string) string
	terminal bool // out is one, so bars may be drawn on err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, env{os.Stdout, os.Stderr, os.Getenv, isTerminal(os.Stderr)}, os.Args[1:]))
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, e env, args []string) int {
	root := newRoot(e)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return report(e, cmd, err)
}

// A usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// report prints err and returns the exit status for it.
func report(e env, cmd *cobra.Command, err error) int {
	if err == nil {
		return 0
	}
	name := cmd.CommandPath()
	fmt.Fprintf(e.err, "%s: %v\n", name, err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(e.err, "  hint: %s\n", hint)
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(e.err, "usage: %s\n", cmd.UseLine())
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

// options are the flags that every command has.
type options struct {
	env
	repository string
	format     string
	quiet      bool
}

func newRoot(e env) *cobra.Command {
	o := &options{env: e}
	root := &cobra.Command{
		Use:           "holdfast",
		Short:         "replicated backups for Proxmox VE, from many sites to many sites",
		SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error { return o.check() },
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("there is no command %q", args[0])}
			}
			return cmd.Help()
		},
	}
	root.SetOut(e.out)
	root.SetErr(e.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	flags := root.PersistentFlags()
	flags.StringVar(&o.repository, "repository", e.getenv("PBS_REPOSITORY"), "the store to work on: its directory (env PBS_REPOSITORY)")
	flags.StringVar(&o.format, "output-format", "text", "text, json or json-pretty")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "print results only, no progress")
	root.AddCommand(newDatastore(o), newVersion(o))
	return root
}

func (o *options) check() error {
	switch o.format {
	case "text", "json", "json-pretty":
		return nil
	}
	return usageError{fmt.Errorf("--output-format is %q, want text, json or json-pretty", o.format)}
}

// dir returns the directory of the store that a command is about.
func (o *options) dir(args []string) (string, error) {
	dir := o.repository
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

// noArgs accepts no argument.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("takes no argument, and got %q", args[0])}
	}
	return nil
}

// oneDir accepts at most one argument.
func oneDir(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError{fmt.Errorf("one directory at a time, not %d", len(args))}
	}
	return nil
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
