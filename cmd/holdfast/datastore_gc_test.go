package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
	"github.com/holdfast-mesh/holdfast/cmd/holdfast/cli"
)

// smallDisk mounts a file system of its own, which a test may fill. That takes
// root, and a kernel that lets it.
func smallDisk(t *testing.T, kind string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"-t", "tmpfs", "-o", "size=64m", "tmpfs", dir}
	if kind != "tmpfs" {
		image := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, 64<<20); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mkfs."+kind, "-q", image).CombinedOutput(); err != nil {
			t.Skipf("mkfs.%s: %v, %s", kind, err, out)
		}
		args = []string{"-o", "loop", image, dir}
	}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Skipf("mount %s: %v, %s", kind, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v, %s", err, out)
		}
	})
	return dir
}

// fillDisk writes into dir until not a byte more goes in.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for n := 1 << 20; n > 0; {
		_, err := f.Write(bytes.Repeat([]byte{1}, n))
		switch {
		case errors.Is(err, syscall.ENOSPC):
			n /= 2
		case err != nil:
			t.Fatal(err)
		}
	}
}

// Garbage can be collected on a disk on which there is no room for one byte:
// when else would it be needed more?
func TestCollectionOnFullDisk(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			disk := smallDisk(t, kind)
			dir := filepath.Join(disk, "store")
			holdfast := func(args ...string) (string, int) {
				var out bytes.Buffer
				code := run(t.Context(), cli.Env{Out: &out, Err: &out, Getenv: func(string) string { return "" }}, args)
				return out.String(), code
			}
			if out, code := holdfast("datastore", "init", "--pack-size", "16", dir); code != 0 {
				t.Fatal(out)
			}
			s, err := pack.Open(context.Background(), pack.Config{Dir: dir, Reserve: 1})
			if err != nil {
				t.Fatal(err)
			}
			for i := range uint64(36) { // 36 MiB, so two packs are sealed
				c := chunktest.Blob(i, 1<<20)
				if _, err := s.Put(t.Context(), c.Digest, c.Blob); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			fillDisk(t, disk)
			out, code := holdfast("datastore", "gc", dir)
			if code != 0 || !strings.Contains(out, "freed 3") && !strings.Contains(out, "freed 2") {
				t.Fatalf("exit %d: %s", code, out)
			}
			if err := os.WriteFile(filepath.Join(disk, "more"), make([]byte, 20<<20), 0o600); err != nil {
				t.Errorf("the space did not come back: %v", err)
			}
			if out, code := holdfast("datastore", "verify", "--scrub", dir); code != 0 {
				t.Errorf("exit %d: %s", code, out)
			}
		})
	}
}
