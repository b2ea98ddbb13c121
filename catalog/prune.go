package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog/retention"
)

// PruneOptions say what Prune removes.
type PruneOptions struct {
	Namespace Namespace
	Depth     int                         // levels of namespaces below; negative: all
	Filters   Filters                     // groups; none: all
	Only      func(Namespace, Group) bool // of these groups, those that it says; nil: all
	Keep      Keep
	Location  *time.Location // in which days begin; default: the machine's
	DryRun    bool
}

// A Pruned is what a prune decided about one snapshot, in the JSON of PBS.
type Pruned struct {
	Namespace Namespace      `json:"ns,omitempty"`
	Type      Type           `json:"backup-type"`
	ID        string         `json:"backup-id"`
	Time      int64          `json:"backup-time"`
	Keep      bool           `json:"keep"`
	Protected bool           `json:"protected"`
	Mark      retention.Mark `json:"mark"`
	Reason    string         `json:"reason,omitempty"` // the rule, the guard, or why it could not be removed
}

// Snapshot returns which snapshot it is about.
func (p Pruned) Snapshot() Snapshot {
	return Snapshot{Group: Group{Type: p.Type, ID: p.ID}, Time: p.Time}
}

// Prune moves to the trash what the rules do not keep (PBS protocol notes
// §8.3), oldest first, and returns every decision in that order, by group. One
// that is in use stays, and its Reason says so. Without any rule all is kept.
func (d *Datastore) Prune(ctx context.Context, opt PruneOptions) ([]Pruned, error) {
	if err := d.may(access(!opt.DryRun), "prune"); err != nil {
		return nil, err
	}
	if err := opt.Keep.Check(); err != nil {
		return nil, err
	}
	spaces, err := d.Namespaces(ctx, opt.Namespace, opt.Depth)
	if err != nil {
		return nil, err
	}
	all := []Pruned{}
	for _, ns := range spaces {
		groups, err := d.Groups(ctx, ns)
		if err != nil {
			return all, err
		}
		for _, g := range groups {
			if !opt.Filters.Match(g) || opt.Only != nil && !opt.Only(ns, g) {
				continue
			}
			plan, err := d.planPrune(ctx, ns, g, opt)
			if err != nil {
				return all, fmt.Errorf("prune %s: %w", name(ns, g), err)
			}
			if !opt.DryRun {
				err = d.carryOut(ctx, ns, plan)
			}
			if all = append(all, plan...); err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

// planPrune decides about the snapshots of a group.
func (d *Datastore) planPrune(ctx context.Context, ns Namespace, g Group, opt PruneOptions) ([]Pruned, error) {
	snaps, err := d.Snapshots(ctx, ns, g)
	if err != nil {
		return nil, err
	}
	backups := make([]retention.Backup, len(snaps))
	for i, s := range snaps {
		on, err := d.Protected(ns, s)
		if err != nil {
			return nil, err
		}
		_, err = d.FS.Stat(path.Join(d.snapDir(ns, s), manifestName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		backups[i] = retention.Backup{Time: s.Time, Finished: err == nil, Protected: on}
	}
	loc := opt.Location
	if loc == nil {
		loc = time.Local
	}
	plan := make([]Pruned, 0, len(snaps))
	for _, r := range retention.Plan(backups, opt.Keep, loc) {
		p := Pruned{ns, g.Type, g.ID, r.Time, r.Keep(), r.Protected, r.Mark, r.Rule}
		if why := d.Forbids(ns, p.Snapshot()); !p.Keep && r.Finished && why != "" {
			p.Keep, p.Reason = true, "guard: "+why
		}
		plan = append(plan, p)
	}
	slices.Reverse(plan)
	return plan, nil
}

// carryOut removes what a plan does not keep.
func (d *Datastore) carryOut(ctx context.Context, ns Namespace, plan []Pruned) error {
	for i := range plan {
		p := &plan[i]
		if p.Keep {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := d.Forget(ctx, ns, p.Snapshot())
		switch {
		case err == nil:
		case stays(err), errors.Is(err, fs.ErrNotExist):
			p.Reason = err.Error()
			d.log.Warn("snapshot is not pruned", "snapshot", name(ns, p.Snapshot()), "err", err)
		default:
			return err
		}
	}
	return nil
}
