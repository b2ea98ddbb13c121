package node

import (
	"context"
	"net/http"
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
	Alarms  []string  `json:"alarms"` // of this node: what somebody has to look at
	Members []member  `json:"members"`
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
	Stores    []storeStatus `json:"stores"`
}

// A storeStatus says how a datastore is.
type storeStatus struct {
	Store       string `json:"store"`
	Total       int64  `json:"total"`
	Avail       int64  `json:"avail"`
	Maintenance string `json:"maintenance,omitempty"`
	Error       string `json:"error,omitempty"`
}

// ownEndpoints are those that PBS does not have.
func (n *Node) ownEndpoints() []rest.Endpoint {
	return []rest.Endpoint{
		{Method: http.MethodGet, Path: "/holdfast/status", Need: rest.Any(access.PrivSysAudit, "/system/status"), Handle: n.status},
	}
}

func (n *Node) status(_ context.Context, c *rest.Call) (any, error) {
	now := time.Now().UTC().Truncate(time.Second)
	group := n.cluster.Group().Status()
	s := status{Quorum: group.Leader != "", AsOf: group.LeaderSeen.UTC().Truncate(time.Second), Voters: len(group.Voters), Advice: members.Advice(n.cluster), Alarms: n.alarms()}
	switch {
	case group.Stopped != nil:
		s.Why = group.Stopped.Error()
	case !s.Quorum:
		s.Why = "no leader is known"
	}
	for _, m := range members.All(n.cluster, false) {
		if m.Leader {
			s.Leader = m.Name
		}
		own := member{Name: m.Name, ID: m.ID, Site: m.Site, Role: m.Role, State: m.State, Voter: m.Voter, Path: "none", Stores: []storeStatus{}}
		if m.Self {
			n.statusOfSelf(&own, now, c)
		} else {
			n.statusOfPeer(&own)
		}
		s.Members = append(s.Members, own)
	}
	if s.Members == nil { // the ledger was never heard of, or cannot be read
		own := member{Name: n.cfg.Name, ID: n.cluster.Self(), Site: n.cfg.Site, Stores: []storeStatus{}}
		n.statusOfSelf(&own, now, c)
		s.Members = []member{own}
	}
	return s, nil
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
	for _, name := range n.stores.Names() {
		if c.MayBelow(access.PrivDatastoreAudit|access.PrivDatastoreBackup, "datastore", name) {
			m.Stores = append(m.Stores, n.storeStatus(name))
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
