package roots

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// fixed makes an index file of one chunk.
func fixed(t *testing.T, content string) []byte {
	t.Helper()
	b, err := chunks.NewFixedBuilder(int64(len(content)), chunks.SlotSize)
	if err == nil {
		err = b.Put(0, int64(len(content)), chunks.Sum([]byte(content)))
	}
	if err != nil {
		t.Fatal(err)
	}
	index, err := b.Finish(chunks.NewUUID(), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return index.Bytes()
}

func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// list returns the roots, without what comes behind the name in their IDs.
func list(r Roots) (names []string, err error) {
	err = r.Each(context.Background(), func(g gc.Root) error {
		name, _, _ := strings.Cut(g.ID(), " ")
		names = append(names, name)
		return nil
	})
	return names, err
}

func TestRootsAreFoundWhereverTheyLie(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	index := fixed(t, "x")
	for _, name := range []string{
		"vm/100/2026-01-01T00:00:00Z/disk.img.fidx", "ns/a/ns/b/ct/1/2026-01-01T00:00:00Z/root.pxar.didx",
		"by-hand.fidx", "lost+found/#17/x.didx", "host/gc/2026-01-01T00:00:00Z/x.didx",
		"packs/no.fidx", "index/no.fidx", "gc/no.fidx", "vm/100/owner", "vm/100/2026-01-01T00:00:00Z/disk.img.tmp_fidx",
	} {
		write(t, dir, name, index)
	}
	write(t, elsewhere, "7/2026-01-01T00:00:00Z/x.fidx", index)
	if err := os.Symlink(elsewhere, filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"by-hand.fidx", "host/gc/2026-01-01T00:00:00Z/x.didx", "linked/7/2026-01-01T00:00:00Z/x.fidx", "lost+found/#17/x.didx",
		"ns/a/ns/b/ct/1/2026-01-01T00:00:00Z/root.pxar.didx", "vm/100/2026-01-01T00:00:00Z/disk.img.fidx",
	}
	got, err := list(Roots{disk.OS{}, dir})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("roots are %q, %v", got, err)
	}
}

func TestRootsThatCannotBeSureFail(t *testing.T) {
	t.Run("a directory that cannot be read", func(t *testing.T) {
		mem := disktest.NewMem()
		for _, d := range []string{"/s", "/s/vm", "/s/vm/1"} {
			if err := mem.Mkdir(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		mem.SetHook(func(op disktest.Op) error {
			if op.Kind == disktest.ReadDir && op.Name == "/s/vm/1" {
				return fs.ErrPermission
			}
			return nil
		})
		if _, err := list(Roots{mem, "/s"}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("Each = %v", err)
		}
	})
	t.Run("a store that is not there", func(t *testing.T) {
		if _, err := list(Roots{disk.OS{}, filepath.Join(t.TempDir(), "none")}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Each = %v", err)
		}
	})
	for name, target := range map[string]string{"a link to nowhere": "/nowhere/at/all", "a link to its own directory": "."} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Symlink(target, filepath.Join(dir, "vm")); err != nil {
				t.Fatal(err)
			}
			if _, err := list(Roots{disk.OS{}, dir}); err == nil {
				t.Error("Each is sure of itself")
			}
		})
	}
}

// mover moves a group into a directory that was just read, once.
type mover struct {
	disk.FS
	from, to string
	moved    bool
}

func (m *mover) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := m.FS.ReadDir(name)
	if name == path.Dir(m.to) && !m.moved {
		m.moved = true
		if err := m.FS.Rename(m.from, m.to); err != nil {
			return nil, err
		}
	}
	return entries, err
}

func TestMovedGroupIsFound(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "ns/b/vm/1/2026-01-01T00:00:00Z/x.fidx", fixed(t, "x"))
	write(t, dir, "ns/a/owner", nil)
	m := &mover{FS: disk.OS{}, from: dir + "/ns/b/vm", to: dir + "/ns/a/vm"}
	got, err := list(Roots{m, dir})
	if err != nil || len(got) != 1 || !m.moved {
		t.Errorf("roots are %q, %v", got, err)
	}
}

