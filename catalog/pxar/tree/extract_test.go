//go:build linux

package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/match"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

func extract(t *testing.T, data []byte, target string, opt ExtractOptions) (Report, error) {
	t.Helper()
	noLeaks(t)
	return Extract(t.Context(), openArchive(t, data), target, opt)
}

func mustExtract(t *testing.T, data []byte, target string, opt ExtractOptions) Report {
	t.Helper()
	report, err := extract(t, data, target, opt)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func wantTree(t *testing.T, dir string, want ...string) {
	t.Helper()
	data, _ := archiveOf(t, dir, Options{})
	wantContents(t, data, want...)
}

func TestGoldenArchivesComeBackTheSame(t *testing.T) {
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name, isArchive := strings.CutSuffix(f.Name(), ".pxar")
		if !isArchive {
			continue
		}
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile("testdata/" + f.Name())
			if err != nil {
				t.Fatal(err)
			}
			target := t.TempDir()
			report, err := extract(t, data, target, ExtractOptions{})
			t.Cleanup(func() { clearFlags(t, target) })
			if err != nil {
				t.Fatal(err)
			}
			if report.WarningCount > 0 {
				t.Skipf("this user, or this file system, cannot hold everything: %v", report.Warnings[0])
			}
			var opt Options
			if name == "exclude" {
				if opt.Exclude, err = match.ParseList([]string{"cli-out", "**/x.log", "sub/y.log/"}); err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(target + "/sub/local"); err != nil { // excluded by us, not by the official client
					t.Fatal(err)
				}
				checkExcludeFixture(t, data, target, opt)
				return
			}
			again, _ := archiveOf(t, target, opt)
			if !bytes.Equal(again, data) && !slices.Equal(metadata(t, again), metadata(t, data)) { // some file systems list attributes in an order of their own
				t.Errorf("archived again it is different:\n%q\nwant\n%q", metadata(t, again), metadata(t, data))
			}
		})
	}
}

// metadata lists everything about the entries of an archive but the order of
// their extended attributes, and their contents.
func metadata(t *testing.T, data []byte) []string {
	t.Helper()
	var all []string
	d := pxar.NewDecoder(bytes.NewReader(data))
	for {
		e, err := d.Next()
		if err == io.EOF {
			return append(all, contents(t, data)...)
		}
		if err != nil {
			t.Fatal(err)
		}
		m := e.Metadata
		slices.SortFunc(m.Xattrs, func(a, b pxar.Xattr) int { return strings.Compare(a.Name, b.Name) })
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%q %v %v %s", e.Path(), e.Kind, e.Device, text))
	}
}

func checkExcludeFixture(t *testing.T, data []byte, target string, opt Options) {
	t.Helper()
	want := slices.DeleteFunc(contents(t, data), func(s string) bool { return s == "sub/local:local" || s == "sub/local:sub/local" })
	again, _ := archiveOf(t, target, opt)
	wantContents(t, again, want...)
}

