package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/match"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/chunktest"
)

// Sizes in bytes of the large file of a tree. The second is more than the
// longest chunk, so that there is one behind the small files and in front of
// the end.
const (
	oneChunk   = 1 << 20
	manyChunks = 20 << 20
)

// makeTree makes a directory with n small files in folders, a large one and a
// symlink.
func makeTree(t testing.TB, n, large int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprintf("d%d", i%7))
		err := os.MkdirAll(sub, 0o755)
		if err := errors.Join(err, os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%04d", i)), chunktest.Text(uint64(i), i*37%9000), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "large"), chunktest.Random(9, large), 0o600),
		os.Symlink("large", filepath.Join(dir, "link")),
	); err != nil {
		t.Fatal(err)
	}
	return dir
}

// describe lists a tree: modes, times, sums of contents, targets.
func describe(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v %v", strings.TrimPrefix(path, dir), info.Mode(), info.ModTime().UnixNano())
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + chunks.Sum(content).Short()
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " " + to
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func wantSameTree(t testing.TB, got, want string) {
	t.Helper()
	g, w := describe(t, got), describe(t, want)
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("line %d of %d and %d: %q, want %q", i, len(g), len(w), g[i:min(i+1, len(g))], w[i:min(i+1, len(w))])
		}
	}
}

func TestTreesComeBack(t *testing.T) {
	dir := makeTree(t, 300, oneChunk)
	small := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	key := chunktest.Key(1)
	for _, test := range []struct {
		name string
		key  *chunks.Key
		mode manifest.CryptMode
	}{
		{"in the open", nil, manifest.None},
		{"encrypted", key, manifest.Encrypt},
		{"only signed", key, manifest.SignOnly},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newVault()
			sum := v.backup(t, Config{Key: test.key, CryptMode: test.mode, Sources: []Source{
				{"root.pxar", Tree, dir}, {"etc.conf", Conf, writeFile(t, []byte("x"))}, {"small.pxar", Tree, small},
			}})
			var names []string
			for _, f := range v.man.Files {
				names = append(names, f.Name)
			}
			if want := []string{"root.pxar.didx", "etc.conf.blob", "small.pxar.didx", "catalog.pcat1.didx"}; !slices.Equal(names, want) {
				t.Fatalf("the manifest has %v", names)
			}
			checkManifest(t, v, sum, test.mode, test.key)
			if sum.Archives[0].Entries != 310 || sum.Warnings.Count != 0 {
				t.Errorf("%d entries, warnings %v", sum.Archives[0].Entries, sum.Warnings.List)
			}
			var last Progress
			s := Open(v, Options{Key: test.key, Progress: func(p Progress) { last = p }})
			to := filepath.Join(t.TempDir(), "to")
			report, err := s.RestoreTree(t.Context(), "root.pxar.didx", to, tree.ExtractOptions{})
			if err != nil || report.WarningCount != 0 {
				t.Fatal(report.Warnings, err)
			}
			wantSameTree(t, to, dir)
			if last.Entries != 310 || last.Bytes < oneChunk {
				t.Errorf("the progress ends at %+v", last)
			}
			checkListings(t, s, dir)
		})
	}
}

// checkListings compares catalog, raw stream and single files with dir.
func checkListings(t *testing.T, s *Snapshot, dir string) {
	t.Helper()
	c, err := s.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	roots, err := c.Children(c.Root())
	if err != nil || len(roots) != 2 || roots[0].Name != "root.pxar.didx" || roots[1].Name != "small.pxar.didx" {
		t.Fatalf("the catalog's root has %v, %v", roots, err)
	}
	large, err := c.Find("root.pxar.didx/large")
	if err != nil || large.Size != oneChunk {
		t.Fatalf("%+v, %v", large, err)
	}
	for _, path := range []string{"large", "d3/f0101"} {
		want, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := s.WriteFile(t.Context(), "root.pxar.didx", path, &got); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("%s has %d bytes, %v", path, got.Len(), err)
		}
	}
	dec, n := pxar.NewDecoder(bytes.NewReader(streamed(t, s, "root.pxar.didx"))), 0
	for {
		e, err := dec.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != pxar.DirEnd {
			n++
		}
	}
	if n != 310 {
		t.Fatalf("the stream has %d entries", n)
	}
}

func TestAnUnchangedTreeIsNotStoredAgain(t *testing.T) {
	v := newVault()
	cfg := Config{Sources: []Source{{"root.pxar", Tree, makeTree(t, 50, oneChunk)}}}
	first := v.backup(t, cfg)
	v.faults(1, chunktest.Fault{On: chunktest.Put})
	v.known = true
	again := v.backup(t, cfg)
	if again.Total.NewChunks != 0 || again.Total.Chunks != first.Total.Chunks || again.Total.StoredBytes != 0 {
		t.Fatalf("first %+v, again %+v", first.Total, again.Total)
	}
}

func TestPartsOfATree(t *testing.T) {
	dir := makeTree(t, 70, oneChunk)
	v := newVault()
	v.backup(t, Config{Sources: []Source{{"root.pxar", Tree, dir}}})
	s := Open(v, Options{})
	only, err := match.Parse("f0010")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		opt   tree.ExtractOptions
		there []string
		gone  []string
	}{
		{"one folder", tree.ExtractOptions{Subpath: "d3"}, []string{"f0010", "f0003"}, []string{"d3", "large"}},
		{"one file", tree.ExtractOptions{Subpath: "d3/f0010"}, []string{"f0010"}, []string{"f0003"}},
		{"a pattern", tree.ExtractOptions{Patterns: match.List{only}}, []string{"d3/f0010"}, []string{"d3/f0003", "large"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "to")
			if _, err := s.RestoreTree(t.Context(), "root.pxar.didx", to, test.opt); err != nil {
				t.Fatal(err)
			}
			for _, name := range test.there {
				if _, err := os.Stat(filepath.Join(to, name)); err != nil {
					t.Error(err)
				}
			}
			for _, name := range test.gone {
				if _, err := os.Stat(filepath.Join(to, name)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is there: %v", name, err)
				}
			}
		})
	}
}

