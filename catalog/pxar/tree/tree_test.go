//go:build linux

package tree

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"golang.org/x/sys/unix"
)

// archiveOf returns the archive of dir.
func archiveOf(t testing.TB, dir string, opt Options) ([]byte, Report) {
	t.Helper()
	var buf bytes.Buffer
	report, err := Create(context.Background(), dir, Sinks{Archive: &buf}, opt)
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), report
}

func openArchive(t testing.TB, data []byte) *pxar.Archive {
	t.Helper()
	a, err := pxar.OpenArchive(bytes.NewReader(data), int64(len(data)), pxar.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// contents lists an archive: names of directories end in a slash, links in
// what they are links to, files in their content if it is short.
func contents(t testing.TB, data []byte) []string {
	t.Helper()
	var all []string
	d := pxar.NewDecoder(bytes.NewReader(data))
	for {
		e, err := d.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Kind == pxar.DirEnd || e.Depth == 0:
		case e.Kind == pxar.Dir:
			all = append(all, e.Path()+"/")
		case e.Kind == pxar.File:
			text, err := io.ReadAll(d.Content())
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e.Path()+":"+string(text[:min(len(text), 40)]))
		case e.Kind == pxar.Symlink || e.Kind == pxar.Hardlink:
			all = append(all, e.Path()+" -> "+e.Target)
		default:
			all = append(all, e.Path()+" "+e.Kind.String())
		}
	}
}

// plant makes a tree in a new directory: keys that end in a slash are
// directories, values that begin with -> symlinks, with = hard links.
func plant(t testing.TB, tree map[string]string) string {
	t.Helper()
	root := t.TempDir()
	add(t, root, tree)
	return root
}

func add(t testing.TB, root string, tree map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		value, at := tree[name], filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(value, "->"); ok {
			err = os.Symlink(target, at)
		} else if target, ok := strings.CutPrefix(value, "="); ok {
			err = os.Link(filepath.Join(root, target), at)
		} else if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(at, 0o755)
		} else {
			err = os.WriteFile(at, []byte(value), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may do what this tests")
	}
}

// noLeaks checks at the end that all descriptors were closed.
func noLeaks(t *testing.T) {
	t.Helper()
	before := descriptors(t)
	t.Cleanup(func() {
		if after := descriptors(t); after > before {
			t.Errorf("%d descriptors are open, there were %d", after, before)
		}
	})
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc")
	}
	return len(entries)
}

func wantContents(t *testing.T, data []byte, want ...string) {
	t.Helper()
	if got := contents(t, data); !slices.Equal(got, want) {
		t.Errorf("archived\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func wantWarning(t *testing.T, r Report, kind Kind, path string) {
	t.Helper()
	if !slices.ContainsFunc(r.Warnings, func(w Warning) bool { return w.Kind == kind && w.Path == path }) {
		t.Errorf("no warning %q for %q among %v", kind, path, r.Warnings)
	}
}

// mountTmpfs mounts a file system of size bytes ("1m") on dir.
func mountTmpfs(t *testing.T, dir, size string) {
	t.Helper()
	needRoot(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}

func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
