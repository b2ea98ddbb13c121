package node

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/overview"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// ownEndpoints are those that PBS does not have.
func (n *Node) ownEndpoints() []rest.Endpoint {
	return []rest.Endpoint{
		n.raised.Endpoint(),
		{Method: http.MethodGet, Path: "/holdfast/status", Need: rest.Any(access.PrivSysAudit, "/system/status"), Handle: n.status},
		n.doctorEndpoint(),
	}
}

func (n *Node) status(_ context.Context, c *rest.Call) (any, error) {
	now := time.Now().UTC().Truncate(time.Second)
	group := n.cluster.Group().Status()
	s := overview.Status{Quorum: group.Leader != "", AsOf: n.cluster.LedgerSeen().UTC().Truncate(time.Second), Voters: len(group.Voters), Advice: members.Advice(n.cluster)}
	switch {
	case n.cluster.Gone():
		s.Quorum, s.Why = false, "this node was removed from the cluster"
	case n.outdated() != nil:
		s.Why, s.Idle = n.outdated().Error(), n.idle()
	case n.link != nil && n.link.Denied():
		s.Why = "this machine asked to join and was turned away (`holdfast member deny`); ask whoever made the token, and begin anew with another one and an empty data directory"
	case n.cluster.Waits():
		s.Why = "this node has heard nothing of the cluster yet; if its invite wanted approval: `holdfast member approve " + n.cfg.Name + "` on a member"
	case group.Stopped != nil:
		s.Why = group.Stopped.Error()
	case !s.Quorum && members.Starting(n.cluster, n.started):
		s.Why = "this node has just started, and looks for the others"
	case !s.Quorum:
		s.Why = "no leader is known"
	}
	facts, ways := n.feeds.Nodes(), n.ways()
	for _, m := range members.All(n.cluster, false) {
		if m.Leader {
			s.Leader = m.Name
		}
		own := overview.New(m.Name, m.ID, m.Site)
		own.Role, own.State, own.Voter, own.Blocked = m.Role, m.State, m.Voter, m.Blocked
		n.statusOfFeed(&own, facts[m.ID], c)
		if m.Self {
			own.Alarms = n.raised.List()
			n.statusOfSelf(&own, now, c)
		} else {
			statusOfPeer(&own, ways[m.ID])
		}
		s.Members = append(s.Members, own)
	}
	if s.Members == nil { // the ledger was never heard of, or cannot be read
		own := overview.New(n.cfg.Name, n.cluster.Self(), n.cfg.Site)
		n.statusOfFeed(&own, facts[own.ID], c)
		own.Alarms = n.raised.List()
		n.statusOfSelf(&own, now, c)
		s.Members = []overview.Member{own}
	}
	s.Groups = n.statusOfGroups(s.Members, c)
	s.Warn = slices.Concat(n.alarms(), overview.Vanished(n.cfg.at(identityFile), n.cfg.Name, len(n.others()) == 0), overview.Disk(n.cfg.Dir, n.cfg.Name, nil), n.ailments(c), n.spent(), overview.Told(n.feeds.Warnings(), s.Members), overview.Warnings(s.Members, s.Groups, now))
	overview.WorstFirst(s.Warn)
	s.Age(now)
	return s, nil
}

// statusOfSelf fills in what this node knows of itself, as far as the caller may.
func (n *Node) statusOfSelf(m *overview.Member, now time.Time, c *rest.Call) {
	m.Reachable, m.Path, m.Health, m.LastHeard, m.Version, m.Ready = true, "local", "up", now, n.cfg.Version, true
	if err := n.ready(); err != nil {
		m.Ready, m.Why = false, err.Error()
	}
	backups, readers := n.sessions.Active("")
	m.Sessions = backups + readers
	_, m.Tasks = n.tasks.List(jobs.Filter{Running: true})
	m.Running = append(m.Running, n.running()...)
	said := m.Stores
	m.Stores = []overview.Store{}
	for _, name := range n.stores.Names() {
		if c.MayBelow(access.PrivDatastoreAudit|access.PrivDatastoreBackup, "datastore", name) {
			s := n.storeStatus(name)
			s.AsOf = now
			i := slices.IndexFunc(said, func(k overview.Store) bool { return k.Store == name })
			if i >= 0 {
				s.Snapshots, s.Damaged = said[i].Snapshots, said[i].Damaged
			}
			if d, err := n.stores.Get(name); err == nil && s.Snapshots == 0 { // the feed has not said it yet
				s.Snapshots, _ = overview.Held(context.Background(), d.Tree)
				m.Snapshots += s.Snapshots
			}
			m.Stores = append(m.Stores, s)
		}
	}
}

func (n *Node) storeStatus(name string) overview.Store {
	s := overview.Store{Store: name}
	d, err := n.stores.Get(name)
	if err != nil {
		s.Error = err.Error()
		return s
	}
	s.Maintenance = string(d.Settings().Maintenance.Mode)
	space, err := n.stores.Room(name)
	if err != nil {
		s.Error = err.Error()
	}
	s.Total, s.Avail = space.TotalBytes, space.FreeBytes
	s.Cloud = n.cloudStatus(name)
	return s
}

// cloudStatus tells how a datastore is with its bucket; nil if it has none.
func (n *Node) cloudStatus(name string) *overview.Cloud {
	st, ok := n.stores.Cloud(name)
	if !ok {
		return nil
	}
	c := &overview.Cloud{
		Bucket: st.Bucket, Bytes: st.Bytes, Queued: st.Queued, Oldest: st.Oldest, Sending: st.Waiting, Lost: st.Lost, Cached: st.Cache.Used, Cache: st.Cache.Bound,
		Requests: st.Requests.Requests, ReadOnly: st.ReadOnly, Error: st.Trouble, ErrorAt: st.Troubled,
	}
	for _, b := range n.stores.Bills(time.Now()) {
		if slices.Contains(b.Datastores, name) {
			c.Month = b.SoFar.Requests
		}
	}
	return c
}

// mayLook tells whether the caller may see what is in datastores of a name.
func mayLook(c *rest.Call, store string) bool {
	return c.MayBelow(access.PrivDatastoreAudit|access.PrivDatastoreBackup, "datastore", store)
}

// statusOfFeed fills in what a node has said of itself, as far as the caller may.
func (n *Node) statusOfFeed(m *overview.Member, v facts.NodeView, c *rest.Call) {
	m.Said(v, slices.DeleteFunc(n.feeds.Stores(m.ID), func(s facts.StoreView) bool { return !mayLook(c, s.Store) }))
}

// statusOfGroups are the groups that the caller may see somewhere.
func (n *Node) statusOfGroups(all []overview.Member, c *rest.Call) []overview.Group {
	hidden := func(v facts.GroupView) bool {
		return !slices.ContainsFunc(v.Places, func(p facts.GroupAt) bool { return mayLook(c, p.Store) })
	}
	return overview.Groups(slices.DeleteFunc(n.feeds.Groups(), hidden), all)
}
