package members

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/overview"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// aheadMost is how far ahead the clock of the ledger may be before people are told.
const aheadMost = 2 * time.Minute

// Clock warns if the clock of the ledger is ahead: it stays so until it has passed.
func Clock(c *cluster.Cluster, node string) []overview.Warning {
	ahead := c.LedgerAhead()
	if ahead < aheadMost {
		return nil
	}
	by := strings.TrimSuffix(ahead.Round(time.Minute).String(), "0s")
	return []overview.Warning{{
		Level: "critical", Node: node,
		Text: fmt.Sprintf("the clock of the ledger is %s ahead, since that of a node that led was wrong: nobody can be invited for less than that, and what waits counts too early", by),
		Hint: "when the clocks of all nodes are right: `holdfast member set-clock`",
	}}
}

// tooOld says which members keep the clock from being set back, which the cluster has
// from a level on.
func tooOld(ctx context.Context, c *cluster.Cluster, level uint64) error {
	return c.Levels(ctx).Below("the clock of the ledger cannot be set back", level, c.NameOf)
}

// setClock sets the clock of the ledger back to that of the leader.
func (a api) setClock(ctx context.Context, c *rest.Call) (any, error) {
	if a.Cluster.View().Level() < ledger.LevelClock {
		return nil, tooOld(ctx, a.Cluster, ledger.LevelClock)
	}
	was := a.Cluster.View().At()
	if _, err := a.Cluster.Client().Do(ctx, string(c.Who), c.Source(), ledger.KindClock, ledger.SetClock{}); err != nil {
		return nil, err
	}
	return map[string]int64{"was": was.Unix(), "now": a.Cluster.View().At().Unix()}, nil
}
