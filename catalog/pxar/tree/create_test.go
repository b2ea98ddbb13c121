//go:build linux

package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/match"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree/inode"
	"golang.org/x/sys/unix"
)

func TestOrderAndKinds(t *testing.T) {
	noLeaks(t)
	root := plant(t, map[string]string{"b": "2", "a/z": "1", "a/y": "->nowhere", "a-": "3", "c": "=b", "\xff": "", "B/": ""})
	if err := unix.Mkfifo(root+"/d", 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", root+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	data, report := archiveOf(t, root, Options{})
	wantContents(t, data, "B/", "a/", "a/y -> nowhere", "a/z:1", "a-:3", "b:2", "c -> b", "d fifo", "s socket", "\xff:")
	want := Report{Files: 4, Directories: 3, Symlinks: 1, Hardlinks: 1, Fifos: 1, Sockets: 1, Bytes: 3}
	if fmt.Sprint(report) != fmt.Sprint(want) {
		t.Errorf("report\n%+v, want\n%+v", report, want)
	}
}

func TestCatalogListsTheSame(t *testing.T) {
	root := plant(t, map[string]string{"a/z": "12", "a/y": "->x", "b": "=a/z"})
	var archive, catalog bytes.Buffer
	w, err := pxar.NewCatalogWriter(&catalog)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chtimes(root+"/a/z", time.Time{}, time.Unix(-1, 5)), w.BeginDir("root.pxar.didx")); err != nil {
		t.Fatal(err)
	}
	exclude, err := match.ParseList([]string{"*.tmp"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), root, Sinks{Archive: &archive, Catalog: w}, Options{Exclude: exclude}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.EndDir(), w.Close()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"l\x01y", "f\x01z\x02", "h\x01b", "f\x10.pxarexclude-cli\x06\x00", "d\x01a", "d\x0eroot.pxar.didx"} {
		if !strings.Contains(catalog.String(), want) {
			t.Errorf("the catalog has no %q: %q", want, catalog.String())
		}
	}
}

func TestExcludes(t *testing.T) {
	root := plant(t, map[string]string{
		".pxarexclude": "*.tmp\n/anchored\n[bad\n", "a.tmp": "1", "anchored": "1", "sub/anchored": "2", "sub/local": "1", "sub/deeper/local": "2",
		"sub/.pxarexclude": "/local\n!b.tmp", "sub/b.tmp": "2", "b.tmp": "1", "cache/x/y": "1", "lost+found/x": "1", ".pxarexclude-cli": "old", "other/local": "2",
	})
	exclude, err := match.ParseList([]string{"cache/**", "!nothing", "x/"})
	if err != nil {
		t.Fatal(err)
	}
	data, report := archiveOf(t, root, Options{Exclude: exclude, SkipLostAndFound: true})
	wantContents(t, data, ".pxarexclude:*.tmp\n/anchored\n[bad\n", "cache/", "other/", "other/local:2", "sub/",
		"sub/.pxarexclude:/local\n!b.tmp", "sub/anchored:2", "sub/b.tmp:2", "sub/deeper/", "sub/deeper/local:2",
		".pxarexclude-cli:cache/**\n!nothing\nx/\nlost+found\n")
	wantWarning(t, report, BadPattern, ".pxarexclude")
	if report.Excluded != 6 || report.WarningCount != 1 {
		t.Errorf("excluded %d, warnings %v", report.Excluded, report.Warnings)
	}
}

