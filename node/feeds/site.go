package feeds

import (
	"context"
	"crypto/sha256"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/pbs/stores"
)

func clean(s string) string { return facts.Clean(s) }

// Here is the Site of a node: its datastores and its tasks.
type Here struct {
	Set   *stores.Set
	Tasks *jobs.Manager
}

// Stores returns how the datastores are.
func (h Here) Stores() (all []facts.Kept) {
	for _, name := range h.Set.Names() {
		all = append(all, h.kept(name))
	}
	return all
}

func (h Here) kept(name string) facts.Kept {
	k := facts.Kept{Store: name}
	d, done, err := h.Set.Use(name, false)
	if err != nil {
		k.State = clean(err.Error())
		return k
	}
	defer done()
	k.Damaged = uint64(d.Chunks().Quarantined().Len())
	if space, err := h.Set.Room(name); err == nil { // else it is not known, and 0
		k.Size, k.Free = uint64(space.TotalBytes), uint64(space.FreeBytes)
	}
	return k
}

// List returns the snapshots of a datastore.
func (h Here) List(ctx context.Context, store string, only *Group) ([]catalog.Info, error) {
	d, done, err := h.Set.Use(store, false)
	if err != nil {
		return nil, err
	}
	defer done()
	if only == nil {
		return d.List(ctx, catalog.ListOptions{Depth: -1})
	}
	if has, err := d.HasNamespace(only.Namespace); err != nil || !has {
		return nil, err
	}
	snaps, err := d.Snapshots(ctx, only.Namespace, only.Group)
	if err != nil {
		return nil, err
	}
	all := make([]catalog.Info, 0, len(snaps))
	for _, s := range snaps {
		i, err := d.Describe(only.Namespace, s)
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, nil
}

// Sum returns the SHA-256 of what is signed of a manifest: that of every copy
// is the same.
func (h Here) Sum(store string, i catalog.Info) (sum [32]byte, err error) {
	d, done, err := h.Set.Use(store, false)
	if err != nil {
		return sum, err
	}
	defer done()
	m, err := d.Manifest(i.Namespace, i.Snapshot())
	if err != nil {
		return sum, err
	}
	b, err := m.Canonical()
	return sha256.Sum256(b), err
}

// Removed returns what is in the trash of a datastore.
func (h Here) Removed(store string) ([]catalog.Trashed, error) {
	d, done, err := h.Set.Use(store, false)
	if err != nil {
		return nil, err
	}
	defer done()
	return d.Trash()
}

// Ended returns the tasks that are remembered.
func (h Here) Ended() []jobs.Info {
	list, _ := h.Tasks.List(jobs.Filter{})
	return list
}