func TestABadChunkCostsOnlyItsFiles(t *testing.T) {
	dir := makeTree(t, 50, manyChunks)
	v := newVault()
	v.backup(t, Config{Sources: []Source{{"root.pxar", Tree, dir}}})
	x := v.indexes["root.pxar.didx"]
	if x.Len() < 3 {
		t.Fatalf("%d chunks", x.Len())
	}
	v.mem.Forget(x.Digest(1))
	to := filepath.Join(t.TempDir(), "to")
	report, err := Open(v, Options{}).RestoreTree(t.Context(), "root.pxar.didx", to, tree.ExtractOptions{})
	if err == nil || report.DamagedCount != 1 || report.Damaged[0] != "large" {
		t.Fatalf("%v; damaged are %v", err, report.Damaged)
	}
	if err := os.Remove(filepath.Join(dir, "large")); err != nil {
		t.Fatal(err)
	}
	if got, want := len(describe(t, to)), len(describe(t, dir)); got != want {
		t.Fatalf("%d entries are there, want %d", got, want)
	}
}

func TestSplitArchives(t *testing.T) {
	var meta, payload bytes.Buffer
	dirMode := &pxar.Metadata{Mode: 0o40755, Mtime: pxar.Timespec{Sec: 1}, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	fileMode := *dirMode
	fileMode.Mode = 0o100600
	enc, err := pxar.NewSplitEncoder(&meta, &payload, dirMode, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{"a": chunktest.Text(1, 100), "b": chunktest.Random(2, 10<<20)}
	for _, name := range []string{"a", "b"} {
		w, _, err := enc.File(name, &fileMode, int64(len(want[name])))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(want[name]); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	v := newVault()
	m := manifest.New(testSnapshot)
	for name, content := range map[string][]byte{"root.mpxar.didx": meta.Bytes(), "root.ppxar.didx": payload.Bytes()} {
		x := putDynamic(t, v.mem, content, chunks.ArchiveAverage, chunks.EncodeOptions{})
		v.indexes[name] = x
		if err := m.Add(manifest.File{Name: name, Size: uint64(x.Size()), Csum: x.Csum(), CryptMode: manifest.None}); err != nil {
			t.Fatal(err)
		}
	}
	v.finish(t, m)
	s := Open(v, Options{})
	for _, name := range []string{"root.mpxar.didx", "root.pxar.didx"} {
		to := filepath.Join(t.TempDir(), "to")
		if _, err := s.RestoreTree(t.Context(), name, to, tree.ExtractOptions{}); err != nil {
			t.Fatal(err)
		}
		for file, content := range want {
			got, err := os.ReadFile(filepath.Join(to, file))
			if err != nil || !bytes.Equal(got, content) {
				t.Fatalf("%s of %s has %d bytes, %v", file, name, len(got), err)
			}
		}
	}
	_, err = s.Archive(t.Context(), "other.pxar.didx", ReaderOptions{})
	wantError(t, err, ErrNotFound)
}

func TestTreesEndWithTheirContext(t *testing.T) {
	dir, out := makeTree(t, 50, manyChunks), t.TempDir()
	stored := newVault()
	stored.backup(t, Config{Sources: []Source{{"root.pxar", Tree, dir}}})
	synctest.Test(t, func(t *testing.T) {
		fresh := newVault()
		fresh.faults(1, chunktest.Fault{On: chunktest.Put, Delay: 24 * time.Hour})
		stored.faults(1, chunktest.Fault{On: chunktest.Get, Nth: 2, Delay: 24 * time.Hour})
		for how, run := range map[string]func(context.Context) error{
			"backup": func(ctx context.Context) error {
				_, _, err := Backup(ctx, Config{Target: fresh, Snapshot: testSnapshot, Sources: []Source{{"root.pxar", Tree, dir}}})
				return err
			},
			"restore": func(ctx context.Context) error {
				_, err := Open(stored, Options{}).RestoreTree(ctx, "root.pxar.didx", filepath.Join(out, "to"), tree.ExtractOptions{})
				return err
			},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			start := time.Now()
			err := run(ctx)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", how, err)
			}
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("%s took %v", how, took)
			}
		}
	})
}

func TestACatalogThatCannotBeStoredEndsTheBackup(t *testing.T) {
	dir := makeTree(t, 50, oneChunk)
	target := picky{newVault()}
	_, _, err := Backup(t.Context(), Config{Target: target, Snapshot: testSnapshot, Sources: []Source{{"root.pxar", Tree, dir}}})
	wantError(t, err, chunks.ErrNoSpace)
	if !strings.Contains(err.Error(), catalogIndex) {
		t.Fatal(err)
	}
}

// picky is a target that does not take catalogs.
type picky struct{ *vault }

func (p picky) Open(ctx context.Context, archive string, size int64) (Sink, error) {
	if archive == catalogIndex {
		return nil, chunks.ErrNoSpace
	}
	return p.vault.Open(ctx, archive, size)
}
