package tier

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier/filename"
	"github.com/holdfast-mesh/holdfast/catalog/tier/told"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/files"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Refreshed says what a refresh did.
type Refreshed struct {
	Snapshots int      `json:"snapshots"` // in the bucket
	Written   int      `json:"files-written"`
	Removed   int      `json:"files-removed"`
	Requests  Requests `json:"requests"`
}

// Refresh makes the files here those that the bucket has. What it does not have
// yet stays; what it has no more goes, unless the bucket is ours or not all of it can be read. Meanwhile the
// datastore is in maintenance, and readers and writers are waited for.
func (t *Tier) Refresh(ctx context.Context) (r Refreshed, err error) {
	t.closing.Lock()
	defer t.closing.Unlock()
	made := t.Counting()
	defer func() { r.Requests = made() }()
	was := t.d.Settings()
	closed := was
	closed.Maintenance = catalog.Maintenance{Mode: catalog.S3Refresh, Message: "the snapshots of the bucket are being read"}
	if err := t.d.SetSettings(closed); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.d.SetSettings(was)) }()
	for {
		readers, writers := t.d.Active()
		if readers+writers == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("refresh %s: %d readers and %d writers have not ended: %w", t.cfg.Dir, readers, writers, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.work.Lock() // not before: a writer that ends may need it
	defer t.work.Unlock()
	return t.refresh(ctx, t.Writable() != nil)
}

// endRefresh ends the maintenance of a refresh that was killed.
func (t *Tier) endRefresh() error {
	tree := catalog.Tree{FS: t.cfg.FS, Dir: t.cfg.Dir}
	s, err := tree.Settings()
	if err != nil || s.Maintenance.Mode != catalog.S3Refresh {
		return err
	}
	s.Maintenance = catalog.Maintenance{}
	return tree.WriteSettings(s)
}

// refresh is Refresh for whoever holds work, in a datastore that is quiet. With
// drop, what the bucket has no more goes.
func (t *Tier) refresh(ctx context.Context, drop bool) (r Refreshed, err error) {
	if err := t.store.Refresh(ctx); err != nil {
		return r, err
	}
	before, err := t.readTold(ctx)
	if err != nil {
		return r, err
	}
	t.unnamed = nil
	now := map[string]told.File{}
	manifests := map[string][]byte{} // last: with it, a snapshot is there
	err = t.store.EachFile(ctx, func(name string, content []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !filename.Belong(name) {
			t.cfg.Log.Warn("the bucket has a file that is none of a datastore's", "name", name)
			return nil
		}
		now[name] = told.Of(content)
		if path.Base(name) == filename.Manifest {
			manifests[name] = content
			return nil
		}
		return t.bring(name, content, before, &r)
	})
	if err != nil {
		return r, err
	}
	for name, content := range manifests {
		if err := t.bring(name, content, before, &r); err != nil {
			return r, err
		}
	}
	r.Snapshots = len(manifests)
	if drop && t.store.Stats().Doubt == "" { // else it may be there, and not be seen
		if err := t.dropGone(ctx, before, now, &r); err != nil {
			return r, err
		}
	}
	if err := t.cfg.FS.Remove(path.Join(t.cfg.Dir, "listing")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, err // a cache that cannot know
	}
	if err := t.saveTold(now); err != nil {
		return r, err
	}
	return r, t.noted()
}

// bring writes a file of the bucket, unless it is here. What was changed here
// since the bucket was told of it stays.
func (t *Tier) bring(name string, content []byte, before map[string]told.File, r *Refreshed) error {
	full := path.Join(t.cfg.Dir, name)
	here, err := disk.ReadFile(t.cfg.FS, full, files.Max)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if name == "settings.json" || string(here) == string(content) {
			return nil // settings in use are those here
		}
		if was, ok := before[name]; !ok || was.Sum != xxhash.Sum64(here) {
			return nil
		}
	}
	if err := disk.MkdirAll(t.cfg.FS, path.Dir(full), 0o755); err != nil {
		return err
	}
	r.Written++
	return disk.WriteFileAtomic(t.cfg.FS, full, content, 0o644)
}

// dropGone removes what the bucket had and has no more: its owner removed it.
func (t *Tier) dropGone(ctx context.Context, before, now map[string]told.File, r *Refreshed) error {
	var gone []string
	for name := range before {
		if _, ok := now[name]; !ok && filename.Belong(name) && name != "settings.json" && !t.adds(name) {
			gone = append(gone, name)
		}
	}
	// Manifests first: what a crash leaves is then no snapshot.
	slices.SortFunc(gone, func(a, b string) int {
		am, bm := path.Base(a) == filename.Manifest, path.Base(b) == filename.Manifest
		switch {
		case am && !bm:
			return -1
		case bm && !am:
			return 1
		}
		return strings.Compare(a, b)
	})
	for _, name := range gone {
		if err := ctx.Err(); err != nil {
			return err
		}
		full := path.Join(t.cfg.Dir, name)
		if err := t.cfg.FS.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		r.Removed++
		// Directories that are empty now go as well, as far as they are.
		for dir := path.Dir(full); len(dir) > len(t.cfg.Dir) && t.cfg.FS.Remove(dir) == nil; {
			dir = path.Dir(dir)
		}
	}
	return nil
}
