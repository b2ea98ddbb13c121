package node

import (
	"context"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/members"
	"github.com/holdfast-mesh/holdfast/node/quotas"
)

// openQuotas opens what divides S3 accounts among nodes.
func (n *Node) openQuotas() (err error) {
	n.quotas, err = quotas.New(quotas.Config{
		Self: n.cluster.Self(), Nodes: n.sharers3, Ledger: shared{n.cluster}, Asked: n.clouds.Asked, Share: n.clouds.Share, Log: n.log,
	})
	return err
}

// sharers3 are the nodes that may use the same S3 account as this one.
func (n *Node) sharers3() (all []quotas.Node) {
	reached := map[string]bool{n.cluster.Self(): true}
	for _, id := range n.reached() {
		reached[id] = true
	}
	for _, m := range members.All(n.cluster, false) {
		all = append(all, quotas.Node{ID: m.ID, Reached: reached[m.ID], Tells: m.Role == "full", State: n.cluster.SettingsOf(m.ID).State()})
	}
	return all
}

// shared is the ledger as quotas see it.
type shared struct{ *cluster.Cluster }

func (s shared) Row(key string) (value string, version uint64, is bool) {
	r, is := ledger.Settings.Get(s.View(), key)
	return r.Body.Value, r.Version, is
}

func (s shared) Set(ctx context.Context, key string, version uint64, value string) error {
	op := ledger.Settings.Delete(key, version)
	if value != "" {
		op = ledger.Settings.Put(key, version, ledger.Setting{Value: value})
	}
	_, err := s.Client().Do(ctx, "node", "", ledger.KindChange, ledger.Change{Ops: []ledger.Op{op}})
	return err
}

func (s shared) Leads() bool { return s.Group().Status().Leader != "" }
