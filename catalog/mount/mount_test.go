//go:build linux && !386 && !arm && !mips && !mipsle

package mount

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
)

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// sample has one of everything that an archive can hold.
func sample() []item {
	group := uint64(4)
	old := pxar.Metadata{UID: 1000, GID: 100, Mtime: pxar.Timespec{Sec: -5, Nsec: 999999999}}
	return []item{
		{path: "block", mode: typeBlock | 0o660, device: pxar.Device{Major: 8, Minor: 70000}},
		{path: "char", mode: typeChar | 0o666, device: pxar.Device{Major: 1, Minor: 3}},
		{path: "docs/", mode: typeDir | 0o1750, meta: old},
		{path: "docs/big", mode: typeFile | 0o640, content: random(1, 3<<20+17)},
		{path: "docs/empty", mode: typeFile},
		{path: "docs/näme with spaces", mode: typeFile | 0o600, content: []byte("hello"), meta: old},
		{path: "docs/sub/", mode: typeDir | 0o700},
		{path: "docs/sub/deep", mode: typeFile | 0o4755, content: []byte("#!/bin/sh\n"), meta: pxar.Metadata{FCaps: []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")}},
		{path: "docs/zcl", mode: typeFile | 0o664, content: []byte("acl"), meta: pxar.Metadata{
			Xattrs: []pxar.Xattr{{Name: "user.colour", Value: []byte("blue")}, {Name: "user.empty"}},
			ACL:    pxar.ACL{Users: []pxar.ACLEntry{{ID: 1001, Perm: 6}}, GroupObj: &group},
		}},
		{path: "fifo", mode: typeFifo | 0o600},
		{path: "hard", link: "docs/big"},
		{path: "link", mode: typeLink | 0o777, content: []byte("docs/../docs/empty")},
		{path: "socket", mode: sock | 0o755},
		{path: "vacant/", mode: typeDir | 0o755},
	}
}

// compare walks dir and compares everything with items.
func compare(t *testing.T, dir string, items []item) {
	t.Helper()
	want := map[string]item{}
	for _, i := range items {
		want[strings.TrimSuffix(i.path, "/")] = i
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, name)
		if err != nil || rel == "." {
			return err
		}
		i, ok := want[rel]
		if !ok {
			return fmt.Errorf("%s is too much", rel)
		}
		delete(want, rel)
		compareOne(t, name, i)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for rel := range want {
		t.Errorf("%s is missing", rel)
	}
}

func compareOne(t *testing.T, name string, i item) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Error(err)
		return
	}
	if i.link != "" {
		return // compared by inode elsewhere
	}
	if st.Mode != i.mode || st.Uid != i.meta.UID || st.Gid != i.meta.GID || st.Mtim.Sec != i.meta.Mtime.Sec || st.Mtim.Nsec != int64(i.meta.Mtime.Nsec) {
		t.Errorf("%s is %o %d:%d %d.%d, want %o %+v", name, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec, i.mode, i.meta)
	}
	switch i.mode & 0o170000 {
	case typeFile:
		if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, i.content) || st.Size != int64(len(i.content)) {
			t.Errorf("%s has %d bytes (%v), want %d", name, len(b), err, len(i.content))
		}
	case typeLink:
		if target, err := os.Readlink(name); err != nil || target != string(i.content) || st.Size != int64(len(i.content)) {
			t.Errorf("%s leads to %q (%v), want %q", name, target, err, i.content)
		}
	case typeBlock, typeChar:
		if unix.Major(uint64(st.Rdev)) != uint32(i.device.Major) || unix.Minor(uint64(st.Rdev)) != uint32(i.device.Minor) {
			t.Errorf("%s is device %d:%d, want %v", name, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)), i.device)
		}
	}
	for _, x := range i.meta.Xattrs {
		if v := xattr(t, name, x.Name); !bytes.Equal(v, x.Value) {
			t.Errorf("%s of %s is %q, want %q", x.Name, name, v, x.Value)
		}
	}
}

