package consensus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// errAwaits keeps what a node has of an incarnation that has ended, until it can get the
// one behind it: without either it would know no accounts and no datastores.
var errAwaits = &Error{
	errors.New("the cluster was recovered without this node, and no node answers that has its ledger of now: this one keeps what it knew"),
	"bring a node back that has it, such as the one on which recover-quorum was run; they are asked every few seconds, and backups and restores go on meanwhile",
}

// awaitLater returns when [Group.later] does so, or when ctx ends; until then the status
// says what is waited for.
func (g *Group) awaitLater(ctx context.Context) {
	var why error = errAwaits
	g.stopped.Store(&why)
	defer g.stopped.Store(nil)
	g.cfg.Log.Error("consensus stopped on this node; backups and restores go on", "err", why, "hint", errAwaits.Hint())
	for !g.later(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Second):
		}
	}
}

// later tells whether a node answers that has a ledger of an incarnation that this node
// knows of and is not in.
func (g *Group) later(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var has atomic.Bool
	var tasks sync.WaitGroup
	for _, node := range append(slices.Clone(g.cfg.Nodes()), g.cfg.Roster.Base()) {
		if node == g.cfg.Self || node == "" {
			continue
		}
		tasks.Go(func() {
			r, err := g.ask(ctx, node, request{Op: opTail})
			old := errors.Is(err, ErrRefused) || err == nil && r.Tail == nil // a version that does not know the question
			if old || err == nil && r.Tail.Incarnation >= g.cfg.Roster.Incarnation() && r.Tail.Applied > 0 {
				has.Store(true)
			}
		})
	}
	tasks.Wait()
	return has.Load()
}
