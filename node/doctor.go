package node

import (
	"context"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	bucket "github.com/holdfast-mesh/holdfast/chunks/cloud/doctor"
	"github.com/holdfast-mesh/holdfast/node/doctor"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/metrics"
	"github.com/holdfast-mesh/holdfast/node/overview"
	"github.com/holdfast-mesh/holdfast/node/peers"
	"github.com/holdfast-mesh/holdfast/node/warden"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// openDoctor makes who examines this node.
func (n *Node) openDoctor() (err error) {
	n.doctor, err = doctor.New(doctor.Config{World: n.world, Found: func(f bucket.Finding) { n.notices.Found(f) }})
	return err
}

// world is what the node knows of itself.
func (n *Node) world() doctor.World {
	c := &n.cfg
	w := doctor.World{
		Name: c.Name, Version: c.Version, Operator: c.at(OperatorFile), Sessions: c.Limits.memory(), Certificate: n.certificate.Leaf(), Listen: c.MeshListen,
		Places: []doctor.Place{{Name: "the node", Dir: c.Dir}}, Advice: members.Advice(n.cluster),
	}
	for _, file := range []string{cloudFile, secretsFile, ticketKeyFile, identityFile, OperatorFile} {
		w.Secret = append(w.Secret, c.at(file))
	}
	for _, d := range n.settings.State().Datastores {
		if _, err := os.Stat(d.Path); err == nil { // else that is told otherwise
			w.Places = append(w.Places, doctor.Place{Name: "datastore " + d.Name, Dir: d.Path})
		}
	}
	if there, why := n.quorum(); !there {
		w.Quorum, w.Idle = why, n.idle()
	}
	if open, why := n.cluster.Guard().Breaker(); open {
		w.Breaker = why
	}
	w.Guard = warden.See(n.cluster.Guard(), members.Missed(n.cluster, n.started)).Warnings()
	if n.link == nil {
		return w
	}
	known := n.link.Peers()
	for _, s := range n.sites() {
		p, is := known[s.ID]
		if !is {
			p.Path = peers.PathNone
		}
		w.Peers = append(w.Peers, doctor.Peer{
			Name: s.Name, Path: p.Path, Address: n.link.Where(s.ID), RTT: p.RTT, Version: p.Version, Heard: p.Heard, Why: p.Why,
		})
	}
	return w
}

// An examined is what the doctor found, of the node and of its buckets.
type examined struct {
	Node    *doctor.Report            `json:"node"`
	Buckets map[string]*bucket.Report `json:"buckets"` // by datastore; null: never examined
}

// examine examines the node, and tells what was last found of its buckets.
func (n *Node) examine(ctx context.Context, c *rest.Call) (any, error) {
	r, err := n.doctor.Examine(ctx)
	if err != nil {
		return nil, err
	}
	return examined{r, n.buckets(func(store string) bool { return c.May(access.PrivDatastoreAudit, "datastore", store) })}, nil
}

// buckets are what was last found of the buckets of datastores.
func (n *Node) buckets(may func(store string) bool) map[string]*bucket.Report {
	all := map[string]*bucket.Report{}
	for _, d := range n.settings.State().Datastores {
		if d.Backend.IsZero() || !may(d.Name) {
			continue
		}
		r, err := n.stores.Doctor(d.Name)
		if err != nil {
			n.log.Warn("what the doctor said last is not known", "datastore", d.Name, "err", err)
		}
		all[d.Name] = r
	}
	return all
}

// doctorEndpoint answers what is wrong with the node.
func (n *Node) doctorEndpoint() rest.Endpoint {
	return rest.Endpoint{Method: http.MethodGet, Path: "/holdfast/doctor", Need: rest.Any(access.PrivSysAudit, "/system/status"), Handle: n.examine}
}

// shown are the checks whose findings the status has anyway, and newer.
var shown = []string{"guard", "quorum", "paths", "mesh-port", "space"}

// ailments are what the doctor found last that somebody has to look at; of
// datastores, those that the caller may see.
func (n *Node) ailments(c *rest.Call) (list []overview.Warning) {
	add := func(of string, all []bucket.Finding) {
		for _, f := range all {
			if f.Severity > bucket.Note && !slices.Contains(shown, f.Check) {
				list = append(list, overview.Warning{Level: f.Severity.String(), Node: n.cfg.Name, Text: of + f.Text, Hint: f.Cure})
			}
		}
	}
	if r := n.doctor.Last(); r != nil {
		add("", r.Findings)
	}
	for store, r := range n.buckets(func(store string) bool { return mayLook(c, store) }) {
		if r != nil {
			add("bucket of datastore "+store+": ", r.Findings)
		}
	}
	return list
}

// findings counts what was found last, of the node ("") and of the buckets of its
// datastores, and tells when.
func (n *Node) findings() map[string]metrics.Health {
	all := map[string]metrics.Health{}
	count := func(store string, at time.Time, found []bucket.Finding) {
		h := metrics.Health{At: at, Findings: map[string]int{bucket.Note.String(): 0, bucket.Warning.String(): 0, bucket.Critical.String(): 0}}
		for _, f := range found {
			h.Findings[f.Severity.String()]++
		}
		all[store] = h
	}
	if r := n.doctor.Last(); r != nil {
		count("", r.Time, r.Findings)
	}
	for store, r := range n.buckets(func(string) bool { return true }) {
		if r != nil {
			count(store, r.Time, r.Findings)
		}
	}
	return all
}
