package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// result is the last line of a backup.
var result = regexp.MustCompile(`(?m)^snapshot (\S+): (.+), (.+) new, (.+) stored in`)

// backup makes a snapshot of everything in the group host/ID and returns how
// much content it has, and how much of it was stored.
func (d *demo) backup(ctx context.Context, id string, flags ...string) (content, stored string, err error) {
	args := append([]string{"backup", "tree.pxar:" + d.tree(), "disk.img:" + d.image(), "guest.conf:" + d.conf(), "--backup-id", id}, flags...)
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // snapshots have whole seconds
	out, err := d.must(d.client(ctx, args...))
	if err != nil {
		return "", "", err
	}
	found := result.FindStringSubmatch(out)
	if found == nil {
		return "", "", errors.New("the backup does not say what it has made")
	}
	d.last = found[1]
	return found[2], found[4], nil
}

func (d *demo) first(ctx context.Context) error {
	content, stored, err := d.backup(ctx, "demo")
	d.say("first backup: %s became %s", content, stored)
	return err
}

func (d *demo) second(ctx context.Context) error {
	if err := d.change(); err != nil {
		return err
	}
	content, stored, err := d.backup(ctx, "demo")
	d.say("second backup: of %s only %s had to be stored", content, stored)
	return err
}

func (d *demo) encrypted(ctx context.Context) error {
	if _, err := d.must(d.client(ctx, "key", "create", d.key(), "--kdf", "none")); err != nil {
		return err
	}
	_, stored, err := d.backup(ctx, "secret", "--keyfile", d.key())
	d.say("encrypted backup: nothing is shared with the open ones, %s stored", stored)
	return err
}

// refused tries what a stolen token would be used for.
func (d *demo) refused(ctx context.Context) error {
	for _, args := range [][]string{{"snapshot", "forget", d.last}, {"prune", "--keep-last", "1"}, {"group", "forget", "host/demo"}} {
		status, out, err := d.holdfast(d.client(ctx, args...))
		if err != nil || status != 1 || !strings.Contains(out, "permission check failed") {
			return fmt.Errorf("it ended with status %d: %w", status, err)
		}
	}
	d.say("the token cannot remove what it has backed up")
	return nil
}

func (d *demo) verify(ctx context.Context) error {
	_, err := d.must(d.operator(ctx, "datastore", "verify", storeName))
	d.say("verify found every chunk as it should be")
	return err
}

func (d *demo) prune(ctx context.Context) error {
	for _, args := range [][]string{{"prune", "--keep-last", "1", "--dry-run"}, {"prune", "--keep-last", "1"}} {
		if _, err := d.must(d.operator(ctx, args...)); err != nil {
			return err
		}
	}
	out, err := d.must(d.operator(ctx, "datastore", "gc", storeName))
	if freed := regexp.MustCompile(`Removed garbage: (.*)`).FindStringSubmatch(out); freed != nil {
		d.say("prune and garbage collection freed %s; what prune would do was printed before", freed[1])
	}
	return err
}

// damage flips a byte in the middle of the longest pack, lets verify find it,
// and heals it with the next backup.
func (d *demo) damage(ctx context.Context) error {
	name, n, err := longestPack(d.store())
	if err != nil {
		return err
	}
	if err := flip(name, n); err != nil {
		return err
	}
	fmt.Printf("  flipped one byte of %s at %d\n", filepath.Base(name), n)
	status, out, err := d.holdfast(d.operator(ctx, "datastore", "verify", "--ignore-verified=false", storeName))
	if err != nil || status != 1 || !regexp.MustCompile(`[0-9a-f]{8}`).MatchString(out) {
		return fmt.Errorf("verify ended with status %d: %w", status, err)
	}
	for _, again := range [][]string{{"demo"}, {"secret", "--keyfile", d.key()}} {
		if _, _, err := d.backup(ctx, again[0], again[1:]...); err != nil {
			return err
		}
	}
	if _, err := d.must(d.operator(ctx, "datastore", "verify", "--ignore-verified=false", storeName)); err != nil {
		return err
	}
	d.say("a flipped byte was found; the next backup stored that chunk again, and all snapshots are whole")
	return nil
}

