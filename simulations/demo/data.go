package main

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const imageBytes = 256 << 20

// prepare makes the data.
func (d *demo) prepare(ctx context.Context) error {
	if err := os.WriteFile(d.conf(), []byte("cores: 2\nmemory: 4096\n"), 0o600); err != nil {
		return err
	}
	if err := d.makeTree(ctx); err != nil {
		return err
	}
	return d.makeImage(ctx)
}

// makeTree copies part of the Go installation: some thousand real files, with
// executables and links beside them.
func (d *demo) makeTree(ctx context.Context) error {
	b, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	src := filepath.Join(strings.TrimSpace(string(b)), "src")
	if err := os.CopyFS(d.tree(), os.DirFS(src)); err != nil {
		return err
	}
	if err := os.Symlink("fmt/print.go", filepath.Join(d.tree(), "link")); err != nil {
		return err
	}
	files, bytes := 0, int64(0)
	err = filepath.WalkDir(d.tree(), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			info, err := e.Info()
			if err != nil {
				return err
			}
			files, bytes = files+1, bytes+info.Size()
		}
		return err
	})
	fmt.Printf("  a tree of %d files, %s\n", files, size(bytes))
	return err
}

// makeImage makes a disk image: with a file system in it if the tools are
// there, else of noise and zeros.
func (d *demo) makeImage(ctx context.Context) error {
	f, err := os.Create(d.image())
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(imageBytes); err != nil {
		return err
	}
	if mke2fs, err := exec.LookPath("mke2fs"); err == nil {
		err := tool(ctx, mke2fs, "-q", "-F", "-t", "ext4", "-d", d.tree(), d.image())
		fmt.Printf("  a disk image of %s with an ext4 file system\n", size(imageBytes))
		return err
	}
	rng := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 1<<20)
	for at := int64(0); at < imageBytes; at += 4 << 20 {
		rng.Read(noise)
		if _, err := f.WriteAt(noise, at); err != nil {
			return err
		}
	}
	fmt.Printf("  a disk image of %s, a quarter of it noise\n", size(imageBytes))
	return nil
}

// change edits every fiftieth file of the tree and some blocks of the image.
func (d *demo) change() error {
	n := 0
	err := filepath.WalkDir(d.tree(), func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if n++; n%50 != 0 {
			return nil
		}
		if err := os.Chmod(name, 0o644); err != nil {
			return err
		}
		f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = fmt.Fprintf(f, "// changed on the second day, file %d\n", n)
		return err
	})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(d.image(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, at := range []int64{5 << 20, 77 << 20, 200 << 20} {
		if _, err := f.WriteAt([]byte("changed on the second day"), at); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) tree() string  { return filepath.Join(d.dir, "tree") }
func (d *demo) conf() string  { return filepath.Join(d.dir, "guest.conf") }
func (d *demo) key() string   { return filepath.Join(d.dir, "key.json") }
func (d *demo) image() string { return filepath.Join(d.dir, "disk.img") }

func size(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
