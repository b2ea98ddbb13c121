package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// key encrypts the third backup.
var key = chunks.NewKey([32]byte{7})

func (d *demo) first(ctx context.Context) error {
	s, err := d.backup(ctx, "first", nil)
	d.say("first backup: %s became %s in %d chunks", size(s.Bytes), size(s.StoredBytes), s.NewChunks)
	return err
}

func (d *demo) second(ctx context.Context) error {
	if err := d.change(); err != nil {
		return err
	}
	s, err := d.backup(ctx, "second", nil)
	d.say("second backup: of %s only %s were new", size(s.Bytes), size(s.NewBytes))
	return err
}

func (d *demo) encrypted(ctx context.Context) error {
	s, err := d.backup(ctx, "encrypted", key)
	d.say("encrypted backup: nothing is shared with the open ones, %s stored", size(s.StoredBytes))
	return err
}

func (d *demo) verify(ctx context.Context) error {
	_, err := d.must(ctx, "datastore", "verify", "--deep", d.store)
	d.say("verify found every chunk as it should be")
	return err
}

func (d *demo) collect(ctx context.Context) error {
	if err := os.RemoveAll(d.snapshot("first")); err != nil {
		return err
	}
	if _, err := d.must(ctx, "datastore", "gc", "--dry-run", d.store); err != nil {
		return err
	}
	out, err := d.must(ctx, "datastore", "gc", d.store)
	if freed := regexp.MustCompile(`(?m)^freed [^,;]*`).FindString(out); freed != "" {
		d.say("garbage collection %s; the plan was printed before", freed)
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
	status, out, err := d.holdfast(ctx, "datastore", "verify", "--quarantine", d.store)
	found := regexp.MustCompile(`chunk ([0-9a-f]{64})`).FindString(out)
	if err != nil || status != 1 || found == "" {
		return fmt.Errorf("verify ended with status %d and named %q: %w", status, found, err)
	}
	for _, again := range []struct {
		name string
		key  *chunks.Key
	}{{"third", nil}, {"encrypted", key}} {
		if _, err := d.backup(ctx, again.name, again.key); err != nil {
			return err
		}
	}
	err = withStore(ctx, d.store, func(s *pack.Store, _ *gc.Collector) error {
		digest, err := chunks.ParseDigest(found[len("chunk "):])
		if err == nil {
			_, err = s.Get(ctx, digest, nil)
		}
		return err
	})
	d.say("a flipped byte was found and named; the next backup stored that chunk again")
	return err
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

// killed starts a process that stores and commits as fast as it can, kills it,
// and looks for everything that it said was durable.
func (d *demo) killed(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "-write-until-killed", d.store)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	select {
	case <-time.After(1500 * time.Millisecond):
	case <-ctx.Done():
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	_ = cmd.Wait() // it was killed, and says so
	if _, err := d.must(ctx, "datastore", "show", d.store); err != nil {
		return err
	}
	acknowledged := bytes.Fields(said.Bytes())
	err = withStore(ctx, d.store, func(s *pack.Store, _ *gc.Collector) error {
		for _, text := range acknowledged {
			digest, err := chunks.ParseDigest(string(text))
			if err != nil {
				continue // the line that was cut off
			}
			if _, err := s.Get(ctx, digest, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(acknowledged) == 0 {
		err = errors.New("the writer had no time to acknowledge anything")
	}
	d.say("a writer was killed: all %d chunks that it had acknowledged are there, nobody had to help", len(acknowledged))
	return err
}

// writeUntilKilled prints digests after they are durable.
func writeUntilKilled(ctx context.Context, dir string) error {
	return withStore(ctx, dir, func(s *pack.Store, c *gc.Collector) error {
		w, err := c.Open("backup", "killed")
		if err != nil {
			return err
		}
		defer w.Abort()
		for i := uint64(0); ctx.Err() == nil; i++ {
			chunk := chunktest.Blob(1_000_000+i, 20_000)
			if _, err := w.Put(ctx, chunk.Digest, chunk.Blob); err != nil {
				return err
			}
			if err := w.Commit(ctx); err != nil {
				return err
			}
			fmt.Println(chunk.Digest)
		}
		return nil
	})
}

// restore brings tree and image back from both kinds of backup and compares.
func (d *demo) restore(ctx context.Context) error {
	want, err := fileSum(d.image())
	if err != nil {
		return err
	}
	for _, snap := range []struct {
		name string
		key  *chunks.Key
	}{{"second", nil}, {"encrypted", key}} {
		if err := d.restoreSnapshot(ctx, snap.name, snap.key, want); err != nil {
			return err
		}
		fmt.Printf("  %s: tree and image are identical\n", snap.name)
	}
	d.say("tree and image came back byte for byte, open and encrypted")
	return nil
}

func (d *demo) restoreSnapshot(ctx context.Context, name string, key *chunks.Key, image [32]byte) error {
	out := filepath.Join(d.dir, "restored-"+name)
	if err := os.MkdirAll(out, 0o700); err != nil {
		return err
	}
	return withStore(ctx, d.store, func(s *pack.Store, _ *gc.Collector) error {
		got, err := d.restoreFile(ctx, s, filepath.Join(d.snapshot(name), "disk.img.fidx"), key, io.Discard)
		if err != nil || got != image {
			return fmt.Errorf("image of %s differs: %w", name, err)
		}
		tar := exec.CommandContext(ctx, "tar", "-C", out, "-xf", "-")
		in, err := tar.StdinPipe()
		if err != nil {
			return err
		}
		if err := tar.Start(); err != nil {
			return err
		}
		_, err = d.restoreFile(ctx, s, filepath.Join(d.snapshot(name), "tree.tar.didx"), key, in)
		if err = errors.Join(err, in.Close(), tar.Wait()); err != nil {
			return err
		}
		return tool(ctx, "diff", "-r", "--no-dereference", d.tree(), out)
	})
}

func fileSum(name string) (sum [32]byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)), err
}
