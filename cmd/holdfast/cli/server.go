package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/archive"
	"github.com/holdfast-mesh/holdfast/catalog/retention"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

// A server is a datastore of a PBS, or of a node of ours.
type server struct{ *client.Client }

func (s *server) Close() error {
	s.Client.Close()
	return nil
}

func (s *server) List(ctx context.Context, opt catalog.ListOptions) ([]catalog.Info, error) {
	spaces := []catalog.Namespace{opt.Namespace}
	if opt.Depth != 0 {
		var err error
		if spaces, err = s.Namespaces(ctx, opt.Namespace, opt.Depth); err != nil {
			return nil, err
		}
	}
	slices.Sort(spaces)
	var list []catalog.Info
	for _, ns := range spaces {
		found, err := s.Snapshots(ctx, ns, catalog.Group{})
		if err != nil {
			return nil, err
		}
		slices.SortFunc(found, func(a, b catalog.Info) int {
			return cmp.Or(a.Snapshot().Group.Compare(b.Snapshot().Group), cmp.Compare(b.Time, a.Time))
		})
		for _, i := range found {
			if len(opt.Filters) == 0 || opt.Filters.Match(i.Snapshot().Group) {
				list = append(list, i)
			}
		}
	}
	return list, nil
}

func (s *server) Describe(ctx context.Context, ns catalog.Namespace, snap catalog.Snapshot) (catalog.Info, error) {
	list, err := s.Snapshots(ctx, ns, snap.Group)
	if err != nil {
		return catalog.Info{}, err
	}
	for _, i := range list {
		if i.Snapshot() == snap {
			return i, nil
		}
	}
	return catalog.Info{}, hinted{fmt.Errorf("snapshot %s: %w", snap, os.ErrNotExist), "snapshots are listed by: holdfast snapshot list"}
}

func (s *server) Open(ctx context.Context, ns catalog.Namespace, snap catalog.Snapshot) (Origin, error) {
	return s.OpenSnapshot(ctx, ns, snap)
}

func (s *server) RemoveNamespace(ctx context.Context, ns catalog.Namespace, groups bool) error {
	return s.DeleteNamespace(ctx, ns, groups)
}

// Prune prunes group by group, as the server offers it.
func (s *server) Prune(ctx context.Context, opt catalog.PruneOptions) ([]catalog.Pruned, error) {
	spaces := []catalog.Namespace{opt.Namespace}
	if opt.Depth != 0 {
		var err error
		if spaces, err = s.Namespaces(ctx, opt.Namespace, opt.Depth); err != nil {
			return nil, err
		}
	}
	plan := []catalog.Pruned{}
	for _, ns := range spaces {
		groups, err := s.Groups(ctx, ns)
		if err != nil {
			return plan, err
		}
		for _, g := range groups {
			if len(opt.Filters) > 0 && !opt.Filters.Match(g.Group()) {
				continue
			}
			done, err := s.Client.Prune(ctx, ns, g.Group(), opt.Keep, opt.DryRun)
			if err != nil {
				return plan, err
			}
			for _, p := range done {
				plan = append(plan, catalog.Pruned{Namespace: ns, Type: p.Type, ID: p.ID, Time: p.Time, Keep: p.Keep, Protected: p.Protected, Mark: mark(p)})
			}
		}
	}
	return plan, nil
}

// mark says why a snapshot is kept, as far as a server tells.
func mark(p client.Pruned) retention.Mark {
	switch {
	case p.Protected:
		return retention.MarkProtected
	case p.Keep:
		return retention.MarkKeep
	}
	return retention.MarkRemove
}

func (s *server) Begin(ctx context.Context, ns catalog.Namespace, snap catalog.Snapshot, _ string, key *chunks.Key) (Target, error) {
	b, err := s.Client.Begin(ctx, ns, snap, key)
	if err != nil {
		return nil, err
	}
	return serverTarget{b}, nil
}

// serverTarget gives a backup an Abort that returns an error.
type serverTarget struct{ *client.Backup }

func (t serverTarget) Abort() error {
	t.Backup.Abort()
	return nil
}

var (
	_ archive.Target = serverTarget{}
	_ Store          = (*server)(nil)
	_ Store          = (*dirStore)(nil)
)
