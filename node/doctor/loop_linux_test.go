package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
)

// loop mounts a small ext4 with few inodes, or skips the test.
func loop(t *testing.T, options string) (at string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root mounts file systems: run this test as root, on a machine with loop devices")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s here, so nothing is mounted", tool)
		}
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-N", "128", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,"+options, image, at).CombinedOutput(); err != nil {
		t.Skipf("this machine mounts no image (%v: %s), so nothing is looked at", err, strings.TrimSpace(string(out)))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return at
}

// What is mounted badly is found on mounts of the kernel, and not only in a table that
// the test wrote: read-only, every reading noted, and no inodes left.
func TestBadMounts(t *testing.T) {
	at := loop(t, "strictatime")
	d, err := New(Config{World: func() World {
		return World{Name: "here", Places: []Place{{"the node", t.TempDir()}, {"store main", at}}}
	}})
	if err != nil {
		t.Fatal(err)
	}
	finds := func(check string, s doctor.Severity) bool {
		t.Helper()
		r, err := d.Examine(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
			return f.Check == check && f.Severity == s && strings.Contains(f.Text, "store main") && f.Cure != ""
		})
	}
	if !finds("mount-options", doctor.Note) {
		t.Error("that every reading is noted on the disk is not found")
	}
	if finds("inodes", doctor.Warning) {
		t.Error("an empty file system has too few inodes")
	}
	for n := 0; ; n++ {
		if err := os.WriteFile(filepath.Join(at, fmt.Sprint(n)), nil, 0o600); err != nil {
			break
		}
	}
	if !finds("inodes", doctor.Warning) {
		t.Error("that no file can be made any more is not found")
	}
	for _, options := range []string{"remount,noatime", "remount,ro"} {
		if out, err := exec.Command("mount", "-o", options, at).CombinedOutput(); err != nil {
			t.Fatalf("mount -o %s: %v\n%s", options, err, out)
		}
		if finds("mount-options", doctor.Note) {
			t.Errorf("with %s every reading is said to be noted", options)
		}
	}
	if !finds("mount-options", doctor.Critical) {
		t.Error("that it is read-only is not found")
	}
}
