package verify

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/upid"
)

// A target is a snapshot to be verified.
type target struct {
	ns   catalog.Namespace
	snap catalog.Snapshot
}

func (t target) String() string {
	if t.ns == "" {
		return t.snap.String()
	}
	return string(t.ns) + ":" + t.snap.String()
}

// benchmark is the group that speed tests write to; it is never verified.
var benchmark = catalog.Group{Type: "host", ID: "benchmark"}

// targets lists what the options choose, by namespace and group, newest first.
func (v *Verifier) targets(ctx context.Context) ([]target, error) {
	if s := v.opt.Snapshot; s != nil {
		return []target{{v.opt.Namespace, *s}}, nil
	}
	if g := v.opt.Group; g != nil {
		list, err := v.groupTargets(ctx, nil, v.opt.Namespace, *g)
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("verify group %s: it has no snapshots: %w", g, fs.ErrNotExist)
		}
		return list, err
	}
	spaces, err := v.d.Namespaces(ctx, v.opt.Namespace, v.opt.Depth)
	if err != nil {
		return nil, err
	}
	var list []target
	for _, ns := range spaces {
		groups, err := v.d.Groups(ctx, ns)
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			if g == benchmark || !v.opt.Filters.Match(g) || v.opt.Only != nil && !v.opt.Only(ns, g) {
				continue
			}
			if list, err = v.groupTargets(ctx, list, ns, g); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

func (v *Verifier) groupTargets(ctx context.Context, list []target, ns catalog.Namespace, g catalog.Group) ([]target, error) {
	snaps, err := v.d.Snapshots(ctx, ns, g)
	for _, s := range snaps {
		list = append(list, target{ns, s})
	}
	return list, err
}

// isRecent reports whether a snapshot need not be verified again: §9.4 counts
// whole days, and skips a state of failure like the other.
func (o Options) isRecent(m *catalog.Manifest) bool {
	state, ok := m.VerifyState()
	if !o.IgnoreVerified || !ok {
		return false
	}
	task, err := upid.Parse(state.UPID)
	if err != nil {
		return false // nobody can say when that was
	}
	days := int(o.Now().Sub(task.Time()) / (24 * time.Hour))
	return o.OutdatedAfter == 0 || days <= o.OutdatedAfter
}

// A Planned is a snapshot that a run would look at.
type Planned struct {
	Namespace catalog.Namespace
	Snapshot  catalog.Snapshot
	Skip      bool   // it was verified not long ago
	Size      uint64 // as its manifest says
}

// Plan returns what Run would verify now. Nothing is read but manifests.
func Plan(ctx context.Context, d *catalog.Datastore, opt Options) (list []Planned, err error) {
	v, err := New(d, opt)
	if err != nil {
		return nil, err
	}
	all, err := v.targets(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		r, err := d.OpenSnapshot(ctx, t.ns, t.snap)
		if err != nil {
			continue // it is being made, or has just gone
		}
		p := Planned{Namespace: t.ns, Snapshot: t.snap, Skip: v.opt.isRecent(r.Manifest())}
		for _, f := range r.Manifest().Files {
			p.Size += f.Size
		}
		list = append(list, p)
		r.Close()
	}
	return list, ctx.Err()
}