func xattr(t *testing.T, name, attr string) []byte {
	t.Helper()
	buf := make([]byte, 1024)
	n, err := unix.Lgetxattr(name, attr, buf)
	if err != nil {
		t.Errorf("%s of %s: %v", attr, name, err)
		return nil
	}
	return buf[:n]
}

func TestATreeLooksAsItWasBackedUp(t *testing.T) {
	raw := build(t, sample())
	m := show(t, Content{Flat: true, Parts: []Part{{Archive: archiveOf(t, bytes.NewReader(raw), len(raw))}}}, Options{})
	for range 2 { // the second time from the caches of the kernel
		compare(t, m.dir, sample())
	}
	file, err := os.Stat(filepath.Join(m.dir, "docs/big"))
	hard, err2 := os.Stat(filepath.Join(m.dir, "hard"))
	if err != nil || err2 != nil || !os.SameFile(file, hard) || hard.Sys().(*syscall.Stat_t).Nlink != 2 {
		t.Errorf("a hard link is not the file it is another name of: %v, %v", err, err2)
	}
	acl := hex.EncodeToString(xattr(t, filepath.Join(m.dir, "docs/zcl"), "system.posix_acl_access"))
	if want := "02000000" + "01000600ffffffff" + "02000600e9030000" + "04000400ffffffff" + "10000600ffffffff" + "20000400ffffffff"; acl != want {
		t.Errorf("access control list is %s, want %s", acl, want)
	}
	if c := xattr(t, filepath.Join(m.dir, "docs/sub/deep"), "security.capability"); len(c) != 20 {
		t.Errorf("capabilities are %x", c)
	}
	buf := make([]byte, 1024)
	n, err := unix.Llistxattr(filepath.Join(m.dir, "docs/zcl"), buf)
	if names := string(buf[:max(n, 0)]); err != nil || names != "user.colour\x00user.empty\x00system.posix_acl_access\x00" {
		t.Errorf("names of attributes are %q, %v", names, err)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "docs/none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestNothingCanBeChanged(t *testing.T) {
	raw := build(t, sample())
	m := show(t, Content{Flat: true, Parts: []Part{{Archive: archiveOf(t, bytes.NewReader(raw), len(raw))}}}, Options{})
	file := filepath.Join(m.dir, "docs/big")
	for what, err := range map[string]error{
		"create": os.WriteFile(filepath.Join(m.dir, "new"), nil, 0o600),
		"write":  os.WriteFile(file, []byte("x"), 0o600),
		"remove": os.Remove(file),
		"mkdir":  os.Mkdir(filepath.Join(m.dir, "d"), 0o700),
		"rename": os.Rename(file, file+"2"),
		"chmod":  os.Chmod(file, 0o777),
		"xattr":  unix.Setxattr(file, "user.x", []byte("y"), 0),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
}

func TestASnapshotHasADirectoryForEachArchive(t *testing.T) {
	raw, image := build(t, sample()), random(7, 5<<20+123)
	at := time.Unix(1700000000, 0)
	m := show(t, Content{Time: at, Parts: []Part{
		{Name: "root.pxar", Archive: archiveOf(t, bytes.NewReader(raw), len(raw))},
		{Name: "copy.pxar", Archive: archiveOf(t, bytes.NewReader(raw), len(raw))},
		{Name: "drive-scsi0.img", File: bytes.NewReader(image), Size: int64(len(image))},
	}}, Options{Source: "vm/100/2024-01-02T03:04:05Z"})
	entries, err := os.ReadDir(m.dir)
	if err != nil || len(entries) != 3 || !entries[0].IsDir() || entries[1].Name() != "drive-scsi0.img" || entries[1].IsDir() {
		t.Fatalf("root has %v, %v", entries, err)
	}
	compare(t, filepath.Join(m.dir, "root.pxar"), sample())
	name := filepath.Join(m.dir, "drive-scsi0.img")
	if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, image) {
		t.Errorf("image has %d bytes, %v", len(b), err)
	}
	info, err := os.Stat(name)
	if err != nil || !info.ModTime().Equal(at) || info.Mode() != 0o444 || info.Size() != int64(len(image)) {
		t.Errorf("image is %v, %v", info, err)
	}
	a, err := os.Stat(filepath.Join(m.dir, "root.pxar/docs/big"))
	b, err2 := os.Stat(filepath.Join(m.dir, "copy.pxar/docs/big"))
	if err != nil || err2 != nil || os.SameFile(a, b) {
		t.Errorf("files of two archives look like one: %v, %v", err, err2)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(m.dir, &st); err != nil || st.Bfree != 0 || st.Blocks == 0 {
		t.Errorf("statfs: %+v, %v", st, err)
	}
}

func TestFourReadAtRandomAtTheSameTime(t *testing.T) {
	image := random(3, 8<<20)
	m := show(t, Content{Parts: []Part{{Name: "a.img", File: bytes.NewReader(image), Size: int64(len(image))}}}, Options{})
	var readers sync.WaitGroup
	for seed := range 4 {
		readers.Go(func() {
			f, err := os.Open(filepath.Join(m.dir, "a.img"))
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			rng := rand.New(rand.NewPCG(uint64(seed), 9))
			for range 200 {
				off, n := rng.IntN(len(image)), 1+rng.IntN(200000)
				buf := make([]byte, n)
				got, err := f.ReadAt(buf, int64(off))
				want := image[off:min(off+n, len(image))]
				if (err != nil && !errors.Is(err, io.EOF)) || !bytes.Equal(buf[:got], want) {
					t.Errorf("read %d at %d: %d bytes, %v", n, off, got, err)
					return
				}
			}
		})
	}
	readers.Wait()
}

func TestAHugeDirectoryIsListedInPieces(t *testing.T) {
	const count = maxPlus + 5000
	items := make([]item, 0, count)
	for i := range count {
		items = append(items, item{path: fmt.Sprintf("file-%06d", i), mode: typeFile | 0o644})
	}
	raw := build(t, items)
	m := show(t, Content{Flat: true, Parts: []Part{{Archive: archiveOf(t, bytes.NewReader(raw), len(raw))}}}, Options{})
	entries, err := os.ReadDir(m.dir)
	if err != nil || len(entries) != count {
		t.Fatalf("%d entries, %v, want %d", len(entries), err, count)
	}
	if !slices.IsSortedFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) }) || entries[count-1].Name() != items[count-1].path {
		t.Error("entries are wrong")
	}
	if info, err := entries[count-1].Info(); err != nil || info.Mode() != 0o644 {
		t.Errorf("the last file: %v, %v", info, err)
	}
}

