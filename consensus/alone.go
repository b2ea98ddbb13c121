package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-mesh/holdfast/consensus/ballot"
	"github.com/holdfast-mesh/holdfast/consensus/tail"
)

// askOthers asks all members how their logs end before this node may lead by its
// own vote alone, and has it say nothing to those whom it must not lead.
func (g *Group) askOthers(ctx context.Context, l *life, trans *ballot.Filter) error {
	voters, err := tail.Voters(l.stores.Log, l.loaded.index, l.loaded.config)
	if err != nil || g.recovered || !slices.Equal(voters, []string{g.cfg.Self}) {
		return err
	}
	base, err := tail.Of(l.stores.Log, l.loaded.index, l.loaded.term)
	if err != nil {
		return err
	}
	base.Incarnation = l.gate.Incarnation
	check := &tail.Check{
		Base: base, Log: l.stores.Log, Found: g.cfg.Behind,
		Nodes: func() []string {
			return slices.DeleteFunc(slices.Clone(g.cfg.Nodes()), func(id string) bool { return id == g.cfg.Self || g.cfg.Roster.Member(id) != nil })
		},
		Ask: g.tailOf,
	}
	if err := check.All(ctx); err != nil {
		return fmt.Errorf("this node does not lead: %w", err)
	}
	trans.Leads = check.May
	return nil
}

// tailOf asks a node how its log ends; one of a version that does not know the question
// says nothing, and no error.
func (g *Group) tailOf(ctx context.Context, node string) (tail.Tail, error) {
	r, err := g.ask(ctx, node, request{Op: opTail})
	if errors.Is(err, ErrRefused) || err == nil && r.Tail == nil {
		return tail.Tail{}, nil
	}
	if err != nil {
		return tail.Tail{}, err
	}
	return *r.Tail, nil
}

// end is how the log of a life ends now; one that cannot be read has no sum.
func (l *life) end() tail.Tail {
	index, term := l.loaded.index, l.loaded.term
	if l.Raft != nil {
		index, term = l.LastIndex(), l.lastTerm()
	}
	t, _ := tail.Of(l.stores.Log, index, term)
	return t
}

// tail is the end with how much of the log is agreed on.
func (l *life) tail() *tail.Tail {
	t := l.end()
	if t.Incarnation, t.Commit = l.gate.Incarnation, l.loaded.index; l.Raft != nil {
		t.Commit = l.CommitIndex()
	}
	t.Applied, _, _ = l.fsm.progress()
	return &t
}
