package disktest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Run tests that a file system behaves as package disk says. open returns
// one, and an empty directory of it that the test may use. Abilities that are
// absent or unsupported are skipped.
func Run(t *testing.T, open func(t *testing.T) (disk.FS, string)) {
	tests := []struct {
		name string
		run  func(*testing.T, world)
	}{
		{"what was written is read back, and io.EOF ends it", testReadWrite},
		{"bad offsets, closed files and wrong modes are errors", testMisuse},
		{"errors have the kinds that callers look for", testErrorKinds},
		{"truncate cuts off for good, and extends with zeros", testTruncate},
		{"rename replaces, and open files stay what they are", testRename},
		{"directories list their names in order", testDirectories},
		{"a lock has one holder", testLock},
		{"identities are stable and differ", testIdent},
		{"space is reported", testSpace},
		{"direct files work on aligned memory", testDirect},
		{"a hole reads as zeros and keeps the length", testPunch},
		{"a clone is equal and independent", testClone},
		{"a mapping shows the content and outlives the file", testMap},
		{"holes are found", testHoles},
		{"a file is replaced as a whole", testWriteFileAtomic},
		{"directories are made with their parents", testMkdirAll},
		{"a probe leaves nothing behind", testProbe},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fsys, dir := open(t)
			test.run(t, world{t, fsys, dir})
		})
	}
}

// A world is a file system and an empty directory of it.
type world struct {
	t   *testing.T
	fs  disk.FS
	dir string
}

func (w world) path(name string) string { return path.Join(w.dir, name) }

// must fails the test if err is not nil.
func (w world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// wants fails the test if err is not want.
func (w world) wants(what string, err, want error) {
	w.t.Helper()
	if !errors.Is(err, want) {
		w.t.Errorf("%s: error %v, want one that is %v", what, err, want)
	}
}

// open opens a file that is closed when the test ends.
func (w world) open(name string, flag int) disk.File {
	w.t.Helper()
	f, err := w.fs.OpenFile(w.path(name), flag, 0o600)
	w.must(err)
	w.t.Cleanup(func() { _ = f.Close() }) // perhaps again
	return f
}

// file makes a file with a content.
func (w world) file(name string, content []byte) disk.File {
	w.t.Helper()
	f := w.open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	w.write(f, content, 0)
	return f
}

func (w world) write(f disk.File, p []byte, off int64) {
	w.t.Helper()
	n, err := f.WriteAt(p, off)
	w.must(err)
	if n != len(p) {
		w.t.Fatalf("wrote %d of %d bytes without an error", n, len(p))
	}
}

// holds fails the test if f does not have this content.
func (w world) holds(f disk.File, want []byte) {
	w.t.Helper()
	size, err := f.Size()
	w.must(err)
	got := make([]byte, size+1)
	n, err := f.ReadAt(got, 0)
	w.wants("read past the end", err, io.EOF)
	if got = got[:n]; !bytes.Equal(got, want) {
		w.t.Errorf("file %s has %d bytes %.40q, want %d bytes %.40q", f.Name(), len(got), got, len(want), want)
	}
}

// supported skips the test if err says that the file system cannot do this.
func (w world) supported(err error) {
	w.t.Helper()
	if errors.Is(err, errors.ErrUnsupported) {
		w.t.Skip("not supported here: ", err)
	}
	w.must(err)
}

// ability returns f as a T, or skips the test.
func ability[T any](w world, f disk.File) T {
	w.t.Helper()
	a, ok := f.(T)
	if !ok {
		w.t.Skip("not an ability of these files")
	}
	return a
}

// pattern returns n bytes in which no block is zero or like another.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i>>12)*31 + byte(i)*7 | 1
	}
	return p
}

func testReadWrite(t *testing.T, w world) {
	f := w.file("a", []byte("hello"))
	w.write(f, []byte("world"), 7)
	w.holds(f, []byte("hello\x00\x00world"))
	if f.Name() != w.path("a") {
		t.Errorf("name %q, want %q", f.Name(), w.path("a"))
	}
	p := make([]byte, 8)
	if n, err := f.ReadAt(p, 7); n != 5 || err != io.EOF {
		t.Errorf("read 8 bytes of the last 5: %d, %v; want 5, EOF", n, err)
	}
	if n, err := f.ReadAt(p, 100); n != 0 || err != io.EOF {
		t.Errorf("read behind the end: %d, %v; want 0, EOF", n, err)
	}
	if n, err := f.ReadAt(p[:5], 7); n != 5 || err != nil {
		t.Errorf("read up to the end: %d, %v; want 5 and no error", n, err)
	}
	w.must(f.Sync())
	w.holds(w.open("a", os.O_RDONLY), []byte("hello\x00\x00world"))
	w.holds(w.open("a", os.O_RDWR|os.O_TRUNC), nil)
	w.holds(f, nil)
}