// broken fails wherever a read touches [from, to).
type broken struct {
	io.ReaderAt
	from, to int64
}

var errBroken = errors.New("chunk 9c1e77a2 is damaged")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off < b.to && off+int64(len(p)) > b.from {
		return 0, errBroken
	}
	return b.ReaderAt.ReadAt(p, off)
}

func TestOnlyWhatIsDamagedFails(t *testing.T) {
	const page = 4096
	image := random(5, 4<<20)
	bad := broken{bytes.NewReader(image), 300 * page, 302 * page}
	var log bytes.Buffer
	m := show(t, Content{Parts: []Part{{Name: "disk.img", File: bad, Size: int64(len(image))}}},
		Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	f, err := os.Open(filepath.Join(m.dir, "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range len(image) / page {
		buf := make([]byte, page)
		_, err := f.ReadAt(buf, int64(i*page))
		if isBad := i == 300 || i == 301; isBad != errors.Is(err, syscall.EIO) {
			t.Fatalf("page %d: %v", i, err)
		} else if !isBad && !bytes.Equal(buf, image[i*page:][:page]) {
			t.Fatalf("page %d has other content", i)
		}
	}
	f.Close()
	m.end(t)
	if n := strings.Count(log.String(), errBroken.Error()); n != 1 || !strings.Contains(log.String(), "file=disk.img") {
		t.Errorf("the damage is logged %d times:\n%s", n, &log)
	}
}

func TestUnmountWhileAFileIsOpen(t *testing.T) {
	image := random(6, 1<<20)
	m := show(t, Content{Parts: []Part{{Name: "a.img", File: bytes.NewReader(image), Size: int64(len(image))}}}, Options{})
	f, err := os.Open(filepath.Join(m.dir, "a.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir, err := os.Open(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := dir.ReadDir(1); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/sys/fs/fuse/connections/%d", unix.Minor(device(t, m.dir)))); os.Geteuid() != 0 && err != nil {
		t.Skip("only root cuts programs off where fusectl is not mounted")
	}
	m.end(t)
	if _, err := f.ReadAt(make([]byte, 10), 1<<19); err == nil {
		t.Error("the file can still be read")
	}
	if entries, err := os.ReadDir(m.dir); err != nil || len(entries) != 0 {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}

func device(t *testing.T, name string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	return uint64(st.Dev)
}

// blocking answers no read until it is let go.
type blocking struct {
	asked chan struct{}
	free  <-chan struct{}
}

func (b blocking) ReadAt(p []byte, off int64) (int, error) {
	select {
	case b.asked <- struct{}{}:
	default:
	}
	<-b.free
	return 0, context.Canceled
}

// A reader of package archive ends with its context, which is the mount's.
func TestUnmountWhileSomebodyWaitsForData(t *testing.T) {
	free, asked := make(chan struct{}), make(chan struct{}, 1)
	m := show(t, Content{Parts: []Part{{Name: "a.img", File: blocking{asked, free}, Size: 1 << 20}}}, Options{})
	read := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(filepath.Join(m.dir, "a.img"))
		read <- err
	}()
	<-asked
	time.AfterFunc(50*time.Millisecond, func() { close(free) })
	m.end(t)
	if err := <-read; err == nil {
		t.Error("the read succeeded")
	}
}

func TestUnmountByHand(t *testing.T) {
	m := show(t, Content{Parts: []Part{{Name: "a.img", File: bytes.NewReader(nil)}}}, Options{})
	if os.Geteuid() != 0 {
		t.Skip("only root unmounts without a helper")
	}
	if err := unix.Unmount(m.dir, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-m.result:
		if err != nil {
			t.Errorf("mount ended with %v", err)
		}
		close(m.result)
	case <-time.After(10 * time.Second):
		t.Fatal("the mount goes on")
	}
}

func TestWhatCannotBeMounted(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	one := Content{Parts: []Part{{Name: "a.img", File: bytes.NewReader(nil)}}}
	two := Content{Parts: append(slices.Clone(one.Parts), one.Parts...)}
	for _, row := range []struct {
		name string
		dir  string
		c    Content
		want string
	}{
		{"a directory that is not there", filepath.Join(full, "none"), one, "no such file"},
		{"a file", filepath.Join(full, "x"), one, "not a directory"},
		{"a directory with files in it", full, one, "is not empty"},
		{"nothing", t.TempDir(), Content{}, "nothing to mount"},
		{"two of one name", t.TempDir(), two, "twice"},
		{"a name with a slash", t.TempDir(), Content{Parts: []Part{{Name: "a/b", File: bytes.NewReader(nil)}}}, "slash"},
		{"a part without content", t.TempDir(), Content{Parts: []Part{{Name: "a"}}}, "no content"},
		{"an image in place of the root", t.TempDir(), Content{Flat: true, Parts: one.Parts}, "only a single archive"},
	} {
		if err := Mount(t.Context(), row.dir, row.c, Options{}); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Mount(ctx, t.TempDir(), one, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}
