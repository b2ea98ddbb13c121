package disktest

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

func testWriteFileAtomic(t *testing.T, w world) {
	for _, content := range []string{"", "one", "two, which is longer", "3"} {
		w.must(disk.WriteFileAtomic(w.fs, w.path("a"), []byte(content), 0o600))
		got, err := disk.ReadFile(w.fs, w.path("a"), int64(len(content)))
		w.must(err)
		if string(got) != content {
			t.Errorf("read %q, want %q", got, content)
		}
	}
	if _, err := disk.ReadFile(w.fs, w.path("a"), 0); err == nil || !strings.Contains(err.Error(), "at most 0") {
		t.Errorf("read of a file over the limit: %v", err)
	}
	w.wants("write into a directory that is not there",
		disk.WriteFileAtomic(w.fs, w.path("none/a"), nil, 0o600), fs.ErrNotExist)
	w.onlyHolds("a")
}

func testMkdirAll(_ *testing.T, w world) {
	w.must(disk.MkdirAll(w.fs, w.path("a/b/c"), 0o700))
	w.must(disk.MkdirAll(w.fs, w.path("a/b/c"), 0o700))
	w.must(disk.MkdirAll(w.fs, w.path("a/b/d"), 0o700))
	w.file("a/b/c/file", nil)
	w.wants("make a directory where a file is", disk.MkdirAll(w.fs, w.path("a/b/c/file"), 0o700), fs.ErrExist)
	if disk.MkdirAll(w.fs, w.path("a/b/c/file/d"), 0o700) == nil {
		w.t.Error("a directory was made below a file")
	}
}

func testProbe(t *testing.T, w world) {
	w.file(".probe-leftover", []byte("x"))
	w.file("a", nil)
	a, err := disk.Probe(w.fs, w.dir)
	w.must(err)
	t.Logf("%+v", a)
	w.onlyHolds("a")
	_, err = disk.Probe(w.fs, w.path("none"))
	w.wants("probe of a directory that is not there", err, fs.ErrNotExist)
}

// onlyHolds fails the test if the directory has other names than these.
func (w world) onlyHolds(names ...string) {
	w.t.Helper()
	entries, err := w.fs.ReadDir(w.dir)
	w.must(err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, names) {
		w.t.Errorf("directory has %q, want %q", got, names)
	}
}