func TestExcludeFileThatIsNone(t *testing.T) {
	root := plant(t, map[string]string{"a/.pxarexclude": "->../rules", "b/.pxarexclude/": "", "rules": "*", "a/x": "1"})
	if err := os.Mkdir(root+"/c", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/c/.pxarexclude", make([]byte, maxExcludeFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	add(t, root, map[string]string{"d/.pxarexclude": strings.Repeat("x\n", maxRules+1), "d/x": ""})
	_, report := archiveOf(t, root, Options{})
	for _, dir := range []string{"a", "b", "c", "d"} {
		wantWarning(t, report, BadPattern, dir+"/.pxarexclude")
	}
	if report.Excluded != 0 {
		t.Errorf("%d entries were excluded", report.Excluded)
	}
}

func TestOtherFileSystems(t *testing.T) {
	root := plant(t, map[string]string{"before": "1", "mnt/": "", "z": "1"})
	mountTmpfs(t, root+"/mnt", "1m")
	add(t, root, map[string]string{"mnt/inside": "1"})
	data, report := archiveOf(t, root, Options{})
	wantContents(t, data, "before:1", "mnt/", "z:1")
	if !slices.Equal(report.Mounts, []string{"mnt"}) || report.MountCount != 1 {
		t.Errorf("mounts: %v", report.Mounts)
	}
	data, _ = archiveOf(t, root, Options{AllFileSystems: true})
	wantContents(t, data, "before:1", "mnt/", "mnt/inside:1", "z:1")
	dev, err := Device(root + "/mnt")
	if err != nil {
		t.Fatal(err)
	}
	data, report = archiveOf(t, root, Options{IncludeDevices: []uint64{dev}})
	wantContents(t, data, "before:1", "mnt/", "mnt/inside:1", "z:1")
	if report.MountCount != 0 {
		t.Errorf("mounts: %v", report.Mounts)
	}
}

func TestVirtualFileSystem(t *testing.T) {
	_, err := Create(t.Context(), "/proc/self", Sinks{Archive: io.Discard}, Options{})
	if !errors.Is(err, ErrVirtual) {
		t.Errorf("archiving /proc: %v", err)
	}
}

func TestSourceMustBeADirectory(t *testing.T) {
	root := plant(t, map[string]string{"file": ""})
	for _, src := range []string{root + "/file", root + "/none"} {
		if _, err := Create(t.Context(), src, Sinks{Archive: io.Discard}, Options{}); err == nil {
			t.Errorf("%s was archived", src)
		}
	}
}

func TestTooManyEntries(t *testing.T) {
	noLeaks(t)
	root := plant(t, map[string]string{"a/1": "", "a/2": "", "b/1": "", "b/2": "", "c": ""})
	var limit *LimitError
	_, err := Create(t.Context(), root, Sinks{Archive: io.Discard}, Options{EntriesMax: 4})
	if !errors.As(err, &limit) || !errors.Is(err, ErrTooManyEntries) || limit.Path != "a" || limit.Hint() == "" {
		t.Errorf("error is %v", err)
	}
	archiveOf(t, root, Options{EntriesMax: 5}) // those of a no longer count when b is listed
}

func TestTreeDeeperThanDescriptorsAndPaths(t *testing.T) {
	noLeaks(t)
	const depth = 500
	root := t.TempDir()
	name := strings.Repeat("d", 100) // 50 kB of path, PATH_MAX is 4 kB
	dig(t, root, name, depth)
	most := 0
	data, report := archiveOf(t, root, Options{AfterStat: func(string) { most = max(most, descriptors(t)) }, Workers: 1})
	if report.Directories != depth+1 || report.Files != depth || report.WarningCount != 0 {
		t.Errorf("report: %+v", report)
	}
	if limit := 3*maxAhead + maxOpenDirs; most > limit {
		t.Errorf("%d descriptors were open, want at most %d", most, limit)
	}
	target := t.TempDir()
	report, err := Extract(t.Context(), openArchive(t, data), target, ExtractOptions{IgnoreOwnership: true})
	if err != nil || report.Directories != depth+1 {
		t.Fatalf("extracted %+v, %v", report, err)
	}
	again, _ := archiveOf(t, target, Options{})
	if !bytes.Equal(again, data) {
		t.Error("the extracted tree has another archive")
	}
	for _, dir := range []string{root, target} {
		if err := os.RemoveAll(dir); err != nil { // TempDir's own cleanup would do the same at the end
			t.Fatal(err)
		}
	}
}

// dig makes a chain of directories with a file in each, behind the chain.
func dig(t *testing.T, root, name string, depth int) {
	t.Helper()
	fd, err := unix.Open(root, inode.DirFlags, 0)
	for range depth {
		if err == nil {
			err = unix.Mkdirat(fd, name, 0o755)
		}
		next := -1
		if err == nil {
			next, err = unix.Openat(fd, name, inode.DirFlags, 0)
			unix.Close(fd)
			fd = next
		}
		var file int
		if err == nil {
			file, err = unix.Openat(fd, "z", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
			unix.Close(file)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	unix.Close(fd)
}

// A path in the item of a hard link has room for 4096 bytes only.
func TestHardlinkTooDeepToBeReferredTo(t *testing.T) {
	root := plant(t, map[string]string{"z": "content"})
	name := strings.Repeat("n", 250)
	fd, err := unix.Open(root, inode.DirFlags, 0)
	for range 17 {
		if err = errors.Join(err, unix.Mkdirat(fd, name, 0o755)); err != nil {
			t.Fatal(err)
		}
		next, openErr := unix.Openat(fd, name, inode.DirFlags, 0)
		unix.Close(fd)
		fd, err = next, openErr
	}
	defer unix.Close(fd)
	if err := errors.Join(err, unix.Linkat(unix.AT_FDCWD, root+"/z", fd, "first", 0)); err != nil {
		t.Fatal(err)
	}
	data, report := archiveOf(t, root, Options{})
	if report.Files != 2 || report.Hardlinks != 0 || report.WarningCount != 0 || bytes.Count(data, []byte("content")) != 2 {
		t.Errorf("report: %+v", report)
	}
}

func TestLeasedFileIsWaitedFor(t *testing.T) {
	root := plant(t, map[string]string{"leased": "content"})
	f, err := os.OpenFile(root+"/leased", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("take a lease: %v", err)
	}
	dir, err := unix.Open(root, inode.DirFlags, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	synctest.Test(t, func(t *testing.T) {
		r := &reader{ctx: t.Context()}
		n := &node{name: "leased", at: inode.NewHandle(dir)}
		start := time.Now()
		if _, err := r.open(n); !errors.Is(err, unix.EAGAIN) || time.Since(start) < leaseWait {
			t.Errorf("after %v: %v, want to give up after %v", time.Since(start), err, leaseWait)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r.ctx = ctx
		if _, err := r.open(n); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the end of its context: %v", err)
		}
		r.ctx = t.Context()
		time.AfterFunc(10*time.Second, func() { unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK) })
		fd, err := r.open(n)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	})
}

func TestCancelCreate(t *testing.T) {
	noLeaks(t)
	root := t.TempDir()
	for i := range 2000 {
		if err := os.WriteFile(filepath.Join(root, fmt.Sprint(i)), []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Create(ctx, root, Sinks{Archive: io.Discard}, Options{Progress: func(entries, _ int64) {
		if entries == 100 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

type failingWriter struct{ left int }

var errSink = errors.New("the sink failed")

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errSink
	}
	return len(p), nil
}

func TestSinkFails(t *testing.T) {
	noLeaks(t)
	root := plant(t, map[string]string{"a/x": "1", "big": strings.Repeat("x", 3<<20), "c": ""})
	for _, left := range []int{0, 1 << 20, 2<<20 + 1} {
		if _, err := Create(t.Context(), root, Sinks{Archive: &failingWriter{left}}, Options{}); !errors.Is(err, errSink) {
			t.Errorf("after %d bytes: error is %v", left, err)
		}
	}
}
