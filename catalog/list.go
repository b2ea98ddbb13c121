package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/catalog/listing"
	"github.com/holdfast-mesh/holdfast/catalog/manifest"
)

// ListOptions say which snapshots are listed.
type ListOptions struct {
	Namespace Namespace
	Depth     int     // levels of namespaces below; negative: all
	Filters   Filters // groups; none: all
}

// Info describes one snapshot, File one of its archives or blobs.
type (
	Info = listing.Info
	File = listing.File
)

// listingFile is the cache of [Tree.List]. It may be removed at any time.
const listingFile = "listing"

// List describes the snapshots of a namespace and those below it, by
// namespace, group and time, newest first. Groups that have not changed are
// taken from a cache, the file listing, which is written anew if they are many;
// a datastore that cannot be written is listed all the same. Only what is
// changed by hand inside the directory of a snapshot may stay unseen, until
// something in its group changes.
func (t Tree) List(ctx context.Context, opt ListOptions) ([]Info, error) {
	groups, err := t.groups(ctx, opt)
	if err != nil {
		return nil, err
	}
	file := path.Join(t.Dir, listingFile)
	cache := listing.Load(t.FS, file)
	work, inner := errgroup.WithContext(ctx)
	work.SetLimit(4 * runtime.GOMAXPROCS(0)) // waits for the disk more than it computes
	for _, g := range groups {
		work.Go(func() error { return t.fill(inner, g, cache) })
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	cache.Save(t.FS, file, groups)
	n := 0
	for _, g := range groups {
		n += len(g.Infos)
	}
	all := make([]Info, 0, n)
	for _, g := range groups {
		all = append(all, g.Infos...)
	}
	return all, nil
}

// groups returns the groups that opt is about.
func (t Tree) groups(ctx context.Context, opt ListOptions) ([]*listing.Group, error) {
	spaces, err := t.Namespaces(ctx, opt.Namespace, opt.Depth)
	if err != nil {
		return nil, err
	}
	var groups []*listing.Group
	for _, ns := range spaces {
		list, err := t.Groups(ctx, ns)
		if err != nil {
			return nil, err
		}
		for _, g := range list {
			if opt.Filters.Match(g) {
				groups = append(groups, &listing.Group{Namespace: ns, Group: g})
			}
		}
	}
	return groups, nil
}

// fill describes the snapshots of a group, from the cache if it can.
func (t Tree) fill(ctx context.Context, g *listing.Group, cache *listing.Cache) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now()
	info, err := t.FS.Stat(t.groupDir(g.Namespace, g.Group))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed since
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", name(g.Namespace, g.Group), err)
	}
	g.Stamp = listing.StampOf(info)
	if !cache.Find(g) {
		if err := t.read(ctx, g); err != nil {
			return err
		}
		g.Read = now
	}
	owner, _ := t.Owner(g.Namespace, g.Group) // a group without one is listed without one
	for k := range g.Infos {
		g.Infos[k].Owner = owner
	}
	return nil
}

// read describes the snapshots of a group.
func (t Tree) read(ctx context.Context, g *listing.Group) error {
	snaps, err := t.Snapshots(ctx, g.Namespace, g.Group)
	if err != nil {
		return err
	}
	for _, s := range snaps {
		if err := ctx.Err(); err != nil {
			return err
		}
		i, err := t.Describe(g.Namespace, s)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return err
		}
		g.Infos = append(g.Infos, i)
	}
	return nil
}

// Describe describes one snapshot, without its owner. A manifest that cannot
// be read makes it an unfinished one; verification tells what is wrong.
func (t Tree) Describe(ns Namespace, s Snapshot) (Info, error) {
	i := Info{Namespace: ns, Type: s.Type, ID: s.ID, Time: s.Time}
	entries, err := t.FS.ReadDir(t.snapDir(ns, s))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = t.noSnapshot(ns, s)
		}
		return i, fmt.Errorf("describe %s: %w", name(ns, s), err)
	}
	names := make([]string, len(entries))
	for k, e := range entries {
		names[k] = e.Name()
		i.Protected = i.Protected || e.Name() == protectedName
	}
	var m *Manifest
	b, err := t.ReadBlob(ns, s, manifestName)
	if err == nil {
		m, err = manifest.ParseBlob(b)
	}
	if err != nil || m.Snapshot() != s {
		m = nil
	}
	i.Describe(m, uint64(len(b)), names)
	return i, nil
}

// Usage sums up how much a datastore holds and what deduplication saves.
type Usage struct {
	Groups       int     `json:"groups"`
	Snapshots    int     `json:"snapshots"`
	Chunks       int64   `json:"chunks"`        // stored, garbage not counted
	LogicalBytes int64   `json:"logical-bytes"` // of all snapshots, as if each were whole
	StoredBytes  int64   `json:"stored-bytes"`  // what they occupy; garbage not counted
	Factor       float64 `json:"dedup-factor"`  // logical for each stored byte
}

// Usage returns how much the datastore holds. It reads the whole index of
// chunks.
func (d *Datastore) Usage(ctx context.Context) (Usage, error) {
	if err := d.may(reading, "measure the datastore"); err != nil {
		return Usage{}, err
	}
	list, err := d.List(ctx, ListOptions{Depth: -1})
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	last := ""
	for _, i := range list {
		u.Snapshots++
		if g := name(i.Namespace, i.Snapshot().Group); g != last {
			u.Groups++
			last = g
		}
		for _, f := range i.Files {
			if f.Size != nil {
				u.LogicalBytes += int64(*f.Size)
			}
		}
	}
	packs, err := d.chunks.Measure(d.chunks.Condemned())
	if err != nil {
		return Usage{}, fmt.Errorf("measure the chunks: %w", err)
	}
	for _, p := range packs {
		u.StoredBytes += p.LiveBytes
		u.Chunks += int64(p.Entries - p.Dead)
	}
	if u.StoredBytes > 0 {
		u.Factor = float64(u.LogicalBytes) / float64(u.StoredBytes)
	}
	return u, nil
}
