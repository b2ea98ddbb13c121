package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// watchMemory returns the most memory that a process had, in bytes, as far as
// looking fifty times a second tells. What the kernel says at the end of a
// process counts the memory of the one that started it as well.
func watchMemory(pid int, ended <-chan struct{}) (most int64) {
	for {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
			for line := range strings.Lines(string(text)) {
				if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
					n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
					most = max(most, n<<10)
				}
			}
		}
		select {
		case <-ended:
			return most
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (b *bench) tree() string         { return filepath.Join(b.dir, "tree") }
func (b *bench) image(gen int) string { return filepath.Join(b.dir, fmt.Sprintf("disk%d.img", gen)) }
func (b *bench) files() int           { return int(20_000 * b.scale) }
func (b *bench) treeBytes() int64     { return int64(b.scale * 3 * (1 << 30)) }
func (b *bench) imageBytes() int64    { return int64(b.scale*2*(1<<30)) >> 22 << 22 }

// A kind of file: what share of the files, and of the bytes.
type fileKind struct {
	name         string
	files, bytes float64
	content      func(seed uint64, n int) []byte
}

var fileKinds = []fileKind{
	{"source", 0.80, 0.10, chunktest.Text},
	{"document", 0.15, 0.25, chunktest.Text},
	{"binary", 0.04, 0.35, binary},
	{"noise", 0.01, 0.30, chunktest.Random},
}

// binary is like a program: half of it compresses.
func binary(seed uint64, n int) []byte {
	b := chunktest.Random(seed, n)
	for at := 0; at+8192 <= n; at += 8192 {
		copy(b[at:at+4096], chunktest.Text(seed+uint64(at), 4096))
	}
	return b
}

// makeData makes the first generation of the tree, and both of the image.
func (b *bench) makeData(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(1, 2))
	seed := uint64(1)
	for _, k := range fileKinds {
		n := max(1, int(k.files*float64(b.files())))
		mean := k.bytes * float64(b.treeBytes()) / float64(n)
		for i := range n {
			if err := ctx.Err(); err != nil {
				return err
			}
			seed++
			size := int(mean/2 + rng.Float64()*mean)
			name := filepath.Join(fmt.Sprintf("%s/%03d/%03d", k.name, i/400, i/20%20), fmt.Sprintf("file-%06d.%s", i, k.name))
			if err := b.makeFile(name, k.content(seed, size), rng); err != nil {
				return err
			}
		}
	}
	if err := b.makeCopies(ctx); err != nil {
		return err
	}
	if err := b.makeImages(ctx); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.tree(), "small"), chunktest.Text(99, 10<<10), 0o644)
}

// makeCopies copies whole directories, as people keep an old release beside the
// new one: about a tenth of the tree.
func (b *bench) makeCopies(ctx context.Context) error {
	for _, dir := range []string{"document/000", "binary/000"} {
		to := filepath.Join(b.tree(), "old", dir)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if out, err := exec.CommandContext(ctx, "cp", "-a", filepath.Join(b.tree(), dir), to).CombinedOutput(); err != nil {
			return fmt.Errorf("cp: %w: %s", err, out)
		}
	}
	return nil
}

// makeFile writes a file, and notes what becomes of it in the second
// generation.
func (b *bench) makeFile(name string, content []byte, rng *rand.Rand) error {
	path := filepath.Join(b.tree(), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	switch p := rng.Float64(); {
	case p < 0.02:
		b.later = append(b.later, change{path, chunktest.Text(rng.Uint64(), len(content))})
	case p < 0.03:
		at := rng.IntN(len(content) + 1)
		b.later = append(b.later, change{path, append(append(append([]byte(nil), content[:at]...), "inserted"...), content[at:]...)})
	}
	return os.WriteFile(path, content, 0o644)
}

// A change is what a file contains in the second generation.
type change struct {
	path    string
	content []byte
}

// nextGeneration changes the tree in place.
func (b *bench) nextGeneration() error {
	for _, c := range b.later {
		if err := os.WriteFile(c.path, c.content, 0o644); err != nil {
			return err
		}
	}
	b.later = nil
	return nil
}

// makeImages makes a file system with a part of the tree in it, and changes
// some files in it for the second generation.
func (b *bench) makeImages(ctx context.Context) error {
	f, err := os.Create(b.image(1))
	if err != nil {
		return err
	}
	if err := f.Truncate(b.imageBytes()); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-d", filepath.Join(b.tree(), "binary"), b.image(1)).CombinedOutput(); err != nil {
		return fmt.Errorf("mke2fs (package e2fsprogs): %w: %s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", b.image(1), b.image(2)).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w: %s", err, out)
	}
	extra := filepath.Join(b.dir, "extra")
	if err := os.WriteFile(extra, chunktest.Random(7, int(b.imageBytes()/100)), 0o600); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "debugfs", "-w", "-R", "write "+extra+" added", b.image(2)).CombinedOutput(); err != nil {
		return fmt.Errorf("debugfs: %w: %s", err, out)
	}
	return nil
}
