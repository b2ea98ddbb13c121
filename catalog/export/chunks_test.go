package export

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

// filling is the chunks of a PBS datastore with a way to put some there, so
// that the suite of all stores can be run on them.
type filling struct {
	*Chunks
	w *chunkWriter
}

func (f filling) Put(ctx context.Context, d chunks.Digest, b chunks.Blob) (bool, error) {
	if err := errors.Join(ctx.Err(), b.Check()); err != nil {
		return false, err
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if n, err := f.w.held(d); err != nil || n > 0 {
		return n > 0, err
	}
	err := f.w.fs.Mkdir(path.Join(f.w.dir, path.Dir(chunkPath(d))), fanMode)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	return false, disk.WriteFileAtomic(f.w.fs, path.Join(f.w.dir, chunkPath(d)), b, fileMode)
}

func (f filling) Commit(ctx context.Context) error { return f.w.commit(ctx) }

func TestChunksOfAPBSAreAStore(t *testing.T) {
	chunktest.Run(t, func(t *testing.T) chunks.Writer {
		s := newSite(t)
		p, err := OpenPBS(s.pbs, pbsDir)
		s.must(err)
		return filling{p.Chunks(), &chunkWriter{fs: s.pbs, dir: path.Join(pbsDir, chunksDir), workers: 2, dirty: map[string]bool{}}}
	})
}

// watched is a file system that tells which files are opened.
type watched struct {
	disk.FS
	mu     sync.Mutex
	opened []string
}

func (w *watched) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	w.mu.Lock()
	w.opened = append(w.opened, name)
	w.mu.Unlock()
	return w.FS.OpenFile(name, flag, perm)
}

func TestChunksAreReadInTheOrderOfInodes(t *testing.T) {
	dir := t.TempDir()
	var want []chunks.Digest
	for i := range 200 {
		c := chunktest.Blob(uint64(i), 10)
		want = append(want, c.Digest)
		putFile(t, disk.OS{}, path.Join(dir, chunksDir, chunkPath(c.Digest)), c.Blob)
	}
	slices.SortFunc(want, chunks.Digest.Compare)
	w := &watched{FS: disk.OS{}}
	p, err := OpenPBS(w, dir)
	if err != nil {
		t.Fatal(err)
	}
	p.Chunks().readers = 1
	got := 0
	err = p.Chunks().GetMany(t.Context(), want, func(d chunks.Digest, b chunks.Blob, err error) error {
		got++
		return errors.Join(err, b.Verify(d, nil))
	})
	if err != nil || got != len(want) {
		t.Fatalf("%d chunks were read, %v", got, err)
	}
	inodes := make([]uint64, len(w.opened))
	for i, name := range w.opened {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		inodes[i] = inode(info)
	}
	if !slices.IsSorted(inodes) {
		t.Errorf("files were read in the order of inodes %v", inodes)
	}
}

func TestDiskErrorsOfChunks(t *testing.T) {
	c := chunktest.Blob(1, 100)
	for _, row := range []struct {
		name string
		kind disktest.Kind
		err  error
		want error
	}{
		{"an unreadable sector is damage", disktest.Read, syscall.EIO, chunks.ErrCorrupt},
		{"an unreadable inode is damage", disktest.Open, syscall.EIO, chunks.ErrCorrupt},
		{"a file that may not be read is not missing", disktest.Open, syscall.EACCES, fs.ErrPermission},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newSite(t)
			s.put(path.Join(chunksDir, chunkPath(c.Digest)), c.Blob)
			s.pbs.SetHook(func(op disktest.Op) error {
				if op.Kind == row.kind && strings.Contains(op.Name, c.Digest.String()) {
					return row.err
				}
				return nil
			})
			_, err := s.pbsStock().chunks.Get(t.Context(), c.Digest, nil)
			var named *chunks.Error
			if !errors.Is(err, row.want) || errors.Is(err, chunks.ErrMissing) || !errors.As(err, &named) || named.Place != "PBS datastore /pbs" {
				t.Errorf("get fails with %v, want %v", err, row.want)
			}
		})
	}
}

func TestEachStopsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := each(ctx, 1, 1000, func(context.Context, int) error {
		if n++; n == 10 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n != 10 {
		t.Errorf("%d calls, %v", n, err)
	}
}

func TestOnlyAPBSDatastoreIsOne(t *testing.T) {
	for _, c := range []struct {
		name, files string
		want        bool
	}{
		{"a datastore of PBS", "/d/.chunks/0000/x", true},
		{"a datastore of ours", "/d/packs/x", false},
		{"one of ours with something left in it", "/d/packs/x /d/.chunks/x", false},
		{"any other directory", "/d/x", false},
		{"a file called like the directory", "/d/.chunks", false},
		{"nothing", "/x", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := disktest.NewMem()
			for f := range strings.FieldsSeq(c.files) {
				putFile(t, m, f, nil)
			}
			if got := IsPBS(m, "/d"); got != c.want {
				t.Errorf("it counts as one: %v", got)
			}
			_, err := OpenPBS(m, "/d")
			var hint interface{ Hint() string }
			if (err == nil) != c.want || err != nil && (!errors.As(err, &hint) || hint.Hint() == "") {
				t.Errorf("opened with %v", err)
			}
		})
	}
}

// A restore reads a PBS datastore where it is, and leaves no trace there.
func TestPBSDatastoreIsReadInPlace(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t)
	s.golden()
	for _, name := range s.pbs.Names() {
		if _, err := s.pbs.ReadDir(name); err != nil && strings.HasPrefix(name, pbsDir) {
			putFile(t, disk.OS{}, filepath.Join(dir, strings.TrimPrefix(name, pbsDir)), s.pbs.Bytes(name))
		}
	}
	readable(t, dir, false)
	t.Cleanup(func() { readable(t, dir, true) })
	before := times(t, dir)
	p, err := OpenPBS(disk.OS{}, dir)
	s.must(err)
	if list, err := p.List(t.Context(), catalog.ListOptions{}); err != nil || len(list) != len(goldens) {
		t.Fatalf("%d snapshots are listed, %v", len(list), err)
	}
	for name, path := range goldens {
		snap, err := naming.ParseSnapshot(path)
		s.must(err)
		r, err := p.OpenSnapshot(t.Context(), "", snap)
		s.must(err)
		defer r.Close()
		a := archive.Open(r, archive.Options{Key: goldenKey(t)})
		for _, f := range r.Manifest().Files {
			var b strings.Builder
			if err := a.Stream(t.Context(), f.Name, &b); err != nil {
				t.Errorf("restore %s of %s: %v", f.Name, name, err)
			}
			if !strings.HasSuffix(f.Name, ".blob") && b.Len() != int(f.Size) {
				t.Errorf("%s of %s has %d bytes, want %d", f.Name, name, b.Len(), f.Size)
			}
		}
	}
	d := s.open()
	defer d.Close()
	r, err := ImportPBS(t.Context(), d, dir, ImportOptions{})
	s.must(err)
	s.want(r, "groups 3 copied 4 present 0 unfinished 0 vanished 0 refused 0; chunks 13 known 2 bad 0")
	if after := times(t, dir); after != before {
		t.Errorf("the directory was changed:\n%s\nwas\n%s", after, before)
	}
}

// readable takes the right to write to all of a directory away, or gives it.
func readable(t *testing.T, dir string, write bool) {
	t.Helper()
	mode := fs.FileMode(0o555)
	if write {
		mode = 0o755
	}
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chmod(name, mode))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// times returns when each file of a directory was changed.
func times(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			b.WriteString(name + " " + info.ModTime().String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
