package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// An Archive is an archive of a directory that is open for random access.
type Archive struct {
	*pxar.Archive
	readers []*Reader
}

// Close frees what reading needed.
func (a *Archive) Close() error {
	for _, r := range a.readers {
		r.Close()
	}
	return nil
}

// Archive opens an archive of a directory, NAME.pxar.didx. An archive in two
// parts is opened by the name of the first, NAME.mpxar.didx, or as if it were
// in one; both share what opt allows. It must be closed, and ends with ctx.
func (s *Snapshot) Archive(ctx context.Context, name string, opt ReaderOptions) (*Archive, error) {
	names := s.parts(name)
	opt = opt.Share(len(names))
	a := &Archive{}
	for _, name := range names {
		r, err := s.Reader(ctx, name, opt)
		if err != nil {
			return nil, errors.Join(err, a.Close())
		}
		a.readers = append(a.readers, r)
	}
	var popt pxar.Options
	if len(names) > 1 {
		popt.Payload, popt.PayloadSize = a.readers[1], a.readers[1].Size()
	}
	var err error
	if a.Archive, err = pxar.OpenArchive(a.readers[0], a.readers[0].Size(), popt); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), a.Close())
	}
	return a, nil
}

// parts returns the indexes that make up an archive.
func (s *Snapshot) parts(name string) []string {
	base, split := strings.CutSuffix(name, ".mpxar.didx")
	if _, whole := s.Manifest().File(name); !split && !whole {
		base, split = strings.CutSuffix(name, ".pxar.didx")
		_, first := s.Manifest().File(base + ".mpxar.didx")
		split = split && first
	}
	if !split {
		return []string{name}
	}
	return []string{base + ".mpxar.didx", base + ".ppxar.didx"}
}

// What a restore of a tree keeps in memory, in bytes of decoded chunks: what
// lies ahead, and what tables and their contents need, between which reading
// goes to and fro: chunks have up to 16 MiB, and one that is forgotten too early
// is fetched again. With chunks on their way, and what waits for the garbage
// collector, two to three times as much is in use.
const (
	restoreCache = 96 << 20
	restoreAhead = 16 << 20
)

// RestoreTree restores an archive of a directory, or what opt selects of it,
// below target. Entries whose content is lost are left out and named in the
// report, and the rest is restored.
func (s *Snapshot) RestoreTree(ctx context.Context, name, target string, opt tree.ExtractOptions) (tree.Report, error) {
	m := &meter{report: s.opt.Progress}
	m.begin(name)
	defer m.tick(true)
	a, err := s.Archive(ctx, name, ReaderOptions{Cache: restoreCache, Ahead: restoreAhead, Workers: s.opt.Workers})
	if err != nil {
		return tree.Report{}, err
	}
	defer a.Close()
	opt.Direct = opt.Direct || a.large() && disk.DirectPays(disk.OS{}, existing(target))
	also := opt.Progress
	opt.Progress = func(entries, bytes int64) {
		m.reach(entries, bytes)
		if also != nil {
			also(entries, bytes)
		}
	}
	report, err := tree.Extract(ctx, a.Archive, target, opt)
	if err != nil {
		return report, fmt.Errorf("restore %s: %w", name, err)
	}
	return report, nil
}

// largeTree is the size in bytes from which it is worth to try how the target's
// disk is written best, which takes a few megabytes.
const largeTree = 256 << 20

func (a *Archive) large() bool {
	n := int64(0)
	for _, r := range a.readers {
		n += r.Size()
	}
	return n >= largeTree
}

// existing returns path, or the directory on the way to it that exists.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// copyBlock is how many bytes of a file are read at a time.
const copyBlock = 1 << 20

// WriteFile writes the content of one file of an archive to w. The path is
// relative to the root of the archive. It fails with ErrNotFound.
func (s *Snapshot) WriteFile(ctx context.Context, name, path string, w io.Writer) error {
	a, err := s.Archive(ctx, name, ReaderOptions{Workers: s.opt.Workers})
	if err != nil {
		return err
	}
	defer a.Close()
	node, err := a.Find(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &failure{text: fmt.Sprintf("no %q in %s", path, name), cure: "paths begin at the root of the archive; a mount or the catalog shows them", kind: ErrNotFound, cause: err}
	}
	if err != nil {
		return fmt.Errorf("find %q in %s: %w", path, name, err)
	}
	content, err := node.Content()
	if err != nil {
		return fmt.Errorf("open %q in %s: %w", path, name, err)
	}
	buf := make([]byte, copyBlock)
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, content, buf); err != nil {
		return fmt.Errorf("write out %q of %s: %w", path, name, err)
	}
	return nil
}

// A Catalog lists the trees of a snapshot without their contents.
type Catalog struct {
	*pxar.Catalog
	reader *Reader
}

// Close frees what reading needed.
func (c *Catalog) Close() error { return c.reader.Close() }

// Catalog opens the snapshot's catalog. It must be closed, and ends with ctx.
func (s *Snapshot) Catalog(ctx context.Context) (*Catalog, error) {
	r, err := s.Reader(ctx, catalogIndex, ReaderOptions{Workers: s.opt.Workers})
	if err != nil {
		return nil, err
	}
	c, err := pxar.OpenCatalog(r, r.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", catalogIndex, err), r.Close())
	}
	return &Catalog{c, r}, nil
}
