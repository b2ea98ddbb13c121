//go:build linux

package inode

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadNames(t *testing.T) {
	root := t.TempDir()
	const n = 1200 // more than one call of getdents
	for i := range n {
		if err := os.WriteFile(fmt.Sprintf("%s/%s%d", root, strings.Repeat("n", i%200), i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(root, DirFlags, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	names, err := ReadNames(fd, n, t.Context().Err)
	if err != nil || len(names) != n {
		t.Fatalf("%d names, %v", len(names), err)
	}
	if !slices.IsSortedFunc(names, func(a, b Dirent) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the names are not sorted")
	}
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadNames(fd, n-1, t.Context().Err); err != ErrTooManyEntries {
		t.Errorf("error is %v", err)
	}
}

// FuzzDirents checks that names come only from the buffer, and that parsing
// ends.
func FuzzDirents(f *testing.F) {
	one := func(name string, kind byte) []byte {
		b := make([]byte, direntHead+(len(name)+8)&^7)
		binary.NativeEndian.PutUint16(b[16:], uint16(len(b)))
		b[18] = kind
		copy(b[direntHead:], name)
		return b
	}
	f.Add(one("a", unix.DT_REG))
	f.Add(slices.Concat(one(".", unix.DT_DIR), one("..", unix.DT_DIR), one("\xff long name", unix.DT_UNKNOWN), one("b", 1)))
	f.Add(one("a", 1)[:18])
	f.Fuzz(func(t *testing.T, buf []byte) {
		total := 0
		for _, e := range appendNames(nil, buf) {
			total += direntHead + len(e.Name)
			if e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsRune(e.Name, 0) {
				t.Errorf("name %q", e.Name)
			}
		}
		if total > len(buf) {
			t.Errorf("%d bytes of entries in %d bytes", total, len(buf))
		}
	})
}
