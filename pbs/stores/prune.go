package stores

import (
	"context"
	"fmt"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/stores/logs"
)

// Prune says what is pruned: a group, or a namespace.
type Prune struct {
	Namespace catalog.Namespace
	MaxDepth  *int           // levels below Namespace; nil: all
	Group     *catalog.Group // in Namespace itself
	Keep      catalog.Keep
	DryRun    bool

	// Only, if given, says of which groups of a namespace.
	Only func(catalog.Namespace, catalog.Group) bool
}

func (p Prune) id(store string) string {
	id := store + ":" + string(p.Namespace)
	if p.Group != nil {
		id += ":" + p.Group.String()
	}
	return id
}

// Prune prunes, as a task unless it is only to try, and returns what it
// decided about each snapshot.
func (s *Set) Prune(ctx context.Context, name, auth string, p Prune) (list []catalog.Pruned, err error) {
	d, done, err := s.Use(name, !p.DryRun)
	if err != nil {
		return nil, err
	}
	defer done()
	if p.DryRun {
		opt, err := p.options()
		if err != nil {
			return nil, err
		}
		return d.Prune(ctx, opt)
	}
	_, err = s.cfg.Tasks.Do(ctx, "prune", p.id(name), auth, func(ctx context.Context, t *jobs.Task) error {
		list, err = s.prune(ctx, t, name, p)
		return err
	})
	return list, err
}

// StartPrune begins a prune.
func (s *Set) StartPrune(name, auth string, p Prune) (jobs.UPID, error) {
	return s.start(name, "prune", p.id(name), auth, !p.DryRun, func(ctx context.Context, t *jobs.Task) error {
		_, err := s.prune(ctx, t, name, p)
		return err
	})
}

// pruneJob is the work of a job.
func (s *Set) pruneJob(j settings.PruneJob) func(context.Context, *jobs.Task) error {
	return func(ctx context.Context, t *jobs.Task) error {
		t.Logf("prune job '%s'", j.ID)
		_, err := s.prune(ctx, t, j.Store, Prune{Namespace: j.NS, MaxDepth: j.MaxDepth, Keep: j.Keep})
		return err
	}
}

func (p Prune) options() (catalog.PruneOptions, error) {
	opt := catalog.PruneOptions{Namespace: p.Namespace, Depth: depth(p.MaxDepth), Only: p.Only, Keep: p.Keep, DryRun: p.DryRun}
	if p.Group != nil {
		f, err := naming.ParseFilter("group:" + p.Group.String())
		if err != nil {
			return opt, err
		}
		opt.Depth, opt.Filters = 0, catalog.Filters{f}
	}
	return opt, nil
}

func (s *Set) prune(ctx context.Context, t *jobs.Task, name string, p Prune) ([]catalog.Pruned, error) {
	d, done, err := s.Use(name, !p.DryRun)
	if err != nil {
		return nil, err
	}
	defer done()
	opt, err := p.options()
	if err != nil {
		return nil, err
	}
	t.Logf("Starting prune on %s", logs.Place(name, p.Namespace, p.Group))
	if p.Keep.IsZero() {
		t.Logf("No prune selection - keeping all files.")
	} else {
		t.Logf("retention options: %s", p.Keep)
	}
	if p.DryRun {
		t.Logf("dry run: nothing is removed")
	}
	list, err := d.Prune(ctx, opt)
	logPruned(t, p.DryRun, list)
	return list, err
}

// logPruned writes down what was decided. What could not be removed, though
// the rules do not keep it, deserves a look.
func logPruned(t *jobs.Task, dry bool, list []catalog.Pruned) {
	kept, removed, stuck := 0, 0, 0
	var before catalog.Group
	var ns catalog.Namespace
	for i, p := range list {
		if g := p.Snapshot().Group; i == 0 || g != before || p.Namespace != ns {
			before, ns = g, p.Namespace
			t.Logf("Pruning group %s", logs.Place("", ns, &g)[1:])
		}
		what := p.Snapshot().String() + " "
		switch {
		case p.Keep:
			kept++
			t.Logf("  keep %s%s", what, reason(p.Reason))
		case p.Reason != "" && !dry:
			stuck++
			t.Warnf("  failed to remove %s%s", what, reason(p.Reason))
		default:
			removed++
			t.Logf("  remove %s", what)
		}
	}
	t.Count("kept", int64(kept))
	t.Count("removed", int64(removed))
	t.Logf("%d snapshots kept, %d removed, %d could not be removed", kept, removed, stuck)
}

func reason(text string) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf("(%s)", text)
}