// An index that replaces another of the same length and time has another ID.
func TestReplacedIndexHasAnotherID(t *testing.T) {
	dir := t.TempDir()
	ids := map[string]bool{}
	for _, content := range []string{"x", "y"} {
		name := write(t, dir, "a.fidx", fixed(t, content))
		if err := os.Chtimes(name, time.Unix(5, 0), time.Unix(5, 0)); err != nil {
			t.Fatal(err)
		}
		ids[(&root{fs: disk.OS{}, name: name, rel: "a.fidx"}).ID()] = true
	}
	if len(ids) != 2 {
		t.Errorf("IDs are %v", ids)
	}
}

func TestRootNamesItsChunks(t *testing.T) {
	dir := t.TempDir()
	good := &root{fs: disk.OS{}, name: write(t, dir, "a.fidx", fixed(t, "some content")), rel: "a.fidx"}
	var got []chunks.Digest
	err := good.Digests(t.Context(), func(ds []chunks.Digest) error { got = append(got, ds...); return nil })
	if err != nil || len(got) != 1 || got[0] != chunks.Sum([]byte("some content")) || good.Size() != 12 {
		t.Errorf("digests %v, size %d, %v", got, good.Size(), err)
	}
	bad := &root{fs: disk.OS{}, name: write(t, dir, "b.fidx", []byte("nonsense")), rel: "b.fidx"}
	if err := bad.Digests(t.Context(), func([]chunks.Digest) error { return nil }); err == nil || !strings.Contains(err.Error(), "b.fidx") {
		t.Errorf("a damaged index is read: %v", err)
	}
	gone := &root{fs: disk.OS{}, name: filepath.Join(dir, "c.fidx"), rel: "c.fidx"}
	if err := gone.Digests(t.Context(), func([]chunks.Digest) error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an index that is gone: %v", err)
	}
}

// maker finishes a backup, or forgets one, whenever the tree is listed.
type maker struct {
	disk.FS
	n      int
	change func(n int)
}

func (m *maker) ReadDir(name string) ([]fs.DirEntry, error) {
	if path.Base(name) == "vm" {
		m.n++
		m.change(m.n)
	}
	return m.FS.ReadDir(name)
}

// Backups that never cease are no reason not to collect garbage.
func TestBackupsMeanwhileAreNoHindrance(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "vm/1/2026-01-01T00:00:00Z/x.fidx", fixed(t, "x"))
	m := &maker{FS: disk.OS{}, change: func(n int) {
		write(t, dir, fmt.Sprintf("vm/1/2026-01-02T00:00:%02dZ/x.fidx", n), fixed(t, "y"))
	}}
	got, err := list(Roots{m, dir})
	if err != nil || len(got) != 3 || m.n != 2 {
		t.Errorf("roots are %q, %v after %d listings; want what the second one showed", got, err, m.n)
	}
}

// A snapshot that is forgotten while the tree is listed is in the trash.
func TestForgottenMeanwhileIsFound(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "vm/1/2026-01-01T00:00:00Z/x.fidx", fixed(t, "x"))
	write(t, dir, "trash/none", nil)
	m := &maker{FS: disk.OS{}, change: func(n int) {
		if n == 1 {
			if err := os.Rename(dir+"/vm/1/2026-01-01T00:00:00Z", dir+"/trash/1"); err != nil {
				t.Error(err)
			}
		}
	}}
	got, err := list(Roots{m, dir})
	if err != nil || len(got) != 1 || m.n != 2 {
		t.Errorf("roots are %q, %v after %d listings; want the one in the trash", got, err, m.n)
	}
}

// Snapshots that go all the time, though not while the tree is being read, are
// no reason to give up.
func TestRemovalsMeanwhileAreNoHindrance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		name := func(n int) string { return fmt.Sprintf("vm/%d/2026-01-01T00:00:00Z/x.fidx", n) }
		const many = 10_000
		for n := range 50 {
			write(t, dir, name(n), fixed(t, "x"))
		}
		var mu sync.Mutex
		gone := 0
		remove := func() {
			mu.Lock()
			defer mu.Unlock()
			if gone < many {
				os.Remove(path.Join(dir, name(gone%50)))
				write(t, dir, name((gone+49)%50), fixed(t, "x"))
				gone++
			}
		}
		ctx, done := context.WithCancel(t.Context())
		defer done()
		m := &maker{FS: disk.OS{}, change: func(n int) {
			if n == 2 {
				remove()
			}
		}}
		go func() {
			for wait(ctx, 5*time.Millisecond) == nil {
				remove()
			}
		}()
		if _, err := list(Roots{m, dir}); err != nil {
			t.Errorf("after %d listings, and %d that went: %v", m.n, gone, err)
		}
	})
}
