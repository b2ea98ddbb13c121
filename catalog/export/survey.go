package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
)

// A Selection says what is copied, and where to.
type Selection struct {
	From    catalog.Namespace // this namespace and all below it
	To      catalog.Namespace // where From is found afterwards
	Filters catalog.Filters   // groups; none: all
}

// A plan is what is there to copy.
type plan struct {
	spaces []catalog.Namespace // at the target, parents first
	groups []groupPlan
	total  int // snapshots
}

// A groupPlan is one group to copy.
type groupPlan struct {
	from, to catalog.Namespace
	group    catalog.Group
	snaps    []catalog.Snapshot // oldest first, so that each has its base
}

func (g *groupPlan) label() string { return label(g.from, g.group) }

// A surveyor makes a plan. Names that nobody could address are refused: what
// lies there is no backup, or one that somebody renamed.
type surveyor struct {
	tree   catalog.Tree
	sel    Selection
	report *Report
	plan   plan
}

func survey(ctx context.Context, tree catalog.Tree, sel Selection, report *Report) (plan, error) {
	s := &surveyor{tree: tree, sel: sel, report: report}
	for _, ns := range []catalog.Namespace{sel.From, sel.To} {
		if _, err := naming.ParseNamespace(string(ns)); err != nil {
			return plan{}, err
		}
	}
	spaces, err := tree.Namespaces(ctx, sel.From, -1)
	if err != nil {
		return plan{}, err
	}
	for ns := sel.To; ns != ""; ns, _ = ns.Parent() {
		s.plan.spaces = append(s.plan.spaces, ns)
	}
	slices.Reverse(s.plan.spaces)
	for _, ns := range spaces {
		if err := s.namespace(ctx, ns); err != nil {
			return plan{}, fmt.Errorf("look for backups in %s: %w", tree.Dir, err)
		}
	}
	return s.plan, nil
}

func (s *surveyor) namespace(ctx context.Context, ns catalog.Namespace) error {
	to, err := ns.Map(s.sel.From, s.sel.To)
	if err != nil {
		s.report.refuse(fmt.Sprintf("namespace %s", ns), err)
		return nil
	}
	if ns != s.sel.From {
		s.plan.spaces = append(s.plan.spaces, to)
	}
	dir := path.Join(s.tree.Dir, ns.Path())
	if err := s.names(path.Join(dir, "ns"), func(name string) error { _, err := ns.Child(name); return err }); err != nil {
		return err
	}
	for _, typ := range []catalog.Type{naming.CT, naming.Host, naming.VM} {
		if err := s.names(path.Join(dir, string(typ)), naming.CheckID); err != nil {
			return err
		}
	}
	groups, err := s.tree.Groups(ctx, ns)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if !s.sel.Filters.Match(g) {
			continue
		}
		if err := s.group(ctx, groupPlan{from: ns, to: to, group: g}); err != nil {
			return err
		}
	}
	return nil
}

func (s *surveyor) group(ctx context.Context, g groupPlan) error {
	dir := path.Join(s.tree.Dir, g.from.Path(), g.group.Path())
	err := s.names(dir, func(name string) error { _, err := naming.ParseTime(name); return err })
	if err != nil {
		return err
	}
	if g.snaps, err = s.tree.Snapshots(ctx, g.from, g.group); err != nil {
		return err
	}
	slices.Reverse(g.snaps)
	s.plan.groups = append(s.plan.groups, g)
	s.plan.total += len(g.snaps)
	return nil
}

// names refuses the directories in dir whose names do not pass check. Hidden
// ones are left alone: they hold no backups, by convention.
func (s *surveyor) names(dir string, check func(string) error) error {
	entries, err := s.tree.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name()[0] == '.' {
			continue
		}
		if err := check(e.Name()); err != nil {
			s.report.refuse(path.Join(dir, e.Name()), err)
		}
	}
	return nil
}
