package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// ExportOptions say how [ExportPBS] works. The zero value of a field means its
// default.
type ExportOptions struct {
	Selection
	Compare  bool           // read chunks whose files are there, and replace files of another length; default: what is there and not empty is kept
	Workers  int            // files made durable at the same time, 1 to 64; default 8
	Progress func(Progress) // called at most ten times a second, never twice at once
	FS       disk.FS        // of the target; default: the machine's
}

// ExportPBS writes the finished snapshots of src to the directory dst as a
// datastore of PBS. The directory is made, or is empty or a PBS datastore, and
// then what it has is kept. What is made belongs to the owner of dst if root
// exports, who on a PBS should be "backup".
//
// A snapshot gets its manifest when everything that it names is durable. What
// dst has is not copied again, so an export that was stopped goes on where it
// was. A snapshot that cannot be read is refused, in the report, and so is one
// that dst has with different content; the others are exported. Whether one is
// there is told by its manifest.
//
// A PBS may use dst meanwhile, unless its garbage collection is set to take
// chunks that were not touched for less than a snapshot takes to be written.
//
// ExportPBS fails if dst is something else or cannot be written, or if ctx ends.
func ExportPBS(ctx context.Context, src *catalog.Datastore, dst string, opt ExportOptions) (Report, error) {
	report := Report{Refusals: []Refusal{}}
	err := exportPBS(ctx, src, dst, opt, &report)
	if err != nil {
		err = fmt.Errorf("export to %s: %w", dst, err)
	}
	return report, err
}

func exportPBS(ctx context.Context, src *catalog.Datastore, dst string, opt ExportOptions, report *Report) (err error) {
	opt.Workers = cmp.Or(opt.Workers, defaultReaders)
	if opt.Workers < 1 || opt.Workers > maxReaders {
		return fmt.Errorf("workers is %d, want 1 to %d", opt.Workers, maxReaders)
	}
	if opt.FS == nil {
		if err := disk.MkdirAll(disk.OS{}, dst, dirMode); err != nil {
			return err
		}
		if opt.FS, err = newMachine(dst); err != nil {
			return err
		}
	}
	lock, err := openLayout(ctx, opt.FS, dst)
	if err != nil {
		return err
	}
	e := newExporter(src, dst, opt, report)
	defer func() { err = errors.Join(err, e.close(), lock.Close()) }()
	return e.run(ctx)
}

// An exporter is one run of ExportPBS.
type exporter struct {
	src    *catalog.Datastore
	dst    catalog.Tree
	opt    ExportOptions
	report *Report
	meter  *meter
	writer *chunkWriter
	done   pack.Set // chunks that dst is known to have
}

func newExporter(src *catalog.Datastore, dst string, opt ExportOptions, report *Report) *exporter {
	return &exporter{
		src: src, dst: catalog.Tree{FS: opt.FS, Dir: dst}, opt: opt, report: report,
		meter: &meter{report: opt.Progress},
		writer: &chunkWriter{
			fs: opt.FS, dir: path.Join(dst, chunksDir), temp: path.Join(dst, tempDir),
			workers: opt.Workers, dirty: map[string]bool{},
		},
	}
}

func (e *exporter) close() error {
	e.meter.figures(e.report)
	return errors.Join(e.writer.abandon(), removeTemp(e.opt.FS, e.writer.temp))
}

func (e *exporter) run(ctx context.Context) error {
	plan, err := survey(ctx, e.src.Tree, e.opt.Selection, e.report)
	if err != nil {
		return err
	}
	e.meter.add(func(p *Progress) { p.Snapshots = plan.total })
	for _, ns := range plan.spaces {
		if err := disk.MkdirAll(e.opt.FS, path.Join(e.dst.Dir, ns.Path()), dirMode); err != nil {
			return err
		}
	}
	for _, g := range plan.groups {
		if err := e.group(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) group(ctx context.Context, g groupPlan) error {
	if len(g.snaps) == 0 {
		return nil
	}
	if err := e.owner(g); err != nil {
		if !isSkip(err) {
			return err
		}
		e.report.refuse(g.label(), err)
		e.meter.add(func(p *Progress) { p.Done += len(g.snaps) })
		return nil
	}
	there := false
	for _, s := range g.snaps {
		e.meter.add(func(p *Progress) { p.What = label(g.from, s) })
		err := e.snapshot(ctx, g, s)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			there = true
		case errors.Is(err, errUnfinished):
			e.report.Unfinished++
		case isSkip(err):
			e.report.refuse(label(g.from, s), err)
		default:
			return fmt.Errorf("%s: %w", label(g.from, s), err)
		}
		e.meter.add(func(p *Progress) { p.Done++ })
	}
	if there {
		e.report.Groups++
	}
	return nil
}

// owner makes a group with its owner and its notes. A group that is there must
// be the same person's.
func (e *exporter) owner(g groupPlan) error {
	owner, err := e.src.Owner(g.from, g.group)
	if err != nil {
		return skip{err}
	}
	have, err := e.dst.Owner(g.to, g.group)
	switch {
	case err == nil && have != owner:
		return skip{fmt.Errorf("the group belongs to %s here and to %s there: %w", owner, have, catalog.ErrOwner)}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return skip{err}
	}
	dir := path.Join(e.dst.Dir, g.to.Path(), g.group.Path())
	if err := disk.MkdirAll(e.opt.FS, dir, dirMode); err != nil {
		return err
	}
	notes, err := e.src.GroupNotes(g.from, g.group)
	if err != nil {
		return skip{err}
	}
	old, err := e.dst.GroupNotes(g.to, g.group)
	if err != nil {
		return skip{err}
	}
	if notes != "" && old == "" {
		if err := disk.WriteFileAtomic(e.opt.FS, path.Join(dir, notesName), []byte(notes), 0o644); err != nil {
			return err
		}
	}
	if have == owner {
		return nil
	}
	return disk.WriteFileAtomic(e.opt.FS, path.Join(dir, ownerName), []byte(owner+"\n"), 0o644)
}
