package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/node/cluster/levels"
)

// The feature level of the cluster is raised by the leader when every member has
// said for [levels.Wait] that it knows the next one. It never goes down, so a
// member that is away holds it back: it could not read what it missed.

// raise raises the level when it may be, until ctx is done.
func (c *Cluster) raise(ctx context.Context) {
	tick := time.NewTicker(levels.Every)
	defer tick.Stop()
	var all levels.Steady
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		next := c.ledger.View().Level() + 1
		if !all.Know(time.Now(), next <= ledger.Level && c.leads() && c.Levels(ctx).All(next)) {
			continue
		}
		if err := c.raiseTo(ctx, next); err == nil {
			c.cfg.Log.Info("every member knows the next feature level, and it is in force", "level", next)
		}
	}
}

// Levels asks every other member which level it knows.
func (c *Cluster) Levels(ctx context.Context) levels.Known {
	var others []string
	for id, m := range ledger.Members.All(c.ledger.View()) {
		if id != c.Self() && m.Body.State != ledger.Removed && m.Body.State != ledger.Pending {
			others = append(others, id)
		}
	}
	return levels.Ask(ctx, others, func(ctx context.Context, id string) (uint64, error) {
		answer, _, err := c.ask(ctx, id, askLevel, nil)
		if err != nil || len(answer) != 1 { // it does not answer the question, as far as we know
			return 0, err
		}
		return uint64(answer[0]), nil
	})
}

// raiseTo raises the level step by step. That somebody else was faster is no
// error.
func (c *Cluster) raiseTo(ctx context.Context, level uint64) error {
	for next := c.ledger.View().Level() + 1; next <= level; next++ {
		_, err := c.client.Do(ctx, "node", "", ledger.KindLevel, ledger.RaiseLevel{Level: next})
		var refused *ledger.Error
		if err != nil && !(errors.As(err, &refused) && refused.Result.Code == ledger.Conflict) {
			return err
		}
	}
	return nil
}
