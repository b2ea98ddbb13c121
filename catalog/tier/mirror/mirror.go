// Package mirror compares the files of snapshots with what a bucket was told of them.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier/filename"
	"github.com/holdfast-mesh/holdfast/catalog/tier/forgotten"
	"github.com/holdfast-mesh/holdfast/catalog/tier/told"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/files"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// A Result says what an offload did with the files of snapshots.
type Result struct {
	Snapshots int `json:"total"`
	Added     int `json:"added"`
	Waiting   int `json:"waiting"` // some of their chunks are not in the bucket yet
	Nowhere   int `json:"nowhere"` // chunks of these that are not on the disk either
	Written   int `json:"files-written"`
	Removed   int `json:"files-removed"`
}

// A Walk is one comparison of a tree with what the bucket was told.
type Walk struct {
	Tree      catalog.Tree
	Told      map[string]told.File
	Forgotten *forgotten.Journal
	Log       *slog.Logger

	Put     func(name string, content []byte) error // tells the bucket, with the next root
	Remove  func(name string) error
	Arrived func(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot, names []string) (bool, error)

	Result Result
	Dirty  bool     // Told has changed
	Added  []string // manifests
	Lost   []string // files that the bucket was told of, are not here, and were not meant to go; in order

	seen  map[string]bool
	known map[string]bool // snapshots that were forgotten before
}

// Run compares everything. What was removed here and not forgotten is in Lost, and nobody
// is told of it.
func (w *Walk) Run(ctx context.Context) error {
	tree := w.Tree
	w.seen = map[string]bool{}
	known, err := w.Forgotten.All()
	if err != nil {
		return err
	}
	w.known = known
	if err := w.file("settings.json"); err != nil {
		return err
	}
	spaces, err := tree.Namespaces(ctx, "", -1)
	if err != nil {
		return err
	}
	for _, ns := range spaces {
		groups, err := tree.Groups(ctx, ns)
		if err != nil {
			return err
		}
		for _, g := range groups {
			if err := w.group(ctx, ns, g); err != nil {
				return err
			}
		}
	}
	w.Lost = w.vanished()
	for name := range w.Told {
		if w.seen[name] || w.isLost(name) {
			continue
		}
		if err := w.Remove(name); err != nil {
			return err
		}
		delete(w.Told, name)
		w.Result.Removed++
		w.Dirty = true
	}
	return nil
}

func (w *Walk) group(ctx context.Context, ns catalog.Namespace, g catalog.Group) error {
	for _, name := range []string{"owner", "notes"} {
		if err := w.file(path.Join(ns.Path(), g.Path(), name)); err != nil {
			return err
		}
	}
	snaps, err := w.Tree.Snapshots(ctx, ns, g)
	if err != nil {
		return err
	}
	for _, s := range snaps {
		if err := w.snapshot(ctx, ns, s); err != nil {
			return fmt.Errorf("tell the bucket of %s: %w", path.Join(ns.Path(), s.Path()), err)
		}
	}
	return nil
}

// snapshot tells of a finished snapshot, the first time only if all its chunks
// are in the bucket. The manifest comes last.
func (w *Walk) snapshot(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot) error {
	dir := path.Join(ns.Path(), s.Path())
	if _, err := w.Tree.FS.Stat(path.Join(w.Tree.Dir, dir, filename.Manifest)); errors.Is(err, fs.ErrNotExist) {
		return nil // in the making, or just removed
	} else if err != nil {
		return err
	}
	w.Result.Snapshots++
	names, err := w.Tree.Files(ns, s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, known := w.Told[path.Join(dir, filename.Manifest)]; !known {
		if there, err := w.Arrived(ctx, ns, s, names); err != nil || !there {
			w.Result.Waiting++
			return err
		}
		w.Result.Added++
		w.Added = append(w.Added, path.Join(dir, filename.Manifest))
	}
	for _, name := range append(names, ".protected") {
		if name != filename.Manifest {
			if err := w.file(path.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return w.file(path.Join(dir, filename.Manifest))
}

// file tells of one file if it is new or has changed. One that is not there is
// not seen.
func (w *Walk) file(name string) error {
	full := path.Join(w.Tree.Dir, name)
	info, err := w.Tree.FS.Stat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	w.seen[name] = true
	is := told.File{Size: info.Size(), Time: info.ModTime().UnixNano()}
	was, known := w.Told[name]
	if known && was.Size == is.Size && was.Time == is.Time {
		return nil
	}
	content, err := disk.ReadFile(w.Tree.FS, full, files.Max)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the next time tells
	}
	if err != nil {
		return err
	}
	is.Size, is.Sum = int64(len(content)), xxhash.Sum64(content)
	if !known || was.Sum != is.Sum || was.Size != is.Size {
		if err := w.Put(name, content); err != nil {
			return err
		}
		w.Result.Written++
	}
	w.Told[name], w.Dirty = is, true
	return nil
}

// vanished returns what is to be in Lost.
func (w *Walk) vanished() []string {
	gone := maps.Clone(w.known)
	trash, err := w.Tree.Trash()
	for _, e := range trash {
		gone[path.Join(e.Namespace.Path(), e.Snapshot.Path())] = true
	}
	if err != nil { // what cannot be read of it was forgotten, and nobody knows what it is
		w.Log.Warn("the trash cannot be read: what is in it may come back from the bucket", "err", err)
	}
	lost := forgotten.Vanished(slices.Collect(maps.Keys(w.Told)), func(name string) bool { return w.seen[name] }, func(s string) bool { return gone[s] })
	slices.Sort(lost)
	return lost
}

func (w *Walk) isLost(name string) bool {
	_, is := slices.BinarySearch(w.Lost, name)
	return is
}

// Done forgets what was forgotten and is told, or is back. It comes when Told is durable.
func (w *Walk) Done() error {
	return w.Forgotten.Done(func(s string) bool {
		_, still := w.Told[path.Join(s, filename.Manifest)]
		return w.known[s] && (!still || w.seen[path.Join(s, filename.Manifest)])
	})
}
