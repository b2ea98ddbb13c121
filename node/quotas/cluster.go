package quotas

import (
	"context"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/members"
)

// Members are the nodes of a cluster, of which this one reaches some others.
func Members(c *cluster.Cluster, reached []string) (all []Node) {
	near := map[string]bool{c.Self(): true}
	for _, id := range reached {
		near[id] = true
	}
	for _, m := range members.All(c, false) {
		all = append(all, Node{ID: m.ID, Reached: near[m.ID], Tells: m.Role == "full", State: c.SettingsOf(m.ID).State()})
	}
	return all
}

// Rows are the settings in the ledger of a cluster.
type Rows struct{ *cluster.Cluster }

var _ Ledger = Rows{}

// Row implements [Ledger].
func (r Rows) Row(key string) (value string, version uint64, is bool) {
	row, is := ledger.Settings.Get(r.View(), key)
	return row.Body.Value, row.Version, is
}

// Set implements [Ledger].
func (r Rows) Set(ctx context.Context, key string, version uint64, value string) error {
	op := ledger.Settings.Delete(key, version)
	if value != "" {
		op = ledger.Settings.Put(key, version, ledger.Setting{Value: value})
	}
	_, err := r.Client().Do(ctx, "node", "", ledger.KindChange, ledger.Change{Ops: []ledger.Op{op}})
	return err
}

// Leads implements [Ledger].
func (r Rows) Leads() bool { return r.Group().Status().Leader != "" }
