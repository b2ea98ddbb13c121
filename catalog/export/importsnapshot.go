package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

var (
	errUnfinished = errors.New("snapshot has no manifest")
	errDiffers    = errors.New("another snapshot of that name is there, with different content")
)

// snapshot copies one snapshot, unless it is there.
func (i *importer) snapshot(ctx context.Context, g groupPlan, s catalog.Snapshot, owner string) error {
	m, err := i.src.Manifest(g.from, s)
	if errors.Is(err, fs.ErrNotExist) {
		return skip{errUnfinished}
	}
	if err != nil {
		return skip{err}
	}
	there, err := same(i.dst.Tree, g.to, s, m)
	if err != nil {
		return err
	}
	if !there {
		if err := i.copy(ctx, g, s, m, owner); err != nil {
			return err
		}
		i.report.Snapshots++
	} else {
		i.report.Present++
		if err := i.lateLog(g, s); err != nil {
			return err
		}
	}
	return i.protect(g, s)
}

// same reports whether a tree has the snapshot that m describes. What is not
// signed, such as notes, does not count. It fails with a skip if the tree has
// another one of that name, or a damaged one.
func same(tree catalog.Tree, ns catalog.Namespace, s catalog.Snapshot, m *catalog.Manifest) (bool, error) {
	have, err := tree.Manifest(ns, s)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if errors.Is(err, manifest.ErrInvalid) || errors.Is(err, chunks.ErrCorrupt) {
		return false, skip{fmt.Errorf("the copy that is there cannot be read: %w", err)}
	}
	if err != nil { // the disk fails, and would for all others
		return false, err
	}
	a, errA := have.Canonical()
	b, errB := m.Canonical()
	if err := errors.Join(errA, errB); err != nil {
		return false, skip{err}
	}
	if !bytes.Equal(a, b) {
		return false, skip{errDiffers}
	}
	return true, nil
}

// copy makes the snapshot. What it stored stays in the store when it fails
// or is stopped, until the next garbage collection, and need not be read again.
func (i *importer) copy(ctx context.Context, g groupPlan, s catalog.Snapshot, m *catalog.Manifest, owner string) (err error) {
	w, err := i.dst.Insert(ctx, g.to, s, owner)
	if errors.Is(err, catalog.ErrOwner) || errors.Is(err, catalog.ErrBusy) || errors.Is(err, fs.ErrExist) {
		return skip{err}
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Abort())
		}
	}()
	for _, f := range m.Files {
		if err := i.file(ctx, w, g, s, f); err != nil {
			return err
		}
	}
	switch log, err := i.src.ReadBlob(g.from, s, logName); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return skip{err}
	default:
		if err := w.PutBlob(logName, log); err != nil {
			return err
		}
	}
	return w.Finish(ctx, m)
}

// file copies one file that the manifest names, and the chunks it names.
func (i *importer) file(ctx context.Context, w *catalog.Writer, g groupPlan, s catalog.Snapshot, f manifest.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if strings.HasSuffix(f.Name, ".blob") {
		b, err := i.src.ReadBlob(g.from, s, f.Name)
		if err == nil {
			err = compare(f, int64(len(b)), chunks.Sum(b))
		}
		if err != nil {
			return skip{err}
		}
		return w.PutBlob(f.Name, b)
	}
	x, err := i.src.ReadIndex(g.from, s, f.Name)
	if err == nil {
		err = compare(f, x.Size(), x.Csum())
	}
	if err != nil {
		return skip{err}
	}
	if err := batches(ctx, x, func(ds []chunks.Digest) error { return i.chunks(ctx, w.Session(), ds) }); err != nil {
		return err
	}
	return w.PutIndex(f.Name, x)
}

// compare fails if a file is not what the manifest says.
func compare(f manifest.File, size int64, csum chunks.Digest) error {
	if uint64(size) != f.Size || csum != f.Csum {
		return fmt.Errorf("%s has %d bytes and the sum %s, the manifest says %d and %s", f.Name, size, csum.Short(), f.Size, f.Csum.Short())
	}
	return nil
}

// batches calls fn with the digests of an index, a window at a time, each
// once in a window and sorted.
func batches(ctx context.Context, x chunks.Index, fn func([]chunks.Digest) error) error {
	batch := make([]chunks.Digest, 0, min(window, x.Len()))
	flush := func() error {
		slices.SortFunc(batch, chunks.Digest.Compare)
		batch = slices.Compact(batch)
		err := fn(batch)
		batch = batch[:0]
		return errors.Join(err, ctx.Err())
	}
	for _, d := range x.All() {
		if batch = append(batch, d); len(batch) == window {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// chunks copies those of ds that are not there. What is damaged or missing is
// a reason to refuse the snapshot; that it cannot be stored ends the import.
func (i *importer) chunks(ctx context.Context, s *gc.Session, ds []chunks.Digest) error {
	missing, err := s.Missing(ctx, ds)
	if err != nil {
		return err
	}
	i.meter.known(len(ds) - len(missing))
	err = i.src.chunks.GetMany(ctx, missing, func(d chunks.Digest, b chunks.Blob, err error) error {
		if err != nil {
			return skip{err}
		}
		if err := b.Verify(d, nil); err != nil {
			return skip{&chunks.Error{Op: "verify", Digest: d, Place: i.src.chunks.place, Err: err}}
		}
		if _, err := s.Put(ctx, d, b); err != nil {
			return err
		}
		i.meter.copied(len(b))
		return nil
	})
	if err != nil || len(missing) == 0 {
		return err
	}
	return s.Commit(ctx)
}

// lateLog takes over a log that came after the snapshot was imported.
func (i *importer) lateLog(g groupPlan, s catalog.Snapshot) error {
	have := path.Join(i.dst.Dir, g.to.Path(), s.Path(), logName)
	if _, err := i.dst.FS.Stat(have); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	log, err := i.src.ReadBlob(g.from, s, logName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return skip{err}
	}
	return i.dst.AddLog(g.to, s, log)
}

// protect marks the copy of a snapshot that is marked.
func (i *importer) protect(g groupPlan, s catalog.Snapshot) error {
	marked, err := i.src.Protected(g.from, s)
	if err != nil {
		return skip{err}
	}
	if !marked {
		return nil
	}
	have, err := i.dst.Protected(g.to, s)
	if err != nil || have {
		return err
	}
	if err := i.dst.SetProtected(g.to, s, true); err != nil && !errors.Is(err, catalog.ErrBusy) {
		return err
	}
	return nil
}
