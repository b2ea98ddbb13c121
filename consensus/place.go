package consensus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/placement"
)

const placeEvery = placement.LookSoon

// place keeps the members of the group as [placement] wants them, while this
// node leads.
func (g *Group) place(ctx context.Context, l *life) error {
	tick := time.NewTicker(placeEvery)
	defer tick.Stop()
	p := &placer{g: g, l: l, seen: map[string]placement.Server{}}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if g.cfg.Members == nil || l.State() != raft.Leader {
			clear(p.seen)
			tick.Reset(placeEvery)
			continue
		}
		wait, err := p.pass(ctx)
		if err != nil && ctx.Err() == nil {
			g.cfg.Log.Warn("the members of the group could not be changed", "err", err)
		}
		tick.Reset(wait)
	}
}

// A placer remembers what a leader has seen of the others.
type placer struct {
	g       *Group
	l       *life
	seen    map[string]placement.Server
	changed time.Time
}

// pass makes a change that is due, and returns when to look again.
func (p *placer) pass(ctx context.Context) (next time.Duration, err error) {
	f := p.l.GetConfiguration()
	if err := f.Error(); err != nil {
		return placeEvery, err
	}
	p.look(ctx, f.Configuration().Servers)
	state := placement.State{Now: time.Now(), Changed: p.changed, Members: p.g.cfg.Members()}
	for _, s := range p.seen {
		state.Servers = append(state.Servers, s)
	}
	change, needed := placement.Next(state)
	if !needed {
		return state.Look(), nil
	}
	p.g.cfg.Log.Info("the members of the group change", "change", change.Kind, "node", change.ID, "why", change.Why)
	if err := p.carryOut(ctx, change, f.Index()); err != nil {
		return placeEvery, fmt.Errorf("%s: %w", change, err)
	}
	if change.Kind == placement.Promote || change.Kind == placement.Demote {
		p.changed = time.Now()
	}
	return placeEvery, nil
}

// look asks every server how far it is.
func (p *placer) look(ctx context.Context, servers []raft.Server) {
	ctx, cancel := context.WithTimeout(ctx, placeEvery)
	defer cancel()
	answers := make([]*stats, len(servers))
	var tasks sync.WaitGroup
	for i, s := range servers {
		if string(s.ID) == p.g.cfg.Self {
			continue
		}
		tasks.Go(func() {
			if r, err := p.g.ask(ctx, string(s.ID), request{Op: opStats}); err == nil {
				answers[i] = r.Stats
			}
		})
	}
	tasks.Wait()
	now, last := time.Now(), p.l.LastIndex()
	for i, s := range servers {
		id := string(s.ID)
		was, known := p.seen[id]
		if !known {
			was = placement.Server{ID: id, Seen: now} // as far as this leader knows
		}
		was.Voter, was.Leader = s.Suffrage == raft.Voter, id == p.g.cfg.Self
		switch a := answers[i]; {
		case was.Leader:
			was.Seen, was.Healthy, was.Behind = now, now, 0
		case a == nil:
			if now.Sub(was.Seen) >= placement.Alive {
				was.Healthy = time.Time{}
			}
		default:
			was.Seen, was.Behind = now, last-min(last, a.Last)
			if a.Stopped != "" || was.Behind > placement.MaxBehind {
				was.Healthy = time.Time{}
			} else if was.Healthy.IsZero() {
				was.Healthy = now
			}
		}
		p.seen[id] = was
	}
	for id := range p.seen {
		if !slices.ContainsFunc(servers, func(s raft.Server) bool { return string(s.ID) == id }) {
			delete(p.seen, id)
		}
	}
}

// carryOut changes the configuration that stood at index, and no other.
func (p *placer) carryOut(ctx context.Context, c placement.Change, index uint64) error {
	id, address, wait := raft.ServerID(c.ID), raft.ServerAddress(c.ID), p.g.cfg.Profile.Apply
	var f raft.IndexFuture
	switch c.Kind {
	case placement.Add:
		f = p.l.AddNonvoter(id, address, index, wait)
	case placement.Promote:
		f = p.l.AddVoter(id, address, index, wait)
	case placement.Demote:
		f = p.l.DemoteVoter(id, index, wait)
	case placement.Remove:
		f = p.l.RemoveServer(id, index, wait)
	case placement.Transfer:
		return p.g.Transfer(ctx, c.ID)
	default:
		return fmt.Errorf("a change of the kind %q", c.Kind)
	}
	return await(ctx, f)
}
