package peers

import (
	"context"

	"github.com/holdfast-mesh/holdfast/mesh/host"
	"github.com/holdfast-mesh/holdfast/mesh/strays"
	"github.com/holdfast-mesh/holdfast/node/cluster"
)

// branches are those of the authority chain that do not count, as members pass them on.
type branches struct{ c *cluster.Cluster }

func (b branches) Offered() [][32]byte        { return b.c.Strays().Offered(b.c.Chain()) }
func (b branches) Links(id [32]byte) [][]byte { return b.c.Strays().Links(id) }
func (b branches) Knows(id [32]byte) bool     { return b.c.Strays().Knows(id) }
func (b branches) Take(links [][]byte) error  { return b.c.TakeStray(links) }

// passStrays has this node pass on whom it keeps out since a side that does not count has
// ejected it, while the network is up, and keep out whom others do.
func (l *Link) passStrays(c *cluster.Cluster) error {
	passer, err := strays.New(strays.Config{
		Store: branches{c}, Peers: l.connected, Log: l.cfg.Log,
		Open: func(ctx context.Context, node string) (strays.Stream, error) {
			return l.host.Open(ctx, node, strays.Protocol)
		},
	})
	if err != nil {
		return err
	}
	l.host.Handle(strays.Protocol, false, func(ctx context.Context, in host.Inbound) {
		if err := passer.Serve(ctx, in.Node, in); err != nil && ctx.Err() == nil {
			l.cfg.Log.Debug("not all is believed that a member says of whom operators have removed on another side", "node", in.Node, "err", err)
		}
	})
	l.Serve(passer.Run)
	return nil
}
