package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-mesh/holdfast/consensus/tail"
)

// askOthers asks all members how their logs end before this node may lead by its
// own vote alone, and has it say nothing to those whom it must not lead.
func (g *Group) askOthers(ctx context.Context, l *life, trans *filter) error {
	voters, err := tail.Voters(l.stores.Log, l.loaded.index, l.loaded.config)
	if err != nil || g.recovered || !slices.Equal(voters, []string{g.cfg.Self}) {
		return err
	}
	base, err := tail.Of(l.stores.Log, l.loaded.index, l.loaded.term)
	if err != nil {
		return err
	}
	base.Incarnation = l.gate.incarnation
	check := &tail.Check{
		Base: base, Log: l.stores.Log, Found: g.cfg.Behind,
		Nodes: func() []string {
			return slices.DeleteFunc(slices.Clone(g.cfg.Nodes()), func(id string) bool { return id == g.cfg.Self || g.cfg.Roster.Member(id) != nil })
		},
		Ask: func(ctx context.Context, node string) (tail.Tail, error) {
			r, err := g.ask(ctx, node, request{Op: opTail})
			if errors.Is(err, ErrRefused) || err == nil && r.Tail == nil {
				return tail.Tail{}, nil // of a version that does not know the question
			}
			if err != nil {
				return tail.Tail{}, err
			}
			return *r.Tail, nil
		},
	}
	if err := check.All(ctx); err != nil {
		return fmt.Errorf("this node does not lead: %w", err)
	}
	trans.Leads = check.May
	return nil
}

// tail is how the log of a life ends now.
func (l *life) tail() *tail.Tail {
	t, err := tail.Of(l.stores.Log, 0, 0)
	if err != nil || t.Index < l.LastIndex() {
		t = tail.Tail{Index: l.LastIndex(), Term: l.lastTerm()}
	}
	t.Incarnation, t.Commit = l.gate.incarnation, l.CommitIndex()
	t.Applied, _, _ = l.fsm.progress()
	return &t
}
