package node

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/catalog/naming"
	"github.com/holdfast-mesh/holdfast/chunks/disk"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/notices"
	"github.com/holdfast-mesh/holdfast/node/peers"
	"github.com/holdfast-mesh/holdfast/pbs/secrets"
)

// openNotices opens what tells people.
func (n *Node) openNotices() (err error) {
	if n.secrets, err = secrets.Open(n.cfg.at(secretsFile)); err != nil {
		return err
	}
	n.notices, err = notices.New(notices.Config{
		File: n.cfg.at(noticesFile), Name: n.cfg.Name, Site: n.cfg.Site, Settings: n.settings, Secrets: n.secrets,
		World:   notices.World{Spaces: n.spaces, Quotas: n.quotas, Newest: n.newest, Sites: n.sites, Quorum: n.quorum, Breaker: n.cluster.Guard().Breaker, Budgets: n.budgets},
		Claimer: &notices.Claims{Cluster: n.cluster, Reached: n.reached}, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.keep(n.notices)
	return nil
}

// spaces are how full the disks of the datastores are that are open.
func (n *Node) spaces() map[string]disk.Space {
	all := map[string]disk.Space{}
	for _, name := range n.stores.Names() {
		if s, err := n.stores.Room(name); err == nil { // else its own error is told
			all[name] = s
		}
	}
	return all
}

// quotas are those that hold in the directories of the datastores, or of their caches.
func (n *Node) quotas() map[string][]disk.Quota {
	all := map[string][]disk.Quota{}
	for _, d := range n.settings.State().Datastores {
		all[d.Name] = disk.Quotas(d.Path)
	}
	return all
}

// newest returns when each group of a datastore had its last finished snapshot.
func (n *Node) newest(ctx context.Context, store string) ([]notices.Group, error) {
	d, done, err := n.stores.Use(store, false)
	if err != nil {
		return nil, err
	}
	defer done()
	list, err := d.List(ctx, catalog.ListOptions{Depth: naming.MaxDepth})
	if err != nil {
		return nil, err
	}
	at := map[string]time.Time{}
	for _, i := range list {
		name := path.Join(string(i.Namespace), i.Snapshot().Group.String())
		if t := time.Unix(i.Time, 0); i.Finished() && t.After(at[name]) {
			at[name] = t
		}
	}
	var groups []notices.Group
	for name, t := range at {
		groups = append(groups, notices.Group{Name: name, Newest: t})
	}
	slices.SortFunc(groups, func(a, b notices.Group) int { return cmp.Compare(a.Name, b.Name) })
	return groups, nil
}

// sites are the other nodes, and whether they are reached.
func (n *Node) sites() (all []notices.Site) {
	if n.link == nil {
		return nil
	}
	ways := n.ways()
	for _, m := range members.All(n.cluster, false) {
		if !m.Self {
			p := ways[m.ID]
			all = append(all, notices.Site{ID: m.ID, Name: m.Name, Site: m.Site, Reached: p.Path != "" && p.Path != peers.PathNone, Why: p.Why})
		}
	}
	return all
}

// reached are the IDs of the nodes that are reached.
func (n *Node) reached() (ids []string) {
	for _, s := range n.sites() {
		if s.Reached {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

func (n *Node) quorum() (there bool, why string) {
	s := n.cluster.Group().Status()
	switch {
	case s.Stopped != nil:
		return false, s.Stopped.Error()
	case s.Leader == "":
		return false, errNoLeader.Error()
	}
	return true, ""
}

var errNoLeader = errors.New("no leader is known")
