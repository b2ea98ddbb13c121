package node

import (
	"context"
	"net/http"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// A status is what is known of the mesh. There is one member until there is a
// mesh; the names stay.
type status struct {
	Quorum  bool      `json:"quorum"`
	AsOf    time.Time `json:"as_of"`
	Members []member  `json:"members"`
}

// A member is a node as others know it.
type member struct {
	Name      string        `json:"name"`
	Site      string        `json:"site"`
	Role      string        `json:"role"`
	Voter     bool          `json:"voter"`
	Reachable bool          `json:"reachable"`
	Path      string        `json:"path"` // how it is reached
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
	m := member{
		Name: n.cfg.Name, Site: n.cfg.Site, Role: "full", Voter: true, Reachable: true, Path: "local", LastHeard: now,
		Version: n.cfg.Version, Ready: true, Stores: []storeStatus{},
	}
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
	return status{Quorum: true, AsOf: now, Members: []member{m}}, nil
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
