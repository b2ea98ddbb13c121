package node

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/node/feeds"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A run is the end of some work.
type run struct {
	Type string    `json:"type"`
	ID   string    `json:"id"`
	UPID string    `json:"upid"`
	End  time.Time `json:"end"`
	Text string    `json:"text"`
}

// A group is one of the mesh: where its backups arrive, and who has copies.
type group struct {
	Group  string  `json:"group"` // as it is called at home
	Home   string  `json:"home"`  // name of a node
	Store  string  `json:"store"` // there
	Newest int64   `json:"newest"`
	Count  int     `json:"count"`
	Copies int     `json:"copies"` // nodes that have the newest
	Places []place `json:"places"`
}

// A place is a datastore that holds some of a group.
type place struct {
	Node     string `json:"node"`
	Store    string `json:"store"`
	Group    string `json:"group"`
	Count    int    `json:"count"`
	Newest   int64  `json:"newest"`
	Behind   int    `json:"behind"` // newer snapshots elsewhere
	Lag      int64  `json:"lag_s"`
	Damaged  int    `json:"damaged"`
	Verified int64  `json:"verified"` // when the copy was that was for longest not; 0: one never was
}

// A warning is something that somebody should look at.
type warning struct {
	Level string `json:"level"` // "critical" or "warning"
	Node  string `json:"node"`  // name
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

// mayLook tells whether the caller may see what is in datastores of a name.
func mayLook(c *rest.Call, store string) bool {
	return c.MayBelow(access.PrivDatastoreAudit|access.PrivDatastoreBackup, "datastore", store)
}

// statusOfFeed fills in what a node has said of itself.
func (n *Node) statusOfFeed(m *member, v facts.NodeView, c *rest.Call) {
	m.Snapshots, m.Groups, m.Behind, m.Lag, m.Damaged = v.Snapshots, v.Groups, v.Behind, int64(v.Lag/time.Second), v.Bad
	if !v.Newest.IsZero() {
		m.Said = v.Newest.UTC().Truncate(time.Second)
	}
	for _, r := range v.Last {
		if !r.OK {
			m.Failed = append(m.Failed, run{r.Of, r.Job, r.ID, r.Ended.UTC().Truncate(time.Second), r.Text})
		}
	}
	for _, s := range n.feeds.Stores(m.ID) {
		if mayLook(c, s.Store) {
			m.Stores = append(m.Stores, storeStatus{
				Store: s.Store, Total: int64(s.Size), Avail: int64(s.Free), Error: s.State,
				Snapshots: s.Snapshots, Damaged: s.Damaged, AsOf: s.Said.UTC().Truncate(time.Second),
			})
		}
	}
}

// statusOfGroups are the groups that the caller may see somewhere.
func (n *Node) statusOfGroups(all []member, c *rest.Call) []group {
	names := map[string]string{}
	for _, m := range all {
		names[m.ID] = m.Name
	}
	groups := []group{}
	for _, v := range n.feeds.Groups() {
		if !slices.ContainsFunc(v.Places, func(p facts.GroupAt) bool { return mayLook(c, p.Store) }) {
			continue
		}
		g := group{
			Group: v.Home.Group.String(), Home: names[feeds.NodeID(v.Home.Origin)], Store: v.Home.Store,
			Newest: v.Newest, Count: v.Count, Copies: v.Copies(),
		}
		for _, p := range v.Places {
			g.Places = append(g.Places, place{
				names[feeds.NodeID(p.Origin)], p.Store, p.Group.String(), p.Count, p.Newest, p.Behind, int64(v.Lag(p) / time.Second), p.Bad, p.Checked,
			})
		}
		groups = append(groups, g)
	}
	return groups
}

// age notes how old the facts are: those of the site that was not heard of for
// longest, this one aside.
func (s *status) age(now time.Time) {
	s.Facts = now
	for _, m := range s.Members {
		if m.Path != "local" && m.State != ledger.Pending && m.LastHeard.Before(s.Facts) {
			s.Facts, s.Oldest = m.LastHeard, m.Name
		}
	}
}

const (
	silent = time.Minute    // before it is worth a warning that a node was not heard of
	late   = 48 * time.Hour // by which a copy may be behind without one
	full   = 20             // the share of a disk that should be free is 1/full
)

// warnings are what somebody should look at, the worst first.
func (n *Node) warnings(all []member, groups []group, now time.Time) []warning {
	list := []warning{}
	add := func(node, hint, format string, args ...any) {
		list = append(list, warning{"warning", node, fmt.Sprintf(format, args...), hint})
	}
	for _, m := range all {
		switch {
		case m.Path == "local" && !m.Ready:
			add(m.Name, "", "it is not ready: %s", m.Why)
		case m.Path == "none" && m.State == ledger.Active && m.LastHeard.Unix() <= 0:
			add(m.Name, "does it run, and is its mesh port open?", "nothing was heard of it since this node runs")
		case m.Path == "none" && m.State == ledger.Active && now.Sub(m.LastHeard) > silent:
			add(m.Name, "what it holds is as it was then", "it is not reached since %s", m.LastHeard.Format(time.DateTime))
		case m.Health == "apart" || m.Health == "slow":
			add(m.Name, "", "it is %s: %s", m.Health, m.Text)
		}
		for _, s := range m.Stores {
			if s.Error != "" {
				add(m.Name, "", "datastore %s: %s", s.Store, s.Error)
			} else if s.Total > 0 && s.Avail < s.Total/full {
				add(m.Name, "prune, collect garbage, or use a larger disk", "datastore %s is nearly full", s.Store)
			}
			if s.Damaged > 0 {
				add(m.Name, "holdfast datastore heal "+s.Store+" there: other sites may have them", "datastore %s has %d damaged chunks", s.Store, s.Damaged)
			}
		}
		if m.Damaged > 0 {
			add(m.Name, "see `holdfast snapshot list` there", "%d snapshots are damaged", m.Damaged)
		}
		for _, r := range m.Failed {
			add(m.Name, "see `holdfast task log "+r.UPID+"` there", "the last %s failed: %s", workOf(r), r.Text)
		}
	}
	for _, g := range groups {
		for _, p := range g.Places {
			if p.Behind > 0 && time.Duration(p.Lag)*time.Second > late {
				add(p.Node, "", "%s in datastore %s is %d snapshots behind %s, by %d days", p.Group, p.Store, p.Behind, g.Home, p.Lag/86400)
			}
		}
	}
	return append(n.warningsOfFeeds(all), list...)
}

func workOf(r run) string {
	if u, err := jobs.ParseUPID(r.UPID); err == nil {
		return u.Type + " of " + u.ID
	}
	return r.Type + " of " + r.ID
}

func (n *Node) warningsOfFeeds(all []member) (list []warning) {
	for _, w := range n.feeds.Warnings() {
		level, name := "warning", w.Node
		if w.Critical {
			level = "critical"
		}
		for _, m := range all {
			if m.ID == w.Node {
				name = m.Name
			}
		}
		list = append(list, warning{level, name, w.Text, w.Hint})
	}
	return list
}
