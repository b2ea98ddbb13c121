// Package roots finds the index files of a datastore, and with that which
// chunks are needed.
package roots

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// Roots finds every index file (.fidx, .didx) below a datastore's directory,
// wherever it lies but in the store's own directories: what somebody put there
// by hand keeps its chunks as well. Symbolic links are followed. It implements
// [gc.Roots].
type Roots struct {
	FS  disk.FS
	Dir string
}

// own are the store's own directories, at the top.
var own = map[string]bool{"packs": true, "index": true, "gc": true, "cloud": true}

const (
	maxDepth = 40 // of directories: 7 namespaces take 14, and links could go round
	maxTries = 8  // before a tree counts as one that never holds still
)

// Each calls fn for every index file. The trash is listed last, so a snapshot
// that is forgotten meanwhile is seen in one place or the other. Against moves
// by hand the tree is listed twice, until nothing has gone in between:
// what was moved from a directory not read yet to one that was read is in that
// one the next time. What has come in between is no reason to list again; it
// belongs to sessions that keep its chunks. A directory that cannot be read is
// an error: what is in it might be needed.
func (r Roots) Each(ctx context.Context, fn func(gc.Root) error) error {
	for pause := firstPause; pause < firstPause<<maxTries; pause *= 2 {
		last, err := r.list(ctx)
		if err != nil {
			return err
		}
		next, err := r.list(ctx) // at once: the less time, the less goes
		if err != nil {
			return err
		}
		if !gone(last, next) {
			return r.each(ctx, next, fn)
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
	return fmt.Errorf("list index files of %s: they go faster than they can be listed; try again", r.Dir)
}

// firstPause is how long a tree that changes is left alone before it is listed
// again; the last of the pauses is two seconds.
const firstPause = 16 * time.Millisecond

// gone reports whether any of the names before is not among those after.
func gone(before, after []string) bool {
	there := make(map[string]bool, len(after))
	for _, name := range after {
		there[name] = true
	}
	return slices.ContainsFunc(before, func(name string) bool { return !there[name] })
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

type without struct{}

// Without returns a context in which nothing below these directories of the datastore
// is a root: for asking what would be garbage without it, and for nothing else.
func Without(ctx context.Context, dirs map[string]bool) context.Context {
	return context.WithValue(ctx, without{}, dirs)
}

func (r Roots) each(ctx context.Context, names []string, fn func(gc.Root) error) error {
	left, _ := ctx.Value(without{}).(map[string]bool)
	for _, name := range names {
		rel := strings.TrimPrefix(name, r.Dir+"/")
		if below(left, rel) {
			continue
		}
		if err := fn(&root{fs: r.FS, name: name, rel: rel}); err != nil {
			return err
		}
	}
	return nil
}

func below(dirs map[string]bool, name string) bool {
	for dir := name; len(dirs) > 0 && dir != "."; {
		if dir = path.Dir(dir); dirs[dir] {
			return true
		}
	}
	return false
}

// list returns the names of all index files, in order of the walk.
func (r Roots) list(ctx context.Context) ([]string, error) {
	var names []string
	err := r.walk(ctx, r.Dir, 0, &names)
	return names, err
}

func (r Roots) walk(ctx context.Context, dir string, depth int, names *[]string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("list index files: %s lies too deep; do links go round in a circle?", dir)
	}
	entries, err := r.FS.ReadDir(dir)
	if depth == 0 {
		entries = trashLast(entries)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && depth > 0:
		return nil // forgotten, or moved: the next listing tells
	case errors.Is(err, fs.ErrPermission) && depth == 1 && path.Base(dir) == "lost+found":
		return nil // the file system's, and for root only
	case err != nil:
		return fmt.Errorf("list index files: %w", err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		isDir, err := r.isDir(name, e)
		switch {
		case err != nil:
			return fmt.Errorf("list index files: %w", err)
		case isDir && (depth > 0 || !own[e.Name()]):
			if err := r.walk(ctx, name, depth+1, names); err != nil {
				return err
			}
		case !isDir && IsIndex(e.Name()):
			*names = append(*names, name)
		}
	}
	return nil
}

func trashLast(entries []fs.DirEntry) []fs.DirEntry {
	i := slices.IndexFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "trash" })
	if i < 0 {
		return entries
	}
	return append(slices.Concat(entries[:i], entries[i+1:]), entries[i])
}

// isDir reports whether an entry is a directory, or a link to one. A link that
// leads nowhere may lead to a disk that is not mounted.
func (r Roots) isDir(name string, e fs.DirEntry) (bool, error) {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir(), nil
	}
	info, err := r.FS.Stat(name)
	if err != nil {
		return false, err
	}
	return info.IsDir(), nil
}

// IsIndex reports whether a file counts as an index. Files in the making have
// other names; their chunks are kept by the lease of whoever makes them.
func IsIndex(name string) bool {
	return strings.HasSuffix(name, ".fidx") || strings.HasSuffix(name, ".didx")
}

// File is the index file name, which messages call rel.
func File(fsys disk.FS, name, rel string) gc.Root { return &root{fs: fsys, name: name, rel: rel} }

// A root is one index file.
type root struct {
	fs        disk.FS
	name, rel string
	id        string
	index     chunks.Index
}

// idBytes is how much of an index file's head goes into its ID: magic, UUID,
// creation time and the sum of all that follows.
const idBytes = 80

// ID is the file's name, length and time, and a sum of its head, which has a
// UUID of its own: copying tools restore times, and every index of an image
// has the same length.
func (r *root) ID() string {
	if r.id != "" {
		return r.id
	}
	info, err := r.fs.Stat(r.name)
	if err != nil {
		return r.rel
	}
	f, err := r.fs.OpenFile(r.name, os.O_RDONLY, 0)
	if err != nil {
		return r.rel
	}
	defer f.Close() // it was only read
	head := make([]byte, idBytes)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return r.rel
	}
	r.id = fmt.Sprintf("%s %d %d %016x", r.rel, info.Size(), info.ModTime().UnixNano(), xxhash.Sum64(head[:n]))
	return r.id
}

// Digests calls fn with the digests of the index, in order.
func (r *root) Digests(ctx context.Context, fn func([]chunks.Digest) error) error {
	b, err := disk.ReadFile(r.fs, r.name, chunks.MaxIndex)
	if err != nil {
		return fmt.Errorf("read index %s: %w", r.rel, err)
	}
	if r.index, err = chunks.ParseIndex(b); err != nil {
		return fmt.Errorf("read index %s: %w", r.rel, err)
	}
	batch := make([]chunks.Digest, 0, 1024)
	for _, d := range r.index.All() {
		if batch = append(batch, d); len(batch) < cap(batch) {
			continue
		}
		if err := errors.Join(ctx.Err(), fn(batch)); err != nil {
			return err
		}
		batch = batch[:0]
	}
	if len(batch) == 0 {
		return nil
	}
	return fn(batch)
}

// Size returns the bytes of content that the index describes.
func (r *root) Size() int64 {
	if r.index == nil {
		return 0
	}
	return r.index.Size()
}
