package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack/identity"
)

// newStore makes a store in a directory of the test and opens it.
func newStore(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "store")
	}
	if cfg.FS == nil {
		cfg.FS = disk.OS{}
	}
	if _, err := identity.Init(cfg.FS, cfg.Dir, identity.MinPackBytes); err != nil {
		t.Fatal(err)
	}
	return openStore(t, cfg)
}

func openStore(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, errClosed) {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// put stores chunks made from seeds and returns them.
func put(t testing.TB, s *Store, size int, seeds ...uint64) []chunktest.Chunk {
	t.Helper()
	var cs []chunktest.Chunk
	for _, seed := range seeds {
		c := chunktest.Blob(seed, size)
		if _, err := s.Put(context.Background(), c.Digest, c.Blob); err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	return cs
}

func seeds(from, n uint64) (all []uint64) {
	for i := range n {
		all = append(all, from+i)
	}
	return all
}

// wantAll fails the test unless every chunk comes back as it was.
func wantAll(t testing.TB, s *Store, cs []chunktest.Chunk) {
	t.Helper()
	for _, c := range cs {
		b, err := s.Get(context.Background(), c.Digest, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, c.Blob) {
			t.Fatalf("chunk %s came back different", c.Digest.Short())
		}
	}
}

func commit(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	open := func(t *testing.T) chunks.Writer { return newStore(t, Config{}) }
	reopen := func(t *testing.T, w chunks.Writer) chunks.Writer {
		s := w.(*Store)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return openStore(t, s.cfg)
	}
	chunktest.Run(t, open, chunktest.Options{Reopen: reopen})
}

func TestManyPacksAndReopen(t *testing.T) {
	for _, direct := range []disk.When{DirectOn, DirectOff} {
		for _, size := range []int{100, 8 << 10, 1 << 20} {
			t.Run(fmt.Sprintf("direct %d, %d bytes", direct, size), func(t *testing.T) {
				n := uint64(min(40<<20/size, 5000))
				s := newStore(t, Config{Direct: direct})
				cs := put(t, s, size, seeds(1, n)...)
				wantAll(t, s, cs) // from memory and file
				commit(t, s)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				again := openStore(t, s.cfg)
				if !again.Health().Clean {
					t.Errorf("after a clean stop health is %+v", again.Health())
				}
				wantAll(t, again, cs)
				more := put(t, again, size, seeds(n+1, 10)...)
				commit(t, again)
				wantAll(t, again, more)
				report, err := again.Scrub(t.Context(), ScrubOptions{Deep: true})
				if err != nil || len(report.Damaged) > 0 || report.Chunks != int64(n)+10 {
					t.Errorf("scrub found %+v, %v", report, err)
				}
			})
		}
	}
}

// A start after a clean stop goes on with the packs that were open, so that
// many short runs do not leave many short packs.
func TestShortRunsShareAPack(t *testing.T) {
	s := newStore(t, Config{})
	var cs []chunktest.Chunk
	for i := range uint64(5) {
		cs = append(cs, put(t, s, 1000, seeds(10*i, 5)...)...)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, s.cfg)
	}
	wantAll(t, s, cs)
	if packs := s.Packs(); len(packs) != 1 {
		t.Errorf("there are %d packs, want 1", len(packs))
	}
}

func TestRefusedDirectories(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, dir string)
		err  error
		hint string
	}{
		{"an empty directory, as a disk leaves that is not mounted", func(*testing.T, string) {}, identity.ErrNotStore, "is the disk mounted?"},
		{"a directory that does not exist", func(t *testing.T, dir string) { os.Remove(dir) }, identity.ErrNotStore, "does not exist"},
		{"a datastore of Proxmox Backup Server", mkdirs(".chunks", "vm"), identity.ErrNotStore, "another layout"},
		{"a restic repository", mkdirs("config", "data", "index", "keys", "snapshots"), identity.ErrNotStore, "restic"},
		{"a borg repository", mkdirs("config", "data", "README"), identity.ErrNotStore, "borg"},
		{"packs without an identity", mkdirs("packs"), identity.ErrNotStore, "incomplete copy"},
		{"something else", mkdirs("photos"), identity.ErrNotStore, "choose the directory"},
		{"a newer store", identityText(`{"format":"holdfast-store","version":2}`), identity.ErrNewer, "upgrade"},
		{"a damaged identity", identityText(`{"format`), identity.ErrNotStore, "restore the file"},
		{"an identity of something else", identityText(`{"format":"x","version":1}`), identity.ErrNotStore, "restore the file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.make(t, dir)
			before := tree(t, dir)
			_, err := Open(t.Context(), Config{Dir: dir})
			var hinted interface{ Hint() string }
			if !errors.Is(err, tt.err) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), tt.hint) {
				t.Errorf("Open = %v, hint %q; want %v, %q", err, hinted, tt.err, tt.hint)
			}
			if after := tree(t, dir); after != before {
				t.Errorf("Open wrote into a directory that is not a store:\n%s\nwas\n%s", after, before)
			}
		})
	}
}

