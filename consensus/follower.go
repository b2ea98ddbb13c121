package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/follow"
	"github.com/holdfast-mesh/holdfast/consensus/wire"
)

// maxFollowers is how many streams a node gives.
const maxFollowers = 32

// inGroup tells whether Raft gives this node what the group agrees on.
func (g *Group) inGroup(l *life) bool {
	return slices.ContainsFunc(l.servers(), func(s raft.Server) bool { return string(s.ID) == g.cfg.Self })
}

// leader is who leads, as Raft says or whom this node follows; "" if none is known.
func (l *life) leader() string {
	if l.Raft == nil {
		return ""
	}
	if _, id := l.LeaderWithID(); id != "" {
		return string(id)
	}
	return l.follower.Leader()
}

// newFollower is the part of a life that has no place in the group.
func (g *Group) newFollower(l *life) *follow.Follower {
	return follow.New(follow.Config{
		Self: g.cfg.Self, Nodes: g.cfg.Nodes, InGroup: func() bool { return g.inGroup(l) },
		Dial: func(ctx context.Context, node string, from uint64) (net.Conn, error) {
			conn, err := g.cfg.Network.Dial(ctx, node, ServiceLedger)
			if err != nil {
				return nil, err
			}
			return conn, wire.Write(conn, request{Op: opFollow, Incarnation: l.gate.Incarnation, Index: from}, maxFrame)
		},
		Applied: g.cfg.Machine.Applied,
		Apply: func(e follow.Entry) error {
			return l.fsm.follow(&raft.Log{Index: e.Index, Term: e.Term, Data: e.Data})
		},
		Restore: func(b []byte) error { return l.fsm.restore(io.NopCloser(bytes.NewReader(b))) },
		// What is kept is Raft's own snapshot: a reboot, and a recovery of the
		// group, begin from it.
		Keep: func(at follow.Entry, group raft.Configuration, index uint64) error {
			l.fsm.turn.Lock()
			defer l.fsm.turn.Unlock()
			if at.Index != g.cfg.Machine.Applied() {
				return follow.ErrMoved
			}
			return store(l.stores, g.cfg.Machine, history{index: at.Index, term: at.Term, config: group, configIndex: index}, encoder{})
		},
		Store: l.stores.Log, Log: g.cfg.Log,
	})
}

// followed applies what this node was given by a stream since its state was stored.
func followed(s *Stores, f *fsm, h history) (history, error) {
	entries, _ := follow.Noted(s.Log) // what is damaged comes again by the stream
	for _, e := range entries {
		if e.Index > f.machine.Applied() {
			if _, err := f.apply(&raft.Log{Index: e.Index, Term: e.Term, Data: e.Data}); err != nil {
				return h, fmt.Errorf("%w: apply entry %d: %w", ErrNeedsUpgrade, e.Index, err)
			}
		}
		if e.Index > h.index {
			h.index, h.term, h.fresh = e.Index, e.Term, false
		}
	}
	return h, nil
}

// lead gives a node a stream, until that ends.
func (g *Group) lead(ctx context.Context, l *life, node string, from uint64, conn net.Conn) error {
	if l.followers.Add(1); l.followers.Load() > maxFollowers || !g.inGroup(l) {
		l.followers.Add(-1)
		return errors.New("this node follows others, or has enough who follow it")
	}
	defer l.followers.Add(-1)
	return follow.Serve(ctx, conn, from, follow.Member{
		Log: l.stores.Log, Snapshots: l.stores.Snapshots, Raft: l.Raft, Self: g.cfg.Self,
		State: func() (uint64, io.WriterTo) {
			l.fsm.turn.Lock()
			defer l.fsm.turn.Unlock()
			return g.cfg.Machine.Applied(), g.cfg.Machine.Snapshot()
		},
		Moved: func() (uint64, <-chan struct{}, error) {
			_, more, err := l.fsm.progress()
			if !g.inGroup(l) {
				err = errors.New("this node has no place in the group any more")
			}
			return g.cfg.Machine.Applied(), more, errors.Join(err, g.cfg.Roster.Member(node))
		},
	})
}
