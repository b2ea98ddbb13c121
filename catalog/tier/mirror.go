package tier

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/tier/filename"
	"github.com/holdfast-mesh/holdfast/catalog/tier/told"
	"github.com/holdfast-mesh/holdfast/chunks/cloud/files"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Mirrored says what an offload did with the files of snapshots.
type Mirrored struct {
	Snapshots int `json:"total"`
	Added     int `json:"added"`
	Waiting   int `json:"waiting"` // some of their chunks are not in the bucket yet
	Written   int `json:"files-written"`
	Removed   int `json:"files-removed"`
}

const (
	mirrorFile = "mirror.json"
)

// A mirror is one comparison of the tree with what the bucket was told.
type mirror struct {
	t      *Tier
	told   map[string]told.File
	seen   map[string]bool
	result Mirrored
	dirty  bool
	added  []string // manifests

	put     func(name string, content []byte) error // tells the bucket, with the next root
	remove  func(name string) error
	arrived func(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot, names []string) (bool, error)
}

// newMirror is one that tells the bucket.
func (t *Tier) newMirror(ctx context.Context) (m *mirror, err error) {
	m = &mirror{t: t, seen: map[string]bool{}, put: t.store.PutFile, remove: t.store.RemoveFile, arrived: t.arrived}
	m.told, err = t.readTold(ctx)
	return m, err
}

// mirror tells the bucket what changed in the files of snapshots. It compares
// everything each time, so whatever was missed is found the next time. The
// caller holds work.
func (t *Tier) mirror(ctx context.Context) (Mirrored, error) {
	m, err := t.newMirror(ctx)
	if err != nil {
		return m.result, err
	}
	err = m.run(ctx)
	for _, name := range m.added {
		t.fresh[name] = true
	}
	return m.result, errors.Join(err, m.save())
}

func (m *mirror) save() error {
	if !m.dirty {
		return nil
	}
	return m.t.saveTold(m.told)
}

func (m *mirror) run(ctx context.Context) error {
	tree := m.t.d.Tree
	if err := m.file("settings.json"); err != nil {
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
			if err := m.group(ctx, ns, g); err != nil {
				return err
			}
		}
	}
	for name := range m.told {
		if m.seen[name] {
			continue
		}
		if err := m.remove(name); err != nil {
			return err
		}
		delete(m.told, name)
		m.result.Removed++
		m.dirty = true
	}
	return nil
}

func (m *mirror) group(ctx context.Context, ns catalog.Namespace, g catalog.Group) error {
	for _, name := range []string{"owner", "notes"} {
		if err := m.file(path.Join(ns.Path(), g.Path(), name)); err != nil {
			return err
		}
	}
	snaps, err := m.t.d.Tree.Snapshots(ctx, ns, g)
	if err != nil {
		return err
	}
	for _, s := range snaps {
		if err := m.snapshot(ctx, ns, s); err != nil {
			return fmt.Errorf("tell the bucket of %s: %w", path.Join(ns.Path(), s.Path()), err)
		}
	}
	return nil
}

// snapshot tells of a finished snapshot, the first time only if all its chunks
// are in the bucket. The manifest comes last.
func (m *mirror) snapshot(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot) error {
	dir := path.Join(ns.Path(), s.Path())
	if _, err := m.t.cfg.FS.Stat(path.Join(m.t.cfg.Dir, dir, filename.Manifest)); errors.Is(err, fs.ErrNotExist) {
		return nil // in the making, or just removed
	} else if err != nil {
		return err
	}
	m.result.Snapshots++
	names, err := m.t.d.Tree.Files(ns, s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, known := m.told[path.Join(dir, filename.Manifest)]; !known {
		if there, err := m.arrived(ctx, ns, s, names); err != nil || !there {
			m.result.Waiting++
			return err
		}
		m.result.Added++
		m.added = append(m.added, path.Join(dir, filename.Manifest))
	}
	for _, name := range append(names, ".protected") {
		if name != filename.Manifest {
			if err := m.file(path.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return m.file(path.Join(dir, filename.Manifest))
}

// arrived reports whether the bucket has every chunk of a snapshot.
func (t *Tier) arrived(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot, names []string) (bool, error) {
	for _, name := range names {
		if !strings.HasSuffix(name, ".fidx") && !strings.HasSuffix(name, ".didx") {
			continue
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		x, err := t.d.Tree.ReadIndex(ns, s, name)
		if err != nil {
			t.cfg.Log.Warn("snapshot stays out of the bucket: an index cannot be read", "snapshot", path.Join(ns.Path(), s.Path()), "err", err)
			return false, nil
		}
		for _, d := range x.All() {
			if !t.store.Confirmed(d) {
				return false, nil
			}
		}
	}
	return true, nil
}

// file tells of one file if it is new or has changed. One that is not there is
// not seen.
func (m *mirror) file(name string) error {
	full := path.Join(m.t.cfg.Dir, name)
	info, err := m.t.cfg.FS.Stat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m.seen[name] = true
	is := told.File{Size: info.Size(), Time: info.ModTime().UnixNano()}
	was, known := m.told[name]
	if known && was.Size == is.Size && was.Time == is.Time {
		return nil
	}
	content, err := disk.ReadFile(m.t.cfg.FS, full, files.Max)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the next time tells
	}
	if err != nil {
		return err
	}
	is.Size, is.Sum = int64(len(content)), xxhash.Sum64(content)
	if !known || was.Sum != is.Sum || was.Size != is.Size {
		if err := m.put(name, content); err != nil {
			return err
		}
		m.result.Written++
	}
	m.told[name], m.dirty = is, true
	return nil
}

// readTold returns what the bucket was told of; if that is lost, what it has.
func (t *Tier) readTold(ctx context.Context) (map[string]told.File, error) {
	all, err := told.Read(t.cfg.FS, t.cfg.at(mirrorFile))
	if all != nil || err != nil {
		return all, err
	}
	all = map[string]told.File{}
	err = t.store.EachFile(ctx, func(name string, content []byte) error {
		all[name] = told.Of(content)
		return nil
	})
	return all, err
}

func (t *Tier) saveTold(all map[string]told.File) error {
	return told.Save(t.cfg.FS, t.cfg.at(mirrorFile), all)
}