func longestPack(store string) (name string, middle int64, err error) {
	names, err := filepath.Glob(filepath.Join(store, "packs", "*", "*.hfpk"))
	if err != nil {
		return "", 0, err
	}
	for _, n := range names {
		info, err := os.Stat(n)
		if err != nil {
			return "", 0, err
		}
		if info.Size()/2 > middle {
			name, middle = n, info.Size()/2
		}
	}
	if name == "" {
		return "", 0, errors.New("there are no packs")
	}
	// Not into a hole that garbage collection has left.
	f, err := os.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	b := make([]byte, 4096)
	for ; ; middle += 4096 {
		if _, err := f.ReadAt(b, middle); err != nil {
			return "", 0, err
		}
		if len(bytes.Trim(b, "\x00")) > 4000 {
			return name, middle + 2048, nil
		}
	}
}

func flip(name string, at int64) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 0x40
	_, err = f.WriteAt(b[:], at)
	return err
}

// killed kills a backup in the middle of its work and then the node, and looks
// whether all goes on as if nothing had been.
func (d *demo) killed(ctx context.Context) error {
	cmd := d.client(ctx, "backup", "tree.pxar:"+d.tree(), "--backup-id", "killed")
	if err := cmd.Start(); err != nil {
		return err
	}
	select {
	case <-time.After(300 * time.Millisecond):
	case <-ctx.Done():
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = cmd.Wait() // it was killed, and says so
	if err := d.node.Process.Kill(); err != nil {
		return err
	}
	_ = d.node.Wait() // likewise
	fmt.Println("  killed the backup, and the node")
	if err := d.start(ctx); err != nil {
		return err
	}
	if _, _, err := d.backup(ctx, "killed"); err != nil {
		return err
	}
	_, err := d.must(d.operator(ctx, "datastore", "verify", "--ignore-verified=false", storeName))
	d.say("a backup and then the node were killed: all other snapshots are whole, and the next backup went on, nobody had to help")
	return err
}

// restore brings everything back from both kinds of backup and compares.
func (d *demo) restore(ctx context.Context) error {
	for _, from := range [][]string{{"host/demo"}, {"host/secret", "--keyfile", d.key()}} {
		out := filepath.Join(d.dir, "restored-"+filepath.Base(from[0]))
		if err := os.Mkdir(out, 0o700); err != nil {
			return err
		}
		for _, archive := range [][2]string{{"tree.pxar", "tree"}, {"disk.img", "disk.img"}, {"guest.conf", "guest.conf"}} {
			args := append([]string{"restore", from[0], archive[0], filepath.Join(out, archive[1])}, from[1:]...)
			if _, err := d.must(d.client(ctx, args...)); err != nil {
				return err
			}
		}
		if err := d.same(ctx, out); err != nil {
			return err
		}
		fmt.Printf("  %s: tree, image and file are identical\n", from[0])
	}
	d.say("tree, image and file came back byte for byte, open and encrypted")
	return nil
}

// same compares what was restored with the sources.
func (d *demo) same(ctx context.Context, dir string) error {
	return errors.Join(
		tool(ctx, "diff", "-r", "--no-dereference", d.tree(), filepath.Join(dir, "tree")),
		tool(ctx, "cmp", d.image(), filepath.Join(dir, "disk.img")),
		tool(ctx, "cmp", d.conf(), filepath.Join(dir, "guest.conf")))
}

// export writes a snapshot in formats that need nothing of ours.
func (d *demo) export(ctx context.Context) error {
	out := filepath.Join(d.dir, "exported")
	if _, err := d.must(d.client(ctx, "snapshot", "export", "host/demo", out)); err != nil {
		return err
	}
	check := "cd '" + out + "' && sha256sum --quiet -c SHA256SUMS && mkdir tree && tar -C tree -xpf tree.tar"
	fmt.Println("$ " + check[len("cd '"+out+"' && "):])
	if err := tool(ctx, "sh", "-c", check); err != nil {
		return err
	}
	d.say("an exported snapshot was restored with tar and sha256sum alone")
	return d.same(ctx, out)
}