func mkdirs(names ...string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		for _, n := range names {
			if err := os.Mkdir(filepath.Join(dir, n), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func identityText(text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.WriteFile(filepath.Join(dir, identity.File), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// tree lists what is in a directory.
func tree(t *testing.T, dir string) string {
	var b strings.Builder
	filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintln(&b, name, info.Size())
		}
		return nil
	})
	return b.String()
}

func TestInitRefuses(t *testing.T) {
	dir := t.TempDir()
	mkdirs("photos")(t, dir)
	if _, err := identity.Init(disk.OS{}, dir, 0); !errors.Is(err, identity.ErrNotEmpty) {
		t.Errorf("Init of a directory in use = %v", err)
	}
	s := newStore(t, Config{})
	if _, err := identity.Init(disk.OS{}, s.dir, 0); !errors.Is(err, os.ErrExist) {
		t.Errorf("second Init = %v", err)
	}
	for _, n := range []int64{1, identity.MinPackBytes - 1, identity.MaxPackBytes + 1} {
		if _, err := identity.Init(disk.OS{}, t.TempDir(), n); err == nil {
			t.Errorf("Init with packs of %d bytes worked", n)
		}
	}
}

func TestSecondUserIsRefused(t *testing.T) {
	s := newStore(t, Config{})
	if _, err := Open(t.Context(), s.cfg); !errors.Is(err, identity.ErrLocked) {
		t.Errorf("second Open = %v, want %v", err, identity.ErrLocked)
	}
}

// copyStore copies a store as cp -r does, less what skip names.
func copyStore(t *testing.T, from string, skip func(name string) bool) string {
	to := filepath.Join(t.TempDir(), "copy")
	err := filepath.Walk(from, func(name string, info os.FileInfo, err error) error {
		rel, _ := filepath.Rel(from, name)
		switch {
		case err != nil || skip != nil && skip(rel):
			return err
		case info.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestCopies(t *testing.T) {
	s := newStore(t, Config{Lanes: 1})
	cs := put(t, s, 1<<20, seeds(1, 40)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("a whole copy is a store", func(t *testing.T) {
		c := openStore(t, Config{Dir: copyStore(t, s.dir, nil)})
		wantAll(t, c, cs)
	})
	t.Run("a copy without its index rebuilds it", func(t *testing.T) {
		c := openStore(t, Config{Dir: copyStore(t, s.dir, func(n string) bool { return strings.HasPrefix(n, "index/") })})
		if !c.Health().Rebuilt {
			t.Errorf("health is %+v", c.Health())
		}
		wantAll(t, c, cs)
	})
	t.Run("a copy that lacks packs is refused, and opens on demand", func(t *testing.T) {
		skipped := ""
		dir := copyStore(t, s.dir, func(n string) bool {
			if strings.HasSuffix(n, ".hfpk") && skipped == "" {
				skipped = n
			}
			return n == skipped
		})
		_, err := Open(t.Context(), Config{Dir: dir})
		if !errors.Is(err, identity.ErrHalfCopied) || !strings.Contains(err.Error(), skipped) {
			t.Fatalf("Open = %v, want %v and the name of %s", err, identity.ErrHalfCopied, skipped)
		}
		c := openStore(t, Config{Dir: dir, AcceptLoss: true})
		missing := 0
		for _, chunk := range cs {
			if !c.Known(chunk.Digest) {
				missing++
			} else {
				wantAll(t, c, []chunktest.Chunk{chunk})
			}
		}
		if missing == 0 || missing == len(cs) {
			t.Errorf("%d of %d chunks are missing", missing, len(cs))
		}
	})
}
