package cluster

import (
	"context"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// ripeAfter is for how long this node has to have known of a change of operators, by
// the clock of its guard, to believe a peer that it counts. The ledger says so after
// half of that: this is for a node that was away while all others whom it knew were
// replaced, and to which nobody whom it lets in can bring the ledger.
const ripeAfter = 2 * authority.Delay

// ripe tells whether the change of operators of a link was known here for long.
func (c *Cluster) ripe(seq uint64) bool { return c.guard.KnownFor(seq+1) >= ripeAfter }

// enact has the change of operators that waits count when it may. Nobody has to sign
// again: those who could veto had their time.
func (c *Cluster) enact(ctx context.Context) {
	v := c.ledger.View()
	if p, waits := v.Proposal(); !waits || c.cfg.Now().Before(p.Due) {
		return
	}
	if _, err := c.client.Do(ctx, "node", "", ledger.KindAuthority, ledger.Link{Link: v.Chain().EnactLink()}); err != nil {
		if ctx.Err() == nil {
			c.cfg.Log.Warn("the operators are not changed yet, though the delay is over", "err", err)
		}
		return
	}
	c.cfg.Log.Warn("there are new operators: nobody has vetoed them in time")
}
