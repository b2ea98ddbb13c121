package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// backup makes a snapshot of everything in the group host/ID and returns what
// the binary says of it.
func (d *demo) backup(ctx context.Context, id string, flags ...string) (sum summary, err error) {
	args := append([]string{"backup", "tree.pxar:" + d.tree(), "disk.img:" + d.image(), "guest.conf:" + d.conf(), "--backup-id", id}, flags...)
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // snapshots have whole seconds
	if _, err = d.must(ctx, args...); err != nil {
		return sum, err
	}
	out, err := d.command(ctx, "snapshot", "list", "host/"+id, "--output-format", "json").Output()
	if err != nil {
		return sum, err
	}
	var list []summary
	if err := json.Unmarshal(out, &list); err != nil || len(list) == 0 {
		return sum, fmt.Errorf("snapshot list says %q: %w", out, err)
	}
	d.last = fmt.Sprintf("host/%s/%s", id, time.Unix(list[0].Time, 0).UTC().Format(time.RFC3339))
	return list[0], nil
}

// summary is what the demo wants to know of a snapshot.
type summary struct {
	Time  int64 `json:"backup-time"`
	Size  int64 `json:"size"`
	Stats struct {
		Stored     int64 `json:"compressed_size"`
		Chunks     int64 `json:"count"`
		Duplicates int64 `json:"duplicates"`
	} `json:"chunk-upload-stats"`
}

func (d *demo) first(ctx context.Context) error {
	s, err := d.backup(ctx, "demo")
	d.say("first backup: %s became %s in %d chunks", size(s.Size), size(s.Stats.Stored), s.Stats.Chunks)
	return err
}

func (d *demo) second(ctx context.Context) error {
	if err := d.change(); err != nil {
		return err
	}
	s, err := d.backup(ctx, "demo")
	d.say("second backup: of %s only %s had to be stored", size(s.Size), size(s.Stats.Stored))
	return err
}

func (d *demo) encrypted(ctx context.Context) error {
	if _, err := d.must(ctx, "key", "create", d.key(), "--kdf", "none"); err != nil {
		return err
	}
	s, err := d.backup(ctx, "secret", "--keyfile", d.key())
	d.say("encrypted backup: nothing is shared with the open ones, %s stored", size(s.Stats.Stored))
	return err
}

func (d *demo) verify(ctx context.Context) error {
	_, err := d.must(ctx, "datastore", "verify", d.store)
	d.say("verify found every chunk as it should be")
	return err
}

func (d *demo) prune(ctx context.Context) error {
	for _, args := range [][]string{{"prune", "--keep-last", "1", "--dry-run"}, {"prune", "--keep-last", "1"}, {"datastore", "gc", "--dry-run", d.store}} {
		if _, err := d.must(ctx, args...); err != nil {
			return err
		}
	}
	out, err := d.must(ctx, "datastore", "gc", d.store)
	if freed := regexp.MustCompile(`(?m)^freed [^,;]*`).FindString(out); freed != "" {
		d.say("prune and garbage collection %s; the plans were printed before", freed)
	}
	return err
}

// damage flips a byte in the middle of the longest pack, lets verify find it,
// and heals it with the next backup.
func (d *demo) damage(ctx context.Context) error {
	name, n, err := d.longestPack()
	if err != nil {
		return err
	}
	if err := flip(name, n); err != nil {
		return err
	}
	fmt.Printf("  flipped one byte of %s at %d\n", filepath.Base(name), n)
	status, out, err := d.holdfast(ctx, "datastore", "verify", "--ignore-verified=false", d.store)
	if err != nil || status != 1 || !regexp.MustCompile(`[0-9a-f]{8}`).MatchString(out) {
		return fmt.Errorf("verify ended with status %d: %w", status, err)
	}
	for _, again := range [][]string{{"demo"}, {"secret", "--keyfile", d.key()}} {
		if _, err := d.backup(ctx, again[0], again[1:]...); err != nil {
			return err
		}
	}
	if _, err := d.must(ctx, "datastore", "verify", "--ignore-verified=false", d.store); err != nil {
		return err
	}
	d.say("a flipped byte was found; the next backup stored that chunk again, and all snapshots are whole")
	return nil
}

func (d *demo) longestPack() (name string, middle int64, err error) {
	names, err := filepath.Glob(filepath.Join(d.store, "packs", "*", "*.hfpk"))
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

// killed kills a backup in the middle of its work, and looks whether the next
// one goes on as if nothing had been.
func (d *demo) killed(ctx context.Context) error {
	cmd := d.command(ctx, "backup", "tree.pxar:"+d.tree(), "--backup-id", "killed")
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
	if _, err := d.backup(ctx, "killed"); err != nil {
		return err
	}
	_, err := d.must(ctx, "datastore", "verify", "--ignore-verified=false", d.store)
	d.say("a backup was killed: all other snapshots are whole, and the next backup went on, nobody had to help")
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
			if _, err := d.must(ctx, args...); err != nil {
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
	if _, err := d.must(ctx, "snapshot", "export", "host/demo", out); err != nil {
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