func testMisuse(t *testing.T, w world) {
	f := w.file("a", []byte("hello"))
	if _, err := f.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read at a negative offset succeeded")
	}
	if _, err := f.WriteAt(make([]byte, 1), -1); err == nil {
		t.Error("write at a negative offset succeeded")
	}
	if err := f.Truncate(-1); err == nil {
		t.Error("truncate to a negative size succeeded")
	}
	r := w.open("a", os.O_RDONLY)
	if _, err := r.WriteAt([]byte("x"), 0); err == nil {
		t.Error("write to a file opened for reading succeeded")
	}
	if err := r.Truncate(0); err == nil {
		t.Error("truncate of a file opened for reading succeeded")
	}
	o := w.open("a", os.O_WRONLY)
	if _, err := o.ReadAt(make([]byte, 1), 0); err == nil || err == io.EOF {
		t.Errorf("read of a file opened for writing: %v, want an error", err)
	}
	w.holds(r, []byte("hello"))
	w.must(f.Close())
	_, err := f.ReadAt(make([]byte, 1), 0)
	w.wants("read after close", err, fs.ErrClosed)
	_, err = f.WriteAt(make([]byte, 1), 0)
	w.wants("write after close", err, fs.ErrClosed)
	w.wants("sync after close", f.Sync(), fs.ErrClosed)
	w.wants("close after close", f.Close(), fs.ErrClosed)
}

func testErrorKinds(t *testing.T, w world) {
	w.file("file", nil)
	w.must(w.fs.Mkdir(w.path("dir"), 0o700))
	w.file("dir/inner", nil)
	openErr := func(name string, flag int) error {
		f, err := w.fs.OpenFile(w.path(name), flag, 0o600)
		if err == nil {
			_ = f.Close()
		}
		return err
	}
	_, statErr := w.fs.Stat(w.path("none"))
	_, dirErr := w.fs.ReadDir(w.path("none"))
	_, spaceErr := w.fs.Space(w.path("none"))
	_, identErr := w.fs.Ident(w.path("none"))
	_, lockErr := w.fs.Lock(w.path("none/lock"))
	for _, row := range []struct {
		what      string
		err, want error
	}{
		{"open what is not there", openErr("none", os.O_RDWR), fs.ErrNotExist},
		{"create in a directory that is not there", openErr("none/a", os.O_RDWR|os.O_CREATE), fs.ErrNotExist},
		{"create exclusively what is there", openErr("file", os.O_RDWR|os.O_CREATE|os.O_EXCL), fs.ErrExist},
		{"rename what is not there", w.fs.Rename(w.path("none"), w.path("b")), fs.ErrNotExist},
		{"rename into a directory that is not there", w.fs.Rename(w.path("file"), w.path("none/b")), fs.ErrNotExist},
		{"rename over a directory", w.fs.Rename(w.path("file"), w.path("dir")), fs.ErrExist},
		{"remove what is not there", w.fs.Remove(w.path("none")), fs.ErrNotExist},
		{"remove a directory that is not empty", w.fs.Remove(w.path("dir")), fs.ErrExist},
		{"make a directory that is there", w.fs.Mkdir(w.path("dir"), 0o700), fs.ErrExist},
		{"make a directory where a file is", w.fs.Mkdir(w.path("file"), 0o700), fs.ErrExist},
		{"make a directory without its parent", w.fs.Mkdir(w.path("none/a"), 0o700), fs.ErrNotExist},
		{"sync a directory that is not there", w.fs.SyncDir(w.path("none")), fs.ErrNotExist},
		{"stat what is not there", statErr, fs.ErrNotExist},
		{"list what is not there", dirErr, fs.ErrNotExist},
		{"space of what is not there", spaceErr, fs.ErrNotExist},
		{"identity of what is not there", identErr, fs.ErrNotExist},
		{"lock in a directory that is not there", lockErr, fs.ErrNotExist},
	} {
		w.wants(row.what, row.err, row.want)
	}
	if openErr("dir", os.O_RDWR) == nil {
		t.Error("a directory was opened for writing")
	}
	if openErr("file/a", os.O_RDWR|os.O_CREATE) == nil {
		t.Error("a file was created below a file")
	}
}

