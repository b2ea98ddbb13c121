package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync/atomic"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// ImportOptions say how [ImportPBS] works. The zero value of a field means its
// default.
type ImportOptions struct {
	Selection
	Owner    string         // of groups whose owner cannot be read; default: such groups are refused
	Workers  int            // chunk files read and checked at the same time, 1 to 64; default 8
	Progress func(Progress) // called at most ten times a second, never twice at once
	FS       disk.FS        // of the source; default: the machine's
}

func (o ImportOptions) withDefaults() (ImportOptions, error) {
	o.Workers = cmp.Or(o.Workers, defaultReaders)
	if o.FS == nil {
		o.FS = disk.OS{}
	}
	if o.Workers < 1 || o.Workers > maxReaders {
		return o, fmt.Errorf("import: workers is %d, want 1 to %d", o.Workers, maxReaders)
	}
	if o.Owner != "" {
		return o, naming.CheckAuthID(o.Owner)
	}
	return o, nil
}

// ImportPBS copies the backups of the PBS datastore in the directory src to
// dst: namespaces, groups with owner and notes, and finished snapshots with
// everything that their manifests name, the client's log, and protection.
// Groups without a snapshot are left out.
// Nothing is written to src, which may be mounted read-only and in use by a PBS.
//
// Every chunk is checked before it is stored: its sum and, unless it is
// encrypted, its content against its digest. A snapshot with anything missing
// or damaged is refused, in the report, and the others are imported.
//
// What dst has is neither copied nor read again, so an import that was stopped
// goes on where it was, and one that is repeated takes what is new. A snapshot
// in dst with the same content is left as it is, with its notes.
//
// ImportPBS fails if src is no PBS datastore, if dst cannot be written, or if
// ctx ends.
func ImportPBS(ctx context.Context, dst *catalog.Datastore, src string, opt ImportOptions) (Report, error) {
	report := Report{Refusals: []Refusal{}}
	opt, err := opt.withDefaults()
	if err != nil {
		return report, err
	}
	pbs, err := OpenPBS(opt.FS, src)
	if err != nil {
		return report, err
	}
	pbs.chunks.readers = opt.Workers
	i := &importer{src: pbs, dst: dst, opt: opt, report: &report, meter: &meter{report: opt.Progress}}
	err = i.run(ctx)
	i.meter.figures(&report)
	if err != nil {
		return report, fmt.Errorf("import %s: %w", pbs.chunks, err)
	}
	return report, nil
}

// An importer is one run of ImportPBS.
type importer struct {
	src    *PBS
	dst    *catalog.Datastore
	opt    ImportOptions
	report *Report
	meter  *meter
}

func (i *importer) run(ctx context.Context) error {
	plan, err := survey(ctx, i.src.Tree, i.opt.Selection, i.report)
	if err != nil {
		return err
	}
	i.meter.add(func(p *Progress) { p.Snapshots = plan.total })
	for _, ns := range plan.spaces {
		if err := i.dst.CreateNamespace(ns); err != nil {
			return err
		}
	}
	for _, g := range plan.groups {
		if err := i.group(ctx, g); err != nil {
			return err
		}
	}
	return i.countBad(ctx)
}

func (i *importer) group(ctx context.Context, g groupPlan) error {
	owner, err := i.src.Owner(g.from, g.group)
	if err != nil {
		if owner = i.opt.Owner; owner == "" {
			i.report.refuse(g.label(), err)
			i.meter.add(func(p *Progress) { p.Done += len(g.snaps) })
			return ctx.Err()
		}
	}
	there := false
	for _, s := range g.snaps {
		i.meter.add(func(p *Progress) { p.What = label(g.from, s) })
		err := i.snapshot(ctx, g, s, owner)
		if err := i.settle(ctx, g, s, err); err != nil {
			return err
		}
		there = there || err == nil
		i.meter.add(func(p *Progress) { p.Done++ })
	}
	if !there {
		return nil
	}
	i.report.Groups++
	return i.groupNotes(g)
}

// settle decides what an error means: that a snapshot is refused, that
// somebody removed it while it was read, or that the import cannot go on.
func (i *importer) settle(ctx context.Context, g groupPlan, s catalog.Snapshot, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		return nil
	case !isSkip(err):
		return fmt.Errorf("%s: %w", label(g.from, s), err)
	}
	_, gone := i.src.FS.Stat(path.Join(i.src.Dir, g.from.Path(), s.Path()))
	switch {
	case errors.Is(gone, fs.ErrNotExist):
		i.report.Vanished++
	case errors.Is(err, errUnfinished):
		i.report.Unfinished++
	default:
		i.report.refuse(label(g.from, s), err)
	}
	return nil
}

// groupNotes takes the notes of a group over, unless it has some already.
func (i *importer) groupNotes(g groupPlan) error {
	notes, err := i.src.GroupNotes(g.from, g.group)
	if err != nil {
		i.report.refuse("notes of "+g.label(), err)
		return nil
	}
	have, err := i.dst.GroupNotes(g.to, g.group)
	if err != nil || have != "" || notes == "" {
		return err
	}
	return i.dst.SetGroupNotes(g.to, g.group, notes)
}

// countBad counts the chunks that PBS found damaged and set aside.
func (i *importer) countBad(ctx context.Context) error {
	dirs, err := i.src.FS.ReadDir(i.src.chunks.dir)
	if err != nil {
		return err
	}
	var bad atomic.Int64
	err = i.src.chunks.each(ctx, len(dirs), func(_ context.Context, k int) error {
		if len(dirs[k].Name()) != prefixDigits {
			return nil
		}
		entries, err := i.src.FS.ReadDir(path.Join(i.src.chunks.dir, dirs[k].Name()))
		if err != nil {
			return nil // not worth failing for: those that are needed were read
		}
		for _, e := range entries {
			if isBad(e.Name()) {
				bad.Add(1)
			}
		}
		return nil
	})
	i.report.BadChunks = bad.Load()
	return err
}
