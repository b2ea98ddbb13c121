// Package order sorts chunks as restores will ask for them.
package order

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

const (
	// maxOrdered is how many chunks are put in order: more would take more
	// than some 400 MB of memory while that is done.
	maxOrdered = 4 << 20

	// enough is which share of them may stay without a place, a tenth: what
	// was left by backups that failed is in no snapshot.
	enough = 10

	unplaced = math.MaxInt
)

// An order gives chunks the places in which restores will ask for them.
type order struct {
	tree  catalog.Tree
	place map[chunks.Digest]int
	next  int
}

// Sort sorts chunks of a datastore that go to the bucket: guests that are backed up at the same
// time come to lie chunk by chunk among each other on the disk, and a restore of
// one of them would need a request for each. In the bucket the chunks of an
// archive lie one behind the other, as its newest snapshot has them.
func Sort(ctx context.Context, tree catalog.Tree, entries []pack.Entry) error {
	if len(entries) < 2 || len(entries) > maxOrdered {
		return nil
	}
	o := order{tree: tree, place: make(map[chunks.Digest]int, len(entries))}
	for _, e := range entries {
		o.place[e.Digest] = unplaced
	}
	if err := o.groups(ctx, func(all []catalog.Snapshot) []catalog.Snapshot { return all[:1] }); err != nil {
		return err
	}
	if (len(entries)-o.next)*enough > len(entries) { // much of it is in older ones only
		if err := o.groups(ctx, func(all []catalog.Snapshot) []catalog.Snapshot { return all[1:] }); err != nil {
			return err
		}
	}
	slices.SortStableFunc(entries, func(a, b pack.Entry) int { return cmp.Compare(o.place[a.Digest], o.place[b.Digest]) })
	return nil
}

// groups gives places to the chunks of some snapshots of every group, of which
// choose gets all, newest first.
func (o *order) groups(ctx context.Context, choose func([]catalog.Snapshot) []catalog.Snapshot) error {
	spaces, err := o.tree.Namespaces(ctx, "", -1)
	if err != nil {
		return err
	}
	for _, ns := range spaces {
		groups, err := o.tree.Groups(ctx, ns)
		if err != nil {
			return err
		}
		for _, g := range groups {
			snaps, err := o.tree.Snapshots(ctx, ns, g)
			if err != nil {
				return err
			}
			if len(snaps) == 0 {
				continue
			}
			slices.SortFunc(snaps, func(a, b catalog.Snapshot) int { return cmp.Compare(b.Time, a.Time) })
			for _, s := range choose(snaps) {
				if err := o.snapshot(ctx, ns, s); err != nil || o.next == len(o.place) {
					return err
				}
			}
		}
	}
	return nil
}

// snapshot gives the next places to the chunks of a snapshot. One that cannot be
// read has no say: whoever needs it will complain.
func (o *order) snapshot(ctx context.Context, ns catalog.Namespace, s catalog.Snapshot) error {
	names, err := o.tree.Files(ns, s)
	if err != nil {
		return ctx.Err()
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".fidx") && !strings.HasSuffix(name, ".didx") {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		x, err := o.tree.ReadIndex(ns, s, name)
		if err != nil {
			continue
		}
		for _, d := range x.All() {
			if at, ours := o.place[d]; ours && at == unplaced {
				o.place[d] = o.next
				o.next++
			}
		}
	}
	return nil
}