// clearFlags makes a tree removable that has files that must not change, and
// directories that may not be entered.
func clearFlags(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return nil // what cannot be opened cannot have flags, or is not ours to remove
		}
		if d.IsDir() {
			defer os.Chmod(name, 0o700) // with and without a flag that forbids it
			_ = os.Chmod(name, 0o700)
		}
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil
		}
		defer unix.Close(fd)
		if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil && flags&0x30 != 0 { // append, immutable
			return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^0x30))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestZerosBecomeHoles(t *testing.T) {
	root := t.TempDir()
	content := make([]byte, 4<<20+5)
	copy(content[1<<20+4096:], "data")
	content[3<<20] = 1
	for name, n := range map[string]int{"a": len(content), "b": 3<<20 + 1, "c": 2 << 20} {
		if err := os.WriteFile(root+"/"+name, content[:n], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, _ := archiveOf(t, root, Options{})
	target := t.TempDir()
	mustExtract(t, data, target, ExtractOptions{})
	for name, n := range map[string]int{"a": len(content), "b": 3<<20 + 1, "c": 2 << 20} {
		got, err := os.ReadFile(target + "/" + name)
		if err != nil || !bytes.Equal(got, content[:n]) {
			t.Errorf("%s has %d bytes and another content, %v", name, len(got), err)
		}
		var st unix.Stat_t
		if err := unix.Stat(target+"/"+name, &st); err != nil || st.Blocks*512 > 64<<10 {
			t.Errorf("%s takes %d bytes on disk, %v", name, st.Blocks*512, err)
		}
	}
}

func TestExistingTarget(t *testing.T) {
	archived := map[string]string{"a/x": "new", "a/l": "->new", "b": "new", "c/y": "new"}
	for _, tt := range []struct {
		name   string
		there  map[string]string
		opt    ExtractOptions
		exists string // what the error says is there
		want   []string
	}{
		{"an empty one is fine", nil, ExtractOptions{}, "", []string{"a/", "a/l -> new", "a/x:new", "b:new", "c/", "c/y:new"}},
		{"one that is not empty is refused", map[string]string{"q": ""}, ExtractOptions{}, "target", []string{"q:"}},
		{"other names may be there", map[string]string{"q": "old"}, ExtractOptions{AllowExistingDirs: true}, "",
			[]string{"a/", "a/l -> new", "a/x:new", "b:new", "c/", "c/y:new", "q:old"}},
		{"directories may be there", map[string]string{"a/q": "old"}, ExtractOptions{AllowExistingDirs: true}, "",
			[]string{"a/", "a/l -> new", "a/q:old", "a/x:new", "b:new", "c/", "c/y:new"}},
		{"a file may not be there", map[string]string{"b": "old"}, ExtractOptions{AllowExistingDirs: true}, "b", nil},
		{"a symlink may not be there", map[string]string{"a/l": "->old"}, ExtractOptions{AllowExistingDirs: true}, "a/l", nil},
		{"a file is no directory", map[string]string{"c": "old"}, ExtractOptions{AllowExistingDirs: true}, "c", nil},
		{"a symlink to a directory is no directory", map[string]string{"c": "->/"}, ExtractOptions{AllowExistingDirs: true}, "c", nil},
		{"everything is replaced", map[string]string{"a/x": "old", "a/l": "old", "b": "->a", "c": "->/"}, ExtractOptions{Overwrite: true}, "",
			[]string{"a/", "a/l -> new", "a/x:new", "b:new", "c/", "c/y:new"}},
		{"but directories", map[string]string{"b/x": "old"}, ExtractOptions{Overwrite: true}, "incomplete",
			[]string{"a/", "a/l -> new", "a/x:new", "b/", "b/x:old", "c/", "c/y:new"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, _ := archiveOf(t, plant(t, archived), Options{})
			target := plant(t, tt.there)
			_, err := extract(t, data, target, tt.opt)
			var exists *ExistsError
			var notEmpty *NotEmptyError
			var incomplete *IncompleteError
			switch tt.exists {
			case "":
				if err != nil {
					t.Fatal(err)
				}
			case "target":
				if !errors.As(err, &notEmpty) {
					t.Fatalf("error is %v", err)
				}
			case "incomplete":
				if !errors.As(err, &incomplete) {
					t.Fatalf("error is %v", err)
				}
			default:
				if !errors.As(err, &exists) || exists.Path != tt.exists || !errors.Is(err, fs.ErrExist) {
					t.Fatalf("error is %v, want that %s exists", err, tt.exists)
				}
			}
			if tt.exists != "" && hintOf(err) == "" {
				t.Error("the error has no hint")
			}
			if tt.want != nil {
				wantTree(t, target, tt.want...)
			}
		})
	}
}

func TestPartsOfAnArchive(t *testing.T) {
	data, _ := archiveOf(t, plant(t, map[string]string{"a/b/x": "1", "a/b/y.log": "2", "a/c/z": "3", "d": "=a/c/z", "e/f/": "", "g": "->d"}), Options{})
	for _, tt := range []struct {
		name     string
		subpath  string
		patterns []string
		want     []string
	}{
		{"a directory goes into the target", "a/b", nil, []string{"x:1", "y.log:2"}},
		{"a file goes there under its name", "/a/b/x", nil, []string{"x:1"}},
		{"a symlink, too", "g", nil, []string{"g -> d"}},
		{"a hard link is a file alone", "d", nil, []string{"d:3"}},
		{"a pattern selects", "", []string{"x"}, []string{"a/", "a/b/", "a/b/x:1"}},
		{"a directory selects what is below", "", []string{"a/b"}, []string{"a/", "a/b/", "a/b/x:1", "a/b/y.log:2"}},
		{"but for exceptions", "", []string{"a", "!*.log"}, []string{"a/", "a/b/", "a/b/x:1", "a/c/", "a/c/z:3"}},
		{"an empty directory", "", []string{"/e/f"}, []string{"e/", "e/f/"}},
		{"a link without its file is a file", "", []string{"d"}, []string{"d:3"}},
		{"a link with its file is a link", "", []string{"d", "z"}, []string{"a/", "a/c/", "a/c/z:3", "d -> a/c/z"}},
		{"nothing matches", "", []string{"nothing"}, nil},
		{"patterns see the whole path", "a", []string{"/a/c"}, []string{"c/", "c/z:3"}},
		{"what is above a part selects it", "a/b", []string{"a", "!x"}, []string{"y.log:2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opt := ExtractOptions{Subpath: tt.subpath}
			var err error
			if tt.patterns != nil {
				if opt.Patterns, err = match.ParseList(tt.patterns); err != nil {
					t.Fatal(err)
				}
			}
			target := t.TempDir()
			mustExtract(t, data, target, opt)
			wantTree(t, target, tt.want...)
		})
	}
	if _, err := extract(t, data, t.TempDir(), ExtractOptions{Subpath: "a/none"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a part that is not there: %v", err)
	}
}

func TestOwnershipOfAnOrdinaryUser(t *testing.T) {
	var buf bytes.Buffer
	enc, err := pxar.NewEncoder(&buf, &pxar.Metadata{Mode: unix.S_IFDIR | 0o755, UID: 4711, GID: 4711})
	if err != nil {
		t.Fatal(err)
	}
	w, _, err := enc.File("program", &pxar.Metadata{Mode: unix.S_IFREG | 0o6755, UID: 4711, GID: 4711}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "x"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), enc.Device("null", &pxar.Metadata{Mode: unix.S_IFCHR | 0o666}, pxar.Device{Major: 1, Minor: 3}), enc.Close()); err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	ignore := os.Geteuid() == 0 // who could give files away is told not to
	report := mustExtract(t, buf.Bytes(), target, ExtractOptions{IgnoreOwnership: ignore})
	var st unix.Stat_t
	if err := unix.Stat(target+"/program", &st); err != nil || st.Mode&inode.ModeBits != 0o755 {
		t.Errorf("a program of another user has mode %o, %v", st.Mode, err)
	}
	if !ignore {
		wantWarning(t, report, Attribute, "program")
		wantWarning(t, report, Skipped, "null")
	}
}

func TestIgnoredMetadata(t *testing.T) {
	root := plant(t, map[string]string{"a/x": "1"})
	if err := errors.Join(os.Chmod(root+"/a/x", 0o600), os.Chmod(root+"/a", 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(root+"/a/x", "user.holdfast", []byte("v"), 0); err != nil {
		t.Skipf("set an attribute: %v", err)
	}
	data, _ := archiveOf(t, root, Options{})
	target := t.TempDir()
	mustExtract(t, data, target, ExtractOptions{IgnorePermissions: true, IgnoreXattrs: true, IgnoreACLs: true, IgnoreOwnership: true})
	umask := uint32(unix.Umask(0))
	unix.Umask(int(umask))
	for name, want := range map[string]uint32{"a": 0o777 &^ umask, "a/x": 0o666 &^ umask} {
		var st unix.Stat_t
		if err := unix.Stat(target+"/"+name, &st); err != nil || st.Mode&inode.ModeBits != want {
			t.Errorf("%s has mode %o, want %o, %v", name, st.Mode, want, err)
		}
	}
	if n, err := unix.Getxattr(target+"/a/x", "user.holdfast", nil); err == nil {
		t.Errorf("the attribute is there, %d bytes", n)
	}
}