func testTruncate(_ *testing.T, w world) {
	content := pattern(10_000)
	f := w.file("a", content)
	w.must(f.Truncate(5000))
	w.holds(f, content[:5000])
	w.must(f.Truncate(10_000))
	w.holds(f, append(bytes.Clone(content[:5000]), make([]byte, 5000)...))
	w.must(f.Truncate(0))
	w.write(f, []byte("x"), 9000)
	w.holds(f, append(make([]byte, 9000), 'x'))
}

func testRename(t *testing.T, w world) {
	old, b := w.file("a", []byte("old")), w.file("b", []byte("new"))
	w.must(w.fs.Rename(w.path("b"), w.path("a")))
	w.holds(old, []byte("old"))
	w.holds(w.open("a", os.O_RDONLY), []byte("new"))
	w.write(b, []byte("N"), 0)
	w.holds(w.open("a", os.O_RDONLY), []byte("New"))
	_, err := w.fs.Stat(w.path("b"))
	w.wants("stat of the old name", err, fs.ErrNotExist)
	w.must(w.fs.Remove(w.path("a")))
	w.holds(b, []byte("New"))

	w.must(w.fs.Mkdir(w.path("d"), 0o700))
	w.file("d/x", []byte("x"))
	w.must(w.fs.Rename(w.path("d"), w.path("e")))
	w.holds(w.open("e/x", os.O_RDONLY), []byte("x"))
	if w.fs.Rename(w.path("e"), w.path("e/f")) == nil {
		t.Error("a directory was moved into itself")
	}
}

func testDirectories(t *testing.T, w world) {
	for _, name := range []string{"c", "a", "B"} {
		w.file(name, []byte(name))
	}
	w.must(w.fs.Mkdir(w.path("b"), 0o700))
	w.must(w.fs.SyncDir(w.dir))
	entries, err := w.fs.ReadDir(w.dir)
	w.must(err)
	var got []string
	for _, e := range entries {
		if got = append(got, e.Name()); e.IsDir() {
			got[len(got)-1] += "/"
		}
		i, err := e.Info()
		w.must(err)
		if i.Name() != e.Name() || i.IsDir() != e.IsDir() || !i.IsDir() && i.Size() != 1 {
			t.Errorf("entry %s has the info %s", e.Name(), fs.FormatFileInfo(i))
		}
	}
	if want := "B a b/ c"; strings.Join(got, " ") != want {
		t.Errorf("directory has %v, want %s", got, want)
	}
	i, err := w.fs.Stat(w.path("c"))
	w.must(err)
	if i.Name() != "c" || i.Size() != 1 || !i.Mode().IsRegular() || i.ModTime().IsZero() {
		t.Errorf("stat of a file of one byte: %s", fs.FormatFileInfo(i))
	}
	w.must(w.fs.Remove(w.path("b")))
	entries, err = w.fs.ReadDir(w.dir)
	w.must(err)
	if len(entries) != 3 {
		t.Errorf("%d entries after one of 4 was removed", len(entries))
	}
}

func testLock(t *testing.T, w world) {
	held, err := w.fs.Lock(w.path("lock"))
	w.must(err)
	_, err = w.fs.Lock(w.path("lock"))
	w.wants("lock again", err, disk.ErrLocked)
	other, err := w.fs.Lock(w.path("other"))
	w.must(err)
	w.must(held.Close())
	if held.Close() == nil {
		t.Error("a lock was given back twice")
	}
	again, err := w.fs.Lock(w.path("lock"))
	w.must(err)
	w.must(again.Close())
	w.must(other.Close())
}

func testIdent(t *testing.T, w world) {
	ident := func(name string) string {
		id, err := w.fs.Ident(w.path(name))
		w.must(err)
		return id
	}
	w.must(w.fs.Mkdir(w.path("a"), 0o700))
	w.must(w.fs.Mkdir(w.path("b"), 0o700))
	a := ident("a")
	if a == "" || a == ident("b") || a == ident(".") {
		t.Errorf("directories a, b and their parent are %q, %q and %q", a, ident("b"), ident("."))
	}
	w.file("a/x", nil)
	w.must(w.fs.Rename(w.path("a"), w.path("c")))
	if ident("c") != a {
		t.Error("a directory that was renamed is another one")
	}
}

func testSpace(t *testing.T, w world) {
	s, err := w.fs.Space(w.dir)
	w.must(err)
	if s.TotalBytes <= 0 || s.FreeBytes < 0 || s.FreeBytes > s.TotalBytes || s.FreeInodes > s.TotalInodes {
		t.Errorf("space %+v makes no sense", s)
	}
	if used := s.Used(); s.ReservedBytes < 0 || used < 0 || used+s.FreeBytes+s.ReservedBytes != s.TotalBytes {
		t.Errorf("space %+v: %d bytes are used", s, used)
	}
}
