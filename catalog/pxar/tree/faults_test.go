//go:build linux

package tree

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

// Every size of file takes another way to the archive: read ahead by a
// reader, or read by the archiver itself.
var faultSizes = map[string]int{"small": 5000, "large": 3<<20 + 1}

func TestFileChangesWhileItIsRead(t *testing.T) {
	for _, tt := range []struct {
		name   string
		kind   Kind
		change func(path string, size int) error
		want   func(old []byte) []byte
	}{
		{"shorter files are filled with zeros", Shrank,
			func(path string, size int) error { return os.Truncate(path, int64(size-4000)) },
			func(old []byte) []byte { return append(old[:len(old)-4000:len(old)-4000], make([]byte, 4000)...) }},
		{"empty files are filled with zeros", Shrank,
			func(path string, _ int) error { return os.Truncate(path, 0) },
			func(old []byte) []byte { return make([]byte, len(old)) }},
		{"longer files are cut", Grew,
			func(path string, size int) error { return appendTo(path, "more") },
			slices.Clone[[]byte]},
		{"files written to are told", Changed,
			func(path string, size int) error { return os.WriteFile(path, bytes.Repeat([]byte("y"), size), 0o644) },
			func(old []byte) []byte { return bytes.Repeat([]byte("y"), len(old)) }},
	} {
		for sizeName, size := range faultSizes {
			t.Run(tt.name+", "+sizeName, func(t *testing.T) {
				noLeaks(t)
				old := bytes.Repeat([]byte("x"), size)
				root := plant(t, map[string]string{"a": "before", "victim": string(old), "z": "behind"})
				data, report := archiveOf(t, root, Options{AfterStat: func(path string) {
					if path == "victim" {
						if err := tt.change(root+"/victim", size); err != nil {
							t.Error(err)
						}
					}
				}})
				wantWarning(t, report, tt.kind, "victim")
				if report.WarningCount != 1 || report.DamagedCount != 0 || report.Files != 3 {
					t.Errorf("report: %+v", report)
				}
				if got := fileIn(t, data, "victim"); !bytes.Equal(got, tt.want(old)) {
					t.Errorf("the archived file has %d bytes and another content", len(got))
				}
			})
		}
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// fileIn returns the content of a file in an archive.
func fileIn(t *testing.T, data []byte, path string) []byte {
	t.Helper()
	n, err := openArchive(t, data).Find(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := n.Content()
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, r.Size())
	if _, err := r.ReadAt(content, 0); err != nil {
		t.Fatal(err)
	}
	return content
}

// A new name of a file changes its ctime, and nothing that is archived.
func TestLinkedMeanwhileIsNoChange(t *testing.T) {
	root := plant(t, map[string]string{"a": "content"})
	_, report := archiveOf(t, root, Options{AfterStat: func(string) { _ = os.Link(root+"/a", root+"/b") }})
	if report.WarningCount != 0 {
		t.Errorf("warnings: %v", report.Warnings)
	}
}

// Between the listing of a directory and the opening of what is in it
// anything can happen. One worker, and a file before the victim, make sure
// that it happens there.
func TestEntryChangesBehindTheListing(t *testing.T) {
	for _, tt := range []struct {
		name   string
		kind   Kind
		change func(path string) error
	}{
		{"a file is removed", Vanished, os.Remove},
		{"a file becomes a symlink", Changed, func(path string) error {
			return firstError(os.Remove(path), os.Symlink("/etc/passwd", path))
		}},
		{"a file becomes a directory", Changed, func(path string) error {
			return firstError(os.Remove(path), os.Mkdir(path, 0o755))
		}},
		{"a file becomes a fifo that nobody writes to", Changed, func(path string) error {
			return firstError(os.Remove(path), unix.Mkfifo(path, 0o644))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			root := plant(t, map[string]string{"a": "before", "victim": "content", "z": "behind"})
			data, report := archiveOf(t, root, Options{Workers: 1, AfterStat: func(path string) {
				if path == "a" {
					if err := tt.change(root + "/victim"); err != nil {
						t.Error(err)
					}
				}
			}})
			wantWarning(t, report, tt.kind, "victim")
			wantContents(t, data, "a:before", "z:behind")
		})
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	root := plant(t, map[string]string{"dir/x": "1", "file": "1", "z": "1"})
	for _, name := range []string{"dir", "file"} {
		if err := os.Chmod(root+"/"+name, 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(root+"/dir", 0o755) }) // so that it can be removed
	data, report := archiveOf(t, root, Options{})
	wantContents(t, data, "z:1")
	wantWarning(t, report, Unreadable, "dir")
	wantWarning(t, report, Unreadable, "file")
	if report.WarningCount != 2 || report.DamagedCount != 0 {
		t.Errorf("report: %+v", report)
	}
}

// badDisk fails to read sectors from, to of every file larger than one byte.
func badDisk(from, to int64) func(fd int, buf []byte, off int64) (int, error) {
	return func(fd int, buf []byte, off int64) (int, error) {
		from, to := from*sector, to*sector
		switch end := off + int64(len(buf)); {
		case len(buf) == 1 || end <= from || off >= to:
			return inode.Read(fd, buf, off)
		case off < from:
			n, err := inode.Read(fd, buf[:from-off], off)
			if err == nil && n == int(from-off) {
				err = unix.EIO
			}
			return n, err
		default:
			return 0, unix.EIO
		}
	}
}

func TestDiskFails(t *testing.T) {
	for _, tt := range []struct {
		name     string
		from, to int64 // bad sectors
		lostTo   int64 // a run of failures gives up more each time
	}{
		{"one sector", 1, 2, 2},
		{"two sectors at the beginning", 0, 2, 3},
		{"a run over blocks", 250, 260, 250 + 1 + 2 + 4 + 8},
		{"to the end", 700, 1 << 30, 769},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			const sectors = 769
			content := bytes.Repeat([]byte("x"), sectors*sector-100)
			root := plant(t, map[string]string{"a": "1", "victim": string(content), "z": "2"})
			data, report := archiveOf(t, root, Options{pread: badDisk(tt.from, tt.to)})
			clear(content[tt.from*sector : min(int64(len(content)), tt.lostTo*sector)])
			if got := fileIn(t, data, "victim"); !bytes.Equal(got, content) {
				t.Errorf("%d bytes are zeros, want %d", bytes.Count(got, []byte{0}), bytes.Count(content, []byte{0}))
			}
			wantWarning(t, report, Damaged, "victim")
			if !slices.Equal(report.Damaged, []string{"victim"}) || report.WarningCount != 1 {
				t.Errorf("report: %+v", report)
			}
			lost := fmt.Sprintf("%d of %d bytes", bytes.Count(content, []byte{0}), len(content))
			if w := report.Warnings[0].String(); !strings.Contains(w, lost) {
				t.Errorf("the warning is %s, want %s", w, lost)
			}
		})
	}
}

func TestSmallFileOnABadDisk(t *testing.T) {
	noLeaks(t)
	root := plant(t, map[string]string{"victim": strings.Repeat("x", 9000)})
	data, report := archiveOf(t, root, Options{pread: badDisk(1, 2)})
	want := strings.Repeat("x", 4096) + strings.Repeat("\x00", 4096) + strings.Repeat("x", 9000-8192)
	if got := fileIn(t, data, "victim"); string(got) != want || report.DamagedCount != 1 {
		t.Errorf("archived %d zeros, report %+v", bytes.Count(got, []byte{0}), report)
	}
}

func TestWarningsAreBounded(t *testing.T) {
	rec := new(recorder)
	for i := range MaxWarnings + 50 {
		rec.warn(Damaged, strings.Repeat("d/", i)+"file", unix.EIO)
	}
	r := rec.result()
	if r.WarningCount != MaxWarnings+50 || r.DamagedCount != MaxWarnings+50 || len(r.Warnings) != MaxWarnings || len(r.Damaged) != MaxWarnings {
		t.Errorf("%d and %d warnings, %d and %d damaged", len(r.Warnings), r.WarningCount, len(r.Damaged), r.DamagedCount)
	}
	if last := r.Damaged[MaxWarnings-1]; len(last) > maxReportedPath+len("…") || !strings.HasSuffix(last, "/file") {
		t.Errorf("a path of %d bytes is kept", len(last))
	}
}

// The directory that the walker came from is moved away while it is deeper
// down than it keeps directories open: it finds back to the root, and says
// what it missed.
func TestDirectoryIsMovedWhileBelow(t *testing.T) {
	noLeaks(t)
	root := plant(t, map[string]string{"top/z": "lost", "zz": "kept"})
	other := t.TempDir()
	dig(t, root+"/top", "d", maxOpenDirs+20)
	moved := false
	_, report := archiveOf(t, root, Options{Workers: 1, AfterStat: func(path string) {
		if !moved && strings.HasSuffix(path, strings.Repeat("d/", maxOpenDirs+20)+"z") {
			moved = true
			if err := os.Rename(root+"/top/d/d/d", other+"/d"); err != nil {
				t.Error(err)
			}
		}
	}})
	if !moved {
		t.Fatal("nothing was moved")
	}
	if report.DamagedCount > 0 {
		wantWarning(t, report, Damaged, "top/d/d")
	}
	if got := report.Files; got < int64(maxOpenDirs) {
		t.Errorf("%d files were archived", got)
	}
}
