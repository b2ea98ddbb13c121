package members

import (
	"context"

	"github.com/holdfast-mesh/holdfast/node/cluster/orphans"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// An Orphan is a change that this node knows of, and that the ledger lacks since the
// cluster went on without this node.
type Orphan struct {
	Time    int64  `json:"time"` // Unix seconds
	Actor   string `json:"actor"`
	Address string `json:"address,omitempty"`
	Node    string `json:"node"` // its name
	What    string `json:"what"`
	Log     string `json:"log"` // the directory that has it
}

func (a api) orphans(context.Context, *rest.Call) (any, error) {
	parts, err := a.Cluster.Orphans()
	if err != nil {
		return nil, err
	}
	list, names := []Orphan{}, map[string]string{}
	for _, m := range All(a.Cluster, true) {
		names[m.ID] = m.Name
	}
	name := func(id string) string {
		if n := names[id]; n != "" {
			return n
		}
		return id
	}
	for _, p := range parts {
		for _, c := range p.Changes {
			if p.Judged {
				list = append(list, Orphan{c.At, c.Actor, c.Address, name(c.Node), orphans.Named(c.What, name), p.Dir})
			}
		}
	}
	return list, nil
}

func (a api) forgetOrphans(context.Context, *rest.Call) (any, error) {
	return nil, a.Cluster.ForgetOrphans()
}
