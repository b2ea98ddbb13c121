package node

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A status is what this node knows of the mesh. It is answered from what is
// here: without a quorum, it says how old that is.
type status struct {
	Quorum  bool      `json:"quorum"`
	AsOf    time.Time `json:"as_of"`         // when the leader of the ledger was last heard of
	Why     string    `json:"why,omitempty"` // there is no quorum
	Leader  string    `json:"leader"`        // name of a node; "": none is known
	Voters  int       `json:"voters"`
	Advice  string    `json:"advice,omitempty"`
	Facts   time.Time `json:"facts_as_of"` // when the site was heard of that was not for longest
	Oldest  string    `json:"facts_oldest,omitempty"`
	Members []member  `json:"members"`
	Groups  []group   `json:"groups"`
	Warn    []warning `json:"warnings"`
}

// A member is a node as others know it. What only it knows of itself is missing
// as long as it was not heard of.
type member struct {
	Name      string        `json:"name"`
	ID        string        `json:"id"`
	Site      string        `json:"site"`
	Role      string        `json:"role"`
	State     string        `json:"state"`
	Voter     bool          `json:"voter"`
	Reachable bool          `json:"reachable"`
	Path      string        `json:"path"` // how it is reached: "local", "direct", "relay", "none"
	RTT       float64       `json:"rtt_ms"`
	LastHeard time.Time     `json:"last_heard"`
	Version   string        `json:"version"`
	Ready     bool          `json:"ready"`
	Why       string        `json:"why,omitempty"` // it is not
	Sessions  int           `json:"sessions"`      // of backups and restores
	Tasks     int           `json:"tasks"`         // that run
	Running   []string      `json:"running"`       // some of them, in short
	Failed    []run         `json:"failed"`        // work whose last run failed
	Snapshots int           `json:"snapshots"`
	Groups    int           `json:"groups"`
	Behind    int           `json:"behind"` // groups of which others have newer snapshots
	Lag       int64         `json:"lag_s"`  // how much newer they are, at most, in seconds
	Damaged   int           `json:"damaged"`
	Said      time.Time     `json:"said"` // when it last said what it holds; zero: never
	Stores    []storeStatus `json:"stores"`
}

// A storeStatus says how a datastore is.
type storeStatus struct {
	Store       string `json:"store"`
	Total       int64  `json:"total"`
	Avail       int64  `json:"avail"`
	Maintenance string `json:"maintenance,omitempty"`
	Error       string `json:"error,omitempty"`

	Snapshots int       `json:"snapshots"`
	Damaged   uint64    `json:"damaged"` // chunks in quarantine
	AsOf      time.Time `json:"as_of"`   // when the node said so
}

// ownEndpoints are those that PBS does not have.
func (n *Node) ownEndpoints() []rest.Endpoint {
	return []rest.Endpoint{
		{Method: http.MethodGet, Path: "/holdfast/status", Need: rest.Any(access.PrivSysAudit, "/system/status"), Handle: n.status},
		n.doctorEndpoint(),
	}
}

func (n *Node) status(_ context.Context, c *rest.Call) (any, error) {
	now := time.Now().UTC().Truncate(time.Second)
	group := n.cluster.Group().Status()
	s := status{Quorum: group.Leader != "", AsOf: group.LeaderSeen.UTC().Truncate(time.Second), Voters: len(group.Voters), Advice: members.Advice(n.cluster)}
	switch {
	case group.Stopped != nil:
		s.Why = group.Stopped.Error()
	case !s.Quorum:
		s.Why = "no leader is known"
	}
	facts := n.feeds.Nodes()
	for _, m := range members.All(n.cluster, false) {
		if m.Leader {
			s.Leader = m.Name
		}
		own := newMember(m.Name, m.ID, m.Site)
		own.Role, own.State, own.Voter = m.Role, m.State, m.Voter
		n.statusOfFeed(&own, facts[m.ID], c)
		if m.Self {
			n.statusOfSelf(&own, now, c)
		} else {
			n.statusOfPeer(&own)
		}
		s.Members = append(s.Members, own)
	}
	if s.Members == nil { // the ledger was never heard of, or cannot be read
		own := newMember(n.cfg.Name, n.cluster.Self(), n.cfg.Site)
		n.statusOfFeed(&own, facts[own.ID], c)
		n.statusOfSelf(&own, now, c)
		s.Members = []member{own}
	}
	s.Groups = n.statusOfGroups(s.Members, c)
	s.Warn = append(slices.Concat(n.alarms(), n.ailments(c), n.spent()), n.warnings(s.Members, s.Groups, now)...)
	s.age(now)
	return s, nil
}

func newMember(name, id, site string) member {
	return member{Name: name, ID: id, Site: site, Path: "none", Running: []string{}, Failed: []run{}, Stores: []storeStatus{}}
}

// statusOfSelf fills in what this node knows of itself, as far as the caller may.
func (n *Node) statusOfSelf(m *member, now time.Time, c *rest.Call) {
	m.Reachable, m.Path, m.LastHeard, m.Version, m.Ready = true, "local", now, n.cfg.Version, true
	if err := n.ready(); err != nil {
		m.Ready, m.Why = false, err.Error()
	}
	backups, readers := n.sessions.Active("")
	m.Sessions = backups + readers
	_, m.Tasks = n.tasks.List(jobs.Filter{Running: true})
	m.Running = append(m.Running, n.running()...)
	said := m.Stores
	m.Stores = []storeStatus{}
	for _, name := range n.stores.Names() {
		if c.MayBelow(access.PrivDatastoreAudit|access.PrivDatastoreBackup, "datastore", name) {
			s := n.storeStatus(name)
			s.AsOf = now
			for _, k := range said {
				if k.Store == name {
					s.Snapshots, s.Damaged = k.Snapshots, k.Damaged
				}
			}
			m.Stores = append(m.Stores, s)
		}
	}
}

func (n *Node) storeStatus(name string) storeStatus {
	s := storeStatus{Store: name}
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
	return s
}
