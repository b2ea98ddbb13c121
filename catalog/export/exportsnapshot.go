package export

import (
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
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// snapshot writes one snapshot, unless it is there.
func (e *exporter) snapshot(ctx context.Context, g groupPlan, s catalog.Snapshot) error {
	r, err := e.src.OpenSnapshot(ctx, g.from, s)
	switch {
	case errors.Is(err, catalog.ErrMaintenance):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return skip{errUnfinished}
	case err != nil:
		return skip{err}
	}
	defer r.Close()
	there, err := same(e.dst, g.to, s, r.Manifest())
	if err != nil {
		return err
	}
	dir := path.Join(e.dst.Dir, g.to.Path(), s.Path())
	if there {
		e.report.Present++
		return e.extras(g, s, dir)
	}
	if err := disk.MkdirAll(e.opt.FS, dir, dirMode); err != nil {
		return err
	}
	for _, f := range r.Manifest().Files {
		if err := e.file(ctx, r, dir, f); err != nil {
			return err
		}
	}
	if err := e.writer.commit(ctx); err != nil {
		return err
	}
	if err := e.extras(g, s, dir); err != nil {
		return err
	}
	b, err := e.src.ReadBlob(g.from, s, manifestName)
	if err != nil {
		return skip{err}
	}
	if err := e.put(dir, manifestName, b); err != nil {
		return err
	}
	e.report.Snapshots++
	return nil
}

// file writes one file of a snapshot, and the chunks that it names.
func (e *exporter) file(ctx context.Context, r *catalog.Reader, dir string, f manifest.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if strings.HasSuffix(f.Name, ".blob") {
		b, err := r.Blob(f.Name)
		if err == nil {
			err = compare(f, int64(len(b)), chunks.Sum(b))
		}
		if err != nil {
			return skip{err}
		}
		return e.put(dir, f.Name, b)
	}
	x, err := r.Index(f.Name)
	if err == nil {
		err = compare(f, x.Size(), x.Csum())
	}
	if err != nil {
		return skip{err}
	}
	if err := batches(ctx, x, func(ds []chunks.Digest) error { return e.chunks(ctx, e.src.Bulk(), ds) }); err != nil {
		return err
	}
	return e.put(dir, f.Name, x.Bytes())
}

// extras writes what no manifest names: the client's log and the mark of
// protection. They may come or change after the snapshot was finished.
func (e *exporter) extras(g groupPlan, s catalog.Snapshot, dir string) error {
	log, err := e.src.ReadBlob(g.from, s, logName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return skip{err}
	default:
		if err := e.putNew(dir, logName, log); err != nil {
			return err
		}
	}
	marked, err := e.src.Protected(g.from, s)
	if err != nil {
		return skip{err}
	}
	if !marked {
		return nil
	}
	return e.putNew(dir, protectedName, nil)
}

func (e *exporter) put(dir, name string, data []byte) error {
	return disk.WriteFileAtomic(e.opt.FS, path.Join(dir, name), data, 0o644)
}

// putNew is put for a file that may be there.
func (e *exporter) putNew(dir, name string, data []byte) error {
	if _, err := e.opt.FS.Stat(path.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return e.put(dir, name, data)
}

// chunks writes those of ds that the target does not have.
func (e *exporter) chunks(ctx context.Context, src chunks.BatchSource, ds []chunks.Digest) error {
	ask, refs := e.unsure(ds)
	found, err := e.held(ctx, ask)
	if err != nil {
		return err
	}
	want := slices.DeleteFunc(ask, func(d chunks.Digest) bool { return found[d] > 0 && !e.opt.Compare })
	e.meter.known(len(ds) - len(want))
	err = src.GetMany(ctx, want, func(d chunks.Digest, b chunks.Blob, err error) error {
		if err == nil {
			err = b.Check()
		}
		if err != nil {
			return skip{err}
		}
		if found[d] == int64(len(b)) {
			e.meter.known(1)
			return nil
		}
		if err := e.writer.write(ctx, d, b); err != nil {
			return fmt.Errorf("write chunk %s: %w", d.Short(), err)
		}
		e.meter.copied(len(b))
		return nil
	})
	if err != nil {
		return err
	}
	for _, ref := range refs {
		e.done.Add(ref)
	}
	return nil
}

// unsure returns those of ds that this run has not dealt with, and where the
// source has them. A file that was dealt with is there, or the run fails.
func (e *exporter) unsure(ds []chunks.Digest) (ask []chunks.Digest, refs []pack.Ref) {
	for _, d := range ds {
		ref, ok := e.src.Chunks().Locate(d)
		if ok && e.done.Has(ref) {
			continue
		}
		if ask = append(ask, d); ok {
			refs = append(refs, ref)
		}
	}
	return ask, refs
}

// held returns the lengths of the files of those of ds that the target has.
func (e *exporter) held(ctx context.Context, ds []chunks.Digest) (map[chunks.Digest]int64, error) {
	found := make([]int64, len(ds))
	err := each(ctx, e.opt.Workers, len(ds), func(_ context.Context, i int) (err error) {
		found[i], err = e.writer.held(ds[i])
		return err
	})
	lengths := map[chunks.Digest]int64{}
	for i, n := range found {
		if n > 0 {
			lengths[ds[i]] = n
		}
	}
	return lengths, err
}
