package archive

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/pxar"
	"github.com/holdfast-mesh/holdfast/catalog/pxar/tree"
	"github.com/holdfast-mesh/holdfast/chunks"
)

// Sizes of the blocks in which streams are handed to where they are cut, in
// bytes. An archive's are large enough for large reads; a catalog has a few
// bytes for each entry.
const (
	archiveBlock = 1 << 20
	catalogBlock = 64 << 10
)

// tree takes a directory into an archive, and lists it in the catalog.
func (b *backup) tree(ctx context.Context, s Source) error {
	start := time.Now()
	if err := checkDirectory(s); err != nil {
		return err
	}
	if err := b.openCatalog(ctx); err != nil {
		return err
	}
	if err := b.catalog.writer.BeginDir(s.Archive()); err != nil {
		return fmt.Errorf("list %s in the catalog: %w", s, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	p := newPipe(ctx, archiveBlock)
	var report tree.Report
	g.Go(func() (err error) {
		report, err = tree.Create(ctx, s.Path, tree.Sinks{Archive: p, Catalog: b.catalog.writer}, b.treeOptions())
		if err != nil {
			err = fmt.Errorf("back up %s: %w", s, err)
		}
		p.close(err)
		return err
	})
	var index *chunks.Dynamic
	counts := Counts{}
	g.Go(func() (err error) {
		index, counts.IngestStats, err = b.stream(ctx, s.Archive(), p, chunks.ArchiveAverage)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if err := b.catalog.writer.EndDir(); err != nil {
		return fmt.Errorf("list %s in the catalog: %w", s, err)
	}
	counts.Entries = entries(report)
	b.warn(s, report)
	return b.add(s.Archive(), index.Size(), index.Csum(), counts, start)
}

// checkDirectory gives the common mistakes a cure.
func checkDirectory(s Source) error {
	info, err := os.Stat(s.Path)
	switch {
	case err != nil:
		return sourceError(s.Path, err)
	case info.IsDir():
		return nil
	}
	return &failure{
		text: fmt.Sprintf("back up %s: %s is not a directory", s.Name, s.Path),
		cure: "back a file up as NAME.img:FILE, or as NAME.conf:FILE if it is small; or name the directory that it is in",
		kind: ErrSource,
	}
}

// treeOptions counts the entries on the way.
func (b *backup) treeOptions() tree.Options {
	opt, before, also := b.cfg.Tree, b.meter.entries.Load(), b.cfg.Tree.Progress
	opt.Progress = func(entries, bytes int64) {
		b.meter.entries.Store(before + entries)
		b.meter.tick(false)
		if also != nil {
			also(entries, bytes)
		}
	}
	return opt
}

func entries(r tree.Report) int64 {
	return r.Files + r.Directories + r.Symlinks + r.Hardlinks + r.Devices + r.Fifos + r.Sockets
}

// warn passes on what the tree's report says.
func (b *backup) warn(s Source, r tree.Report) {
	for _, w := range r.Warnings {
		b.sum.Warnings.add("%s: %v", s.Name, w)
	}
	b.sum.Warnings.Count += int(r.WarningCount) - len(r.Warnings)
}

// A catalogStream is the catalog of all archives of a backup, on its way to the
// target while they are.
type catalogStream struct {
	start  time.Time
	pipe   *pipe
	writer *pxar.CatalogWriter
	done   chan struct{} // closed when what follows is set
	index  *chunks.Dynamic
	stats  chunks.IngestStats
	err    error
}

// openCatalog begins the catalog, unless it has begun.
func (b *backup) openCatalog(ctx context.Context) error {
	if b.catalog != nil {
		return nil
	}
	c := &catalogStream{start: time.Now(), pipe: newPipe(ctx, catalogBlock), done: make(chan struct{})}
	b.catalog = c
	go func() { // finishCatalog or abort waits for it
		defer close(c.done)
		c.index, c.stats, c.err = b.stream(ctx, catalogIndex, c.pipe, chunks.CatalogAverage)
		if c.err != nil {
			b.fail(c.err)
		}
	}()
	var err error
	if c.writer, err = pxar.NewCatalogWriter(c.pipe); err != nil {
		return fmt.Errorf("begin the catalog: %w", err)
	}
	return nil
}

// finishCatalog ends the catalog, if there is one.
func (b *backup) finishCatalog() error {
	c := b.catalog
	if c == nil {
		return nil
	}
	b.meter.begin(catalogIndex)
	err := c.writer.Close()
	if closed := c.pipe.close(err); err == nil {
		err = closed
	}
	<-c.done
	switch {
	case c.err != nil:
		return c.err
	case err != nil:
		return fmt.Errorf("finish the catalog: %w", err)
	}
	return b.add(catalogIndex, c.index.Size(), c.index.Csum(), Counts{IngestStats: c.stats}, c.start)
}

// abort waits for the catalog after the backup's context was cancelled.
func (c *catalogStream) abort() {
	if c != nil {
		<-c.done
	}
}
