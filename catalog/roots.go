// Package catalog is the vocabulary of backups: what lies in a datastore
// beside its chunks.
//
// So far it knows one thing: which index files a datastore's directory holds,
// and with that which chunks are needed ([Roots]). The directory keeps the
// tree of Proxmox Backup Server, [ns/<namespace>/]<type>/<id>/<time>/, with
// packs/ in the place of .chunks/.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
)

// Roots finds every index file (.fidx, .didx) below a datastore's directory,
// wherever it lies: what somebody put there by hand keeps its chunks as well.
// It implements [gc.Roots].
type Roots struct {
	FS  disk.FS
	Dir string
}

// own are the directories of the store itself.
var own = map[string]bool{"packs": true, "index": true, "gc": true, "lost+found": true}

// Each calls fn for every index file. A directory that cannot be read is an
// error: what is in it might be needed. One that vanishes meanwhile is not.
func (r Roots) Each(ctx context.Context, fn func(gc.Root) error) error {
	return r.walk(ctx, r.Dir, fn)
}

func (r Roots) walk(ctx context.Context, dir string, fn func(gc.Root) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := r.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && dir != r.Dir {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list index files: %w", err)
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case e.IsDir() && (dir != r.Dir || !own[e.Name()]):
			err = r.walk(ctx, name, fn)
		case !e.IsDir() && isIndex(e.Name()):
			err = fn(&root{fs: r.FS, name: name, rel: strings.TrimPrefix(name, r.Dir+"/")})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isIndex reports whether a file counts as an index. Files in the making have
// other names; their chunks are kept by the lease of whoever makes them.
func isIndex(name string) bool {
	return strings.HasSuffix(name, ".fidx") || strings.HasSuffix(name, ".didx")
}

// A root is one index file.
type root struct {
	fs        disk.FS
	name, rel string
	index     chunks.Index
}

// ID is the file's name, length and time: index files are never changed, only
// replaced by renaming.
func (r *root) ID() string {
	info, err := r.fs.Stat(r.name)
	if err != nil {
		return r.rel
	}
	return fmt.Sprintf("%s %d %d", r.rel, info.Size(), info.ModTime().UnixNano())
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
