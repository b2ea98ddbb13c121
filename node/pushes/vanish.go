package pushes

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/holdfast-mesh/holdfast/catalog/listing"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/pbs/client"
)

// A place is a group in a namespace there.
type place struct {
	ns naming.Namespace
	naming.Group
}

// vanished are the snapshots of a group there that are not here any more, whether the
// job is about them or not: one that fails its verification here is not a reason to
// remove the copy. What is protected there stays, and what is being made.
func (g *group) vanished() (all []listing.Info) {
	for _, t := range g.there {
		if !g.here[t.Time] && removable(t) {
			all = append(all, t)
		}
	}
	return all
}

func removable(i listing.Info) bool { return !i.Protected && i.Finished() }

// removeSnapshots removes there what has vanished here from a group.
func (p *push) removeSnapshots(ctx context.Context, g *group) error {
	for _, t := range g.vanished() {
		if err := p.Remote.Forget(ctx, g.to, t.Snapshot()); err != nil {
			return err
		}
		p.removed("removed %s there: it is not here any more", t.Snapshot(), 1)
	}
	return nil
}

func (p *push) removed(format string, what any, n int) {
	p.mu.Lock()
	p.report.Removed += n
	p.mu.Unlock()
	p.Printf(format, what)
}

// A gone group is one that is there and not here any more.
type gone struct {
	place
	all []listing.Info // that go
}

// vanish finds out what is there and not here any more: groups that the job is about
// and that belong to its user, in namespaces where it has pushed or that are not here
// any more; and those of these namespaces that are empty then, the innermost first.
// One that has had nothing of this user is not his. There is nothing if there is
// nothing here: more likely this is not the right datastore.
func (p *push) vanish(ctx context.Context, groups []*group) (all []gone, spaces []naming.Namespace) {
	if len(groups) == 0 {
		p.Warnf("%v", errEmpty)
		return nil, nil
	}
	old, err := p.goneSpaces(ctx)
	if err != nil {
		p.fail("list namespaces: %v", err)
	}
	look := slices.Clone(old)
	for _, g := range groups {
		if p.known[g.to] && !slices.Contains(look, g.to) {
			look = append(look, g.to)
		}
	}
	stays := map[naming.Namespace]bool{}
	had := map[naming.Namespace]bool{} // something of this user
	for _, ns := range look {
		list, more, err := p.goneGroups(ctx, ns)
		if err != nil {
			p.fail("list groups of '%s' there: %v", ns, err)
		}
		all = append(all, list...)
		stays[ns], had[ns] = more || err != nil, len(list) > 0
	}
	slices.SortFunc(all, func(a, b gone) int {
		return cmp.Or(cmp.Compare(a.ns, b.ns), cmp.Compare(a.Group.String(), b.Group.String()))
	})
	for _, ns := range old {
		if !stays[ns] && had[ns] && p.mayRemove(ns) && p.bare(ns, spaces) {
			spaces = append(spaces, ns)
			up, _ := ns.Parent()
			had[up] = true
		}
	}
	return all, spaces
}

// bare tells whether a namespace there has none below it but those that go.
func (p *push) bare(ns naming.Namespace, gone []naming.Namespace) bool {
	for below := range p.known {
		if below != ns && ns.Contains(below) && !slices.Contains(gone, below) {
			return false
		}
	}
	return true
}

// goneSpaces are the namespaces there that the job is about and that are not here, the
// innermost first.
func (p *push) goneSpaces(ctx context.Context) (all []naming.Namespace, err error) {
	j, depth := p.Job, -1
	if j.MaxDepth != nil {
		depth = *j.MaxDepth
	}
	mine, err := p.Local.Namespaces(ctx, j.NS, depth)
	if err != nil {
		return nil, err
	}
	here := map[naming.Namespace]bool{}
	for _, ns := range mine {
		to, err := ns.Map(j.NS, j.RemoteNS)
		if err != nil {
			return nil, err
		}
		here[to] = true
	}
	for ns := range p.known {
		below := j.RemoteNS.Contains(ns) && ns != j.RemoteNS
		if below && !here[ns] && (depth < 0 || ns.Depth()-j.RemoteNS.Depth() <= depth) {
			all = append(all, ns)
		}
	}
	slices.SortFunc(all, func(a, b naming.Namespace) int {
		return cmp.Or(b.Depth()-a.Depth(), cmp.Compare(a, b))
	})
	return all, nil
}

// goneGroups are those of a namespace there. stays tells whether there is something
// else in it.
func (p *push) goneGroups(ctx context.Context, ns naming.Namespace) (all []gone, stays bool, err error) {
	there, err := p.Remote.Groups(ctx, ns)
	if err != nil {
		return nil, true, err
	}
	for _, t := range there {
		at := place{ns, t.Group()}
		if p.here[at] || t.Owner != p.User || !p.filters.Match(t.Group()) {
			stays = true
			continue
		}
		list, err := p.Remote.Snapshots(ctx, ns, t.Group())
		if err != nil {
			return all, true, err
		}
		goes := slices.DeleteFunc(slices.Clone(list), func(i listing.Info) bool { return !removable(i) })
		stays = stays || len(goes) < len(list)
		all = append(all, gone{at, goes})
	}
	return all, stays, nil
}

func (p *push) mayRemove(ns naming.Namespace) bool { return p.MayRemove == nil || p.MayRemove(ns) }

// removeVanished removes there what is not here any more.
func (p *push) removeVanished(ctx context.Context, groups []*group) {
	all, spaces := p.vanish(ctx, groups)
	for _, g := range all {
		if err := p.removeGroup(ctx, g, slices.Contains(spaces, g.ns)); err != nil {
			p.fail("remove group %s there: %v", g.Group, err)
		}
	}
	for _, ns := range spaces {
		if err := p.Remote.DeleteNamespace(ctx, ns, false); err != nil {
			p.fail("remove namespace '%s' there: %v", ns, err)
			continue
		}
		p.Printf("removed namespace '%s' there: it is not here any more", ns)
	}
}

// removeGroup removes what goes of a group, and with whole what is left of it then: a
// server may keep who had it.
func (p *push) removeGroup(ctx context.Context, g gone, whole bool) error {
	for _, s := range g.all {
		if err := p.Remote.Forget(ctx, g.ns, s.Snapshot()); err != nil {
			return err
		}
		p.removed("removed %s there: its group is not here any more", s.Snapshot(), 1)
	}
	if !whole {
		return nil
	}
	err := p.Remote.ForgetGroup(ctx, g.ns, g.Group)
	if refused := (*client.APIError)(nil); errors.As(err, &refused) {
		return nil // it was gone with its last snapshot
	}
	return err
}
