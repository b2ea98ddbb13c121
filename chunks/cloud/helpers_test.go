package cloud

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"sync"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

func ids(s *site) []age.Identity         { return []age.Identity{s.key} }
func recipients(s *site) []age.Recipient { return []age.Recipient{s.key.Recipient()} }

var errDead = errors.New("the disk is gone")

// failing is a file system that refuses every change after some, as if the
// process had died then.
type failing struct {
	hasty
	mu    sync.Mutex
	armed bool
	left  int
}

func (f *failing) failAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.left = true, n
}

func (f *failing) step() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.armed {
		return nil
	}
	if f.left--; f.left < 0 {
		return errDead
	}
	return nil
}

func (f *failing) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		if err := f.step(); err != nil {
			return nil, err
		}
	}
	file, err := f.hasty.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &failingFile{file, f}, nil
}

func (f *failing) Rename(a, b string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.hasty.Rename(a, b)
}

func (f *failing) Remove(name string) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.hasty.Remove(name)
}

type failingFile struct {
	disk.File
	f *failing
}

func (f *failingFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.f.step(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

func (f *failingFile) Sync() error {
	if err := f.f.step(); err != nil {
		return err
	}
	return f.File.Sync()
}

// shared are snapshots that several goroutines use.
type shared struct {
	mu sync.Mutex
	snapshots
}

func (s *shared) Each(ctx context.Context, fn func(gc.Root) error) error {
	s.mu.Lock()
	all := maps.Clone(s.snapshots)
	s.mu.Unlock()
	return all.Each(ctx, fn)
}

func (s *shared) backup(t *testing.T, c *gc.Collector, name string, cs []chunktest.Chunk) {
	t.Helper()
	backup(t, c, name, cs, func(ds []chunks.Digest) {
		s.mu.Lock()
		s.snapshots[name] = ds
		s.mu.Unlock()
	})
}

func (s *shared) forget(name string) {
	s.mu.Lock()
	delete(s.snapshots, name)
	s.mu.Unlock()
}

// Files returns every file of the newest root.
func (s *Store) Files(ctx context.Context) (map[string][]byte, error) {
	all := map[string][]byte{}
	err := s.EachFile(ctx, func(name string, content []byte) error {
		all[name] = content
		return nil
	})
	return all, err
}
