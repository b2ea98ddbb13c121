// Command demo runs the main job of Holdfast, as far as it exists, on data made
// on the spot: a real directory and a disk image go into a store, are changed,
// stored again, encrypted, verified, collected, damaged, healed, and come back
// byte for byte. It drives the holdfast binary wherever that has a verb.
//
//	go run ./simulations/demo -bin bin/holdfast [-dir DIR]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	bin := flag.String("bin", "bin/holdfast", "the holdfast binary")
	dir := flag.String("dir", "", "where to work; default: a temporary directory, removed afterwards")
	writer := flag.String("write-until-killed", "", "used by the demo itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *writer != "" {
		err = writeUntilKilled(ctx, *writer)
	} else {
		err = run(ctx, *bin, *dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// A demo is one run.
type demo struct {
	bin, dir, store string
	began           time.Time
	done            []string // the summary
}

func run(ctx context.Context, bin, dir string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	if _, err := os.Stat(bin); err != nil {
		return fmt.Errorf("%w; `make build` makes it", err)
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "holdfast-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	d := &demo{bin: bin, dir: dir, store: filepath.Join(dir, "store"), began: time.Now()}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"a store, and data: a directory tree and a disk image", d.prepare},
		{"the first backup", d.first},
		{"the second backup, after a few changes", d.second},
		{"the same once more, encrypted", d.encrypted},
		{"verify: every chunk decoded and compared with its name", d.verify},
		{"forget the first backup, and collect garbage", d.collect},
		{"a flipped byte on the disk", d.damage},
		{"a writer killed in the middle of its work", d.killed},
		{"restore everything and compare", d.restore},
	} {
		fmt.Printf("\n== %s\n", step.what)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	fmt.Printf("\n== summary, after %.0f s\n", time.Since(d.began).Seconds())
	for _, line := range d.done {
		fmt.Println("  ok  " + line)
	}
	return nil
}

// say adds a line to the summary.
func (d *demo) say(format string, args ...any) { d.done = append(d.done, fmt.Sprintf(format, args...)) }

// holdfast runs the binary, shows what it prints, and returns its exit status.
func (d *demo) holdfast(ctx context.Context, args ...string) (status int, out string, err error) {
	fmt.Println("$ holdfast " + strings.ReplaceAll(strings.Join(args, " "), d.store, "STORE"))
	cmd := exec.CommandContext(ctx, d.bin, args...)
	b, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(b)) {
		fmt.Print("  " + line)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), string(b), nil
	}
	return 0, string(b), err
}

// must runs the binary and fails unless it does what it should.
func (d *demo) must(ctx context.Context, args ...string) (string, error) {
	status, out, err := d.holdfast(ctx, args...)
	if err == nil && status != 0 {
		err = fmt.Errorf("holdfast %s ended with status %d", strings.Join(args, " "), status)
	}
	return out, err
}

// tool runs a program of the system.
func tool(ctx context.Context, name string, args ...string) error {
	if b, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, b)
	}
	return nil
}
