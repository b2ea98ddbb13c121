// Command demo runs the main job of Holdfast, as far as it exists, on data made
// on the spot. It sets up a node and an API token that may only back up; then a
// real directory, a disk image and a small file are backed up to it over the
// protocol of PBS, changed, backed up again, encrypted, verified, pruned,
// collected, damaged, healed and exported, and come back byte for byte. All of it
// is done with the holdfast binary, as a person would. Two more sites join it with a
// token each, pull copies from each other, and back up on when the one that leads is
// killed. The first site is destroyed, and its data come back from another. A fourth
// keeps its backups in a bucket: when all sites are lost, that and a key bring all back.
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
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *bin, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// A demo is one run.
type demo struct {
	bin, dir string
	node     *exec.Cmd // the daemon
	address  string    // HOST:PORT
	token    []string  // the environment of who may only back up
	began    time.Time
	last     string   // the last snapshot that was made
	done     []string // the summary
	sites    []*site  // that have joined
	cloud    provider
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
	d := &demo{bin: bin, dir: dir, began: time.Now()}
	defer d.stop()
	defer d.stopSites()
	defer d.cloud.end()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"data: a directory tree, a disk image and a small file", d.prepare},
		{"a node, a datastore, and an API token that may only back up", d.setUp},
		{"two more sites join, each with a token", d.join},
		{"the first backup, over the protocol of a Proxmox Backup Server", d.first},
		{"the second backup, after a few changes", d.second},
		{"the same once more, encrypted", d.encrypted},
		{"what the token may not do", d.refused},
		{"verify: every chunk decoded and compared with its name", d.verify},
		{"prune, and collect garbage", d.prune},
		{"a flipped byte on the disk", d.damage},
		{"a backup killed in the middle of its work, and the node after it", d.killed},
		{"restore everything and compare", d.restore},
		{"export a snapshot, and restore it with tar and sha256sum alone", d.export},
		{"copies: dc pulls from home, vps from dc", d.copies},
		{"when all of it runs, at all sites", d.schedule},
		{"a job fails, and somebody gets a mail", d.mails},
		{"the line between home and dc is cut in the middle of a pull", d.cut},
		{"a flipped byte at dc, healed from home", d.heal},
		{"three sites, and the one that leads is killed", d.withoutLeader},
		{"home is destroyed, and everything is restored from dc", d.destroyed},
		{"a site more, which keeps its backups in a bucket", d.cloudSite},
		{"every site is lost", d.allLost},
		{"restore from the bucket alone, with the recovery key", d.fromBucket},
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
func (d *demo) holdfast(cmd *exec.Cmd) (status int, out string, err error) {
	fmt.Println("$ holdfast " + strings.ReplaceAll(strings.Join(cmd.Args[1:], " "), d.dir+"/", ""))
	b, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(b)) {
		fmt.Print("  " + line)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), string(b), nil
	}
	return 0, string(b), err
}

// operator is the binary as whoever runs the node calls it: over its socket.
func (d *demo) operator(ctx context.Context, args ...string) *exec.Cmd {
	return d.command(ctx, args, "PBS_REPOSITORY=")
}

// client is the binary as a machine calls it that is backed up: over the
// network, with the token.
func (d *demo) client(ctx context.Context, args ...string) *exec.Cmd {
	return d.command(ctx, args, d.token...)
}

// command is the binary with arguments, and an environment that is the same
// everywhere.
func (d *demo) command(ctx context.Context, args []string, env ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.bin, args...)
	cmd.Env = append(os.Environ(), "HOLDFAST_DATA="+filepath.Join(d.dir, "node"), "XDG_CONFIG_HOME="+filepath.Join(d.dir, "config"))
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// must runs the binary and fails unless it does what it should.
func (d *demo) must(cmd *exec.Cmd) (string, error) {
	status, out, err := d.holdfast(cmd)
	if err == nil && status != 0 {
		err = fmt.Errorf("holdfast %s ended with status %d", strings.Join(cmd.Args[1:], " "), status)
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
