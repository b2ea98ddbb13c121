package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// The feature level of the cluster is raised by the leader when every member has
// said for levelSteady that it knows the next one. It never goes down, so a
// member that is away holds it back: it could not read what it missed.
const (
	levelEvery  = time.Minute
	levelSteady = 10 * time.Minute
)

// raise raises the level when it may be, until ctx is done.
func (c *Cluster) raise(ctx context.Context) {
	tick := time.NewTicker(levelEvery)
	defer tick.Stop()
	var all steady
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		next := c.ledger.View().Level() + 1
		if !all.know(time.Now(), next <= ledger.Level && c.leads() && c.allKnow(ctx, next)) {
			continue
		}
		if err := c.raiseTo(ctx, next); err == nil {
			c.cfg.Log.Info("every member knows the next feature level, and it is in force", "level", next)
		}
	}
}

// steady is since when all knew the next level; zero: they did not.
type steady struct{ since time.Time }

// know notes whether all know it now, and tells whether they have for long enough.
func (s *steady) know(now time.Time, all bool) bool {
	switch {
	case !all:
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = now
	}
	return all && now.Sub(s.since) >= levelSteady
}

// allKnow asks every member whether it knows a level.
func (c *Cluster) allKnow(ctx context.Context, level uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, levelEvery/2)
	defer cancel()
	for id, m := range ledger.Members.All(c.ledger.View()) {
		if id == c.Self() || m.Body.State == ledger.Removed || m.Body.State == ledger.Pending {
			continue
		}
		answer, _, err := c.ask(ctx, id, askLevel, nil)
		if err != nil || len(answer) != 1 || uint64(answer[0]) < level {
			return false
		}
	}
	return true
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
