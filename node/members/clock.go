package members

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/overview"
	"github.com/holdfast-mesh/holdfast/pbs/rest"
)

// aheadMost is how far ahead the clock of the ledger may be before people are told.
const aheadMost = 2 * time.Minute

// Clock warns if the clock of the ledger is ahead: it stays so until it has passed. If it is
// not by the clock of this machine, those of most others may have been set back.
func Clock(c *cluster.Cluster, node string) []overview.Warning {
	ahead := c.LedgerAhead()
	if ahead < aheadMost {
		return nil
	}
	why := "that of a node that led was wrong, or the clocks were set back since"
	if c.LedgerAheadOfOwn() < aheadMost {
		why = "it agrees with this node's own, so that these two are wrong, or those of most nodes are"
	}
	return []overview.Warning{{
		Level: "critical", Node: node,
		Text: fmt.Sprintf("the clock of the ledger is %s ahead: %s; nobody can be invited for less than that, and what waits counts too early", overview.Long(ahead), why),
		Hint: "see that the clocks of all nodes are right, and then: `holdfast member set-clock`",
	}}
}

// tooOld says which members keep the clock from being set back, which the cluster has
// from a level on.
func tooOld(ctx context.Context, c *cluster.Cluster, level uint64) error {
	return c.Levels(ctx).Below("the clock of the ledger cannot be set back", level, c.NameOf)
}

// disagree names the nodes whose clocks do not agree with that of this node.
func disagree(c *cluster.Cluster, clocks map[string]time.Duration) string {
	var all []string
	for id, ahead := range clocks {
		if ahead.Abs() >= time.Minute {
			all = append(all, fmt.Sprintf("that of %s is %s %s", c.NameOf(id), overview.Long(ahead), map[bool]string{true: "ahead", false: "behind"}[ahead > 0]))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// setClock sets the clock of the ledger back to that of the leader.
func (a api) setClock(ctx context.Context, c *rest.Call) (any, error) {
	if a.Cluster.View().Level() < ledger.LevelClock {
		return nil, tooOld(ctx, a.Cluster, ledger.LevelClock)
	}
	was := a.Cluster.View().At()
	if _, err := a.Cluster.Client().Do(ctx, string(c.Who), c.Source(), ledger.KindClock, ledger.SetClock{}); err != nil {
		if others := disagree(a.Cluster, a.Clocks()); others != "" {
			err = &hinted{fmt.Errorf("%w; and the clocks of all nodes do not agree: as this node has it, %s", err, others),
				"set those that are wrong first; the clock of the ledger goes by that of the leader, and that by those of most"}
		}
		return nil, err
	}
	return map[string]int64{"was": was.Unix(), "now": a.Cluster.View().At().Unix()}, nil
}
