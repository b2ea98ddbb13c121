// Package overview is what a node knows of the mesh, as one document: who is
// there and how they are reached, what each holds and how far it is behind, and
// what somebody should look at. It is made of what was heard; nobody is asked.
package overview

import (
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
)

// A Status is what this node knows of the mesh. It is answered from what is
// here: without a quorum, it says how old that is.
type Status struct {
	Quorum  bool      `json:"quorum"`
	AsOf    time.Time `json:"as_of,omitzero"` // when the leader of the ledger was last heard of
	Why     string    `json:"why,omitempty"`  // there is no quorum
	Idle    bool      `json:"idle,omitempty"` // this node does not even serve backups and restores
	Leader  string    `json:"leader"`         // name of a node; "": none is known
	Voters  int       `json:"voters"`
	Advice  string    `json:"advice,omitempty"`
	Facts   time.Time `json:"facts_as_of,omitzero"` // when the site was heard of that was not for longest
	Oldest  string    `json:"facts_oldest,omitempty"`
	Members []Member  `json:"members"`
	Groups  []Group   `json:"groups"`
	Warn    []Warning `json:"warnings"`
	Now     time.Time `json:"now,omitzero"` // by the clock of this node, by which all times here are
}

// A Member is a node as others know it. What only it knows of itself is missing
// as long as it was not heard of.
type Member struct {
	Name      string    `json:"name"`
	ID        string    `json:"id"`
	Site      string    `json:"site"`
	Role      string    `json:"role"`
	State     string    `json:"state"`
	Voter     bool      `json:"voter"`
	Blocked   bool      `json:"blocked,omitempty"` // this node keeps it out
	Reachable bool      `json:"reachable"`
	Path      string    `json:"path"` // how it is reached: "local", "direct", "relay", "none"
	RTT       float64   `json:"rtt_ms"`
	Loss      float64   `json:"loss"`   // the share of packets of late that did not arrive
	Health    string    `json:"health"` // "up", "slow", "apart", "down", "left", "unknown"; see package health
	Text      string    `json:"-"`
	LastHeard time.Time `json:"last_heard,omitzero"` // zero: never, as in all times here
	Version   string    `json:"version"`
	Ready     bool      `json:"ready"`
	Why       string    `json:"why,omitempty"`     // it is not
	Trouble   string    `json:"trouble,omitempty"` // why it does not take part as it should, as it says
	Sessions  int       `json:"sessions"`          // of backups and restores
	Tasks     int       `json:"tasks"`             // that run
	Running   []string  `json:"running"`           // some of them, in short
	Failed    []Run     `json:"failed"`            // work whose last run failed
	Snapshots int       `json:"snapshots"`
	Groups    int       `json:"groups"`
	Behind    int       `json:"behind"` // groups of which others have newer snapshots
	Lag       int64     `json:"lag_s"`  // how much newer they are, at most, in seconds
	Damaged   int       `json:"damaged"`
	LastSaid  time.Time `json:"said,omitzero"` // when it last said what it holds; zero: never
	Stores    []Store   `json:"stores"`

	Alarms []facts.Alarm `json:"-"` // among the warnings
}

// A Store says how a datastore is.
type Store struct {
	Store       string `json:"store"`
	Total       int64  `json:"total"`
	Avail       int64  `json:"avail"`
	Maintenance string `json:"maintenance,omitempty"`
	Error       string `json:"error,omitempty"`

	Snapshots int       `json:"snapshots"`
	Damaged   uint64    `json:"damaged"`        // chunks in quarantine
	AsOf      time.Time `json:"as_of,omitzero"` // when the node said so

	Cloud *Cloud `json:"cloud,omitempty"` // of this node only: nil, it has no bucket
}

// A Cloud says how a datastore and its bucket are with each other. It is known
// without asking the bucket.
type Cloud struct {
	Bucket   string           `json:"bucket"`
	Bytes    int64            `json:"bytes"`        // in the bucket
	Queued   int64            `json:"queued-bytes"` // on the disk, and not in the bucket
	Oldest   time.Time        `json:"queued-since,omitzero"`
	Sending  int              `json:"sending-packs"` // ready, and not confirmed
	Lost     int              `json:"lost-packs"`
	Cached   int64            `json:"cache-used"`
	Cache    int64            `json:"cache-bound"`
	Requests map[string]int64 `json:"requests"`       // since the start, by class, of the S3 client
	Month    map[string]int64 `json:"requests-month"` // likewise, of this month
	ReadOnly string           `json:"read-only,omitempty"`
	Error    string           `json:"last-error,omitempty"` // of work on the bucket, unless it went well since
	ErrorAt  time.Time        `json:"last-error-time,omitzero"`
}

// A Run is the end of some work.
type Run struct {
	Type string    `json:"type"`
	ID   string    `json:"id"`
	UPID string    `json:"upid"`
	End  time.Time `json:"end"`
	Text string    `json:"text"`
}

// A Group is one of the mesh: where its backups arrive, and who has copies.
type Group struct {
	Group  string  `json:"group"` // as it is called at home
	Home   string  `json:"home"`  // name of a node
	Store  string  `json:"store"` // there
	Newest int64   `json:"newest"`
	Count  int     `json:"count"`
	Copies int     `json:"copies"` // nodes that have the newest
	Places []Place `json:"places"`
}

// A Place is a datastore that holds some of a group.
type Place struct {
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

// A Warning is something that somebody should look at.
type Warning struct {
	Level string `json:"level"` // "critical" or "warning"
	Node  string `json:"node"`  // name
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

// New returns a member of whom nothing is known yet.
func New(name, id, site string) Member {
	return Member{Name: name, ID: id, Site: site, Path: "none", Health: "unknown", Running: []string{}, Failed: []Run{}, Stores: []Store{}}
}

// Age notes how old the facts are: those of the site that was not heard of for
// longest, this one aside.
func (s *Status) Age(now time.Time) {
	s.Facts, s.Now = now, now
	for _, m := range s.Members {
		if m.Path != "local" && m.State != ledger.Pending && m.LastHeard.Before(s.Facts) {
			s.Facts, s.Oldest = m.LastHeard, m.Name
		}
	}
}

// Reason is why a node is not reached, without each address that was tried.
func Reason(why string) string {
	if strings.Contains(why, "all dials failed") {
		return "it does not answer at any of its addresses"
	}
	first, _, _ := strings.Cut(why, "\n")
	return first
}
