package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Where the copies of home are at the other sites.
const copiesNS = "home"

func (d *demo) site(name string) *site {
	for _, s := range d.sites {
		if s.name == name {
			return s
		}
	}
	return nil
}

// held returns how many finished snapshots the binary lists.
func (d *demo) held(cmd *exec.Cmd) int {
	var list []struct{ Size *int64 }
	out, err := cmd.Output()
	if err != nil || json.Unmarshal(out, &list) != nil {
		return 0 // the namespace may not be there yet
	}
	n := 0
	for _, s := range list {
		if s.Size != nil {
			n++
		}
	}
	return n
}

var listCopies = []string{"snapshot", "list", "--ns", copiesNS, "--output-format", "json"}

// copies has dc pull what home holds, and vps what dc holds: each into a
// namespace, so that it does not mix with a site's own backups.
func (d *demo) copies(ctx context.Context) error {
	dc, vps := d.site("dc"), d.site("vps")
	want := d.held(d.operator(ctx, "snapshot", "list", "--output-format", "json"))
	for _, cmd := range []*exec.Cmd{
		d.at(ctx, dc, "job", "create", "pull", "home-to-dc", "--remote", "home", "--remote-store", storeName, "--store", storeName, "--ns", copiesNS, "--rate-in", "64MiB", "--schedule", "05:00"),
		d.at(ctx, dc, "job", "plan", "home-to-dc"),
		d.at(ctx, dc, "job", "run", "home-to-dc"),
		d.at(ctx, vps, "job", "create", "pull", "dc-to-vps", "--remote", "dc", "--remote-store", storeName, "--remote-ns", copiesNS, "--store", storeName, "--ns", copiesNS, "--schedule", "on-change", "--sources", "any"),
	} {
		if _, err := d.must(cmd); err != nil {
			return err
		}
	}
	if n := d.held(d.at(ctx, dc, listCopies...)); n != want || want == 0 {
		return fmt.Errorf("dc has %d snapshots of %d", n, want)
	}
	began := time.Now()
	if err := d.wait(ctx, 2*time.Minute, "vps has what dc has", func() bool { return d.held(d.at(ctx, vps, listCopies...)) == want }); err != nil {
		return err
	}
	fmt.Printf("  vps heard of something new, and had all of it after %v\n", time.Since(began).Round(100*time.Millisecond))
	if _, err := d.must(d.at(ctx, vps, "job", "list")); err != nil {
		return err
	}
	d.say("dc pulled all %d snapshots of home, within a rate, and vps pulled them from dc, by itself", want)
	return nil
}

// freshBytes is how much is backed up for a pull that is cut.
const freshBytes = 96 << 20

// cut has home fall silent in the middle of a pull, for longer than anybody
// would wait for a packet.
func (d *demo) cut(ctx context.Context) error {
	dc := d.site("dc")
	fresh := filepath.Join(d.dir, "fresh.img")
	f, err := os.Create(fresh)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, freshBytes)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, cmd := range []*exec.Cmd{
		d.client(ctx, "backup", "fresh.img:"+fresh, "--backup-id", "fresh"),
		d.at(ctx, dc, "job", "update", "home-to-dc", "--rate-in", "16MiB", "--burst-in", "4MiB"),
	} {
		if _, err := d.must(cmd); err != nil {
			return err
		}
	}
	run := d.at(ctx, dc, "job", "run", "home-to-dc")
	var out bytes.Buffer
	run.Stdout, run.Stderr = &out, &out
	if err := run.Start(); err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	if err := d.node.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	fmt.Println("  home falls silent for 8 s")
	time.Sleep(8 * time.Second)
	if err := d.node.Process.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	err = run.Wait()
	for line := range strings.Lines(out.String()) {
		fmt.Print("  " + line)
	}
	if err != nil {
		fmt.Println("  the run has ended; the next one goes on where it was:")
		if _, err := d.must(d.at(ctx, dc, "job", "run", "home-to-dc")); err != nil {
			return err
		}
	}
	if _, err := d.must(d.at(ctx, dc, "job", "update", "home-to-dc", "--delete", "rate-in")); err != nil {
		return err
	}
	d.say("home fell silent in the middle of a pull, which went on where it was")
	return d.compareFresh(ctx, dc, fresh)
}

func (d *demo) compareFresh(ctx context.Context, at *site, want string) error {
	got := filepath.Join(d.dir, "fresh-"+at.name)
	if _, err := d.must(d.at(ctx, at, "restore", "host/fresh", "fresh.img", got, "--ns", copiesNS)); err != nil {
		return err
	}
	defer os.Remove(got)
	return tool(ctx, "cmp", want, got)
}

// heal flips a byte in the store of dc, which finds it, and fetches that chunk
// from home again.
func (d *demo) heal(ctx context.Context) error {
	dc := d.site("dc")
	name, at, err := longestPack(filepath.Join(d.dir, dc.name+"-store"))
	if err != nil {
		return err
	}
	if err := flip(name, at); err != nil {
		return err
	}
	fmt.Printf("  flipped one byte of %s at dc\n", filepath.Base(name))
	verify := []string{"datastore", "verify", "--ignore-verified=false", storeName}
	status, _, err := d.holdfast(d.at(ctx, dc, verify...))
	if err != nil {
		return err
	}
	if status != 0 {
		for _, args := range [][]string{{"job", "update", "home-to-dc", "--resync-corrupt"}, {"job", "run", "home-to-dc"}, verify} {
			if _, err := d.must(d.at(ctx, dc, args...)); err != nil {
				return err
			}
		}
	}
	d.say("a byte that was flipped at dc was found there, and the chunk came again from home")
	return nil
}

// destroyed takes home away, with its data and its keys, and restores all from
// dc, which needs nobody for that.
func (d *demo) destroyed(ctx context.Context) error {
	dc := d.site("dc")
	_ = d.node.Process.Kill() // it may be dead already
	_ = d.node.Wait()
	d.node = nil
	for _, dir := range []string{d.store(), filepath.Join(d.dir, "node")} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	fmt.Println("  home is gone: its datastore, its keys, its ledger")
	if dc.node.ProcessState != nil { // it was the one that led, and was killed
		if err := d.run(ctx, dc); err != nil {
			return err
		}
	}
	for _, from := range [][]string{{"host/demo"}, {"host/secret", "--keyfile", d.key()}} {
		out := filepath.Join(d.dir, "from-dc-"+filepath.Base(from[0]))
		if err := os.Mkdir(out, 0o700); err != nil {
			return err
		}
		for _, archive := range [][2]string{{"tree.pxar", "tree"}, {"disk.img", "disk.img"}, {"guest.conf", "guest.conf"}} {
			args := append([]string{"restore", from[0], archive[0], filepath.Join(out, archive[1]), "--ns", copiesNS}, from[1:]...)
			if _, err := d.must(d.at(ctx, dc, args...)); err != nil {
				return err
			}
		}
		if err := d.same(ctx, out); err != nil {
			return err
		}
		fmt.Printf("  %s: tree, image and file are identical\n", from[0])
	}
	d.say("home was destroyed; everything came back from dc byte for byte, open and encrypted")
	return nil
}
