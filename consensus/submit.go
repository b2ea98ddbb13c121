package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/wire"
)

// A Result is what became of a command.
type Result struct {
	Index uint64 // of its entry
	Value []byte // what the machine answered
}

// Submit has a command applied, by way of the leader if that is another node,
// and returns when this node has applied it too, so that what is read here
// next shows it. It waits for a leader while there is none, at most as long as
// the profile says. An error is [ErrNoLeader] if the command was certainly not
// applied and [ErrUnknown] if it may have been.
func (g *Group) Submit(ctx context.Context, command []byte) (Result, error) {
	if len(command) > maxCommand {
		return Result{}, fmt.Errorf("a command of %d bytes, want at most %d", len(command), maxCommand)
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Profile.Forward)
	defer cancel()
	result, err := g.request(ctx, request{Op: opSubmit, Command: command}, func(l *life) (Result, error) { return g.apply(ctx, l, command) })
	if err != nil {
		return Result{}, err
	}
	if err := g.WaitApplied(ctx, result.Index); err != nil {
		g.cfg.Log.Info("a command was applied by the leader and not here in time", "index", result.Index, "err", err)
	}
	return result, nil
}

// atLeader calls do with the leader, again as long as that says that it was
// not the leader after all, until ctx is done.
func (g *Group) atLeader(ctx context.Context, do func(l *life, leader string) error) error {
	why := "none is known"
	for {
		if stopped := g.stopped.Load(); stopped != nil {
			return fmt.Errorf("%w: %w", ErrStopped, *stopped)
		}
		if l := g.life.Load(); l == nil {
			why = "consensus has not started"
		} else if leader := l.leader(); leader != "" {
			err := do(l, leader)
			if !errors.Is(err, errNotLeader) {
				return err
			}
			why = err.Error()
		}
		select {
		case <-ctx.Done():
			return noLeader(why)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// errNotLeader: nothing was done, since whoever was asked does not lead.
var errNotLeader = errors.New("this node does not lead")

// apply has a command applied by this node, which leads.
func (g *Group) apply(ctx context.Context, l *life, command []byte) (Result, error) {
	if err := g.cfg.Machine.Check(command); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Profile.Apply)
	defer cancel()
	f := l.ApplyLog(raft.Log{Data: wire.Stamp(g.cfg.Now().UnixMilli(), command)}, g.cfg.Profile.Apply)
	if err := await(ctx, f); err != nil {
		return Result{}, translate(err)
	}
	o := f.Response().(outcome)
	if o.err != nil {
		return Result{}, unknown(o.err)
	}
	return Result{f.Index(), o.value}, nil
}

// await waits for raft to decide, or for ctx.
func await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }() // ends when raft has decided or stopped
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no answer of a quorum in time: %w", ctx.Err())
	}
}

// translate says of an error of raft whether the command may have an effect.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: %w", errNotLeader, err)
	}
	return unknown(err) // leadership lost, shut down, disk
}

// Linear returns when this node shows everything that was applied anywhere
// before it was called. Whatever is read here afterwards is linearizable.
func (g *Group) Linear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Profile.Forward)
	defer cancel()
	result, err := g.request(ctx, request{Op: opIndex}, func(l *life) (Result, error) {
		index, err := g.confirm(ctx, l)
		return Result{Index: index}, err
	})
	if errors.Is(err, ErrUnknown) {
		err = noLeader(err.Error()) // a question changes nothing
	}
	if err != nil {
		return err
	}
	return g.WaitApplied(ctx, result.Index)
}

// confirm returns the index of the newest command that is committed, having
// made sure that this node leads, by an entry of no content that a quorum
// stores. raft's VerifyLeader would be one round trip without a write, but
// vouches neither for what a new leader believes to be committed nor, if a
// witness changed hosts, for the leader; and raft may forget who waits for it.
func (g *Group) confirm(ctx context.Context, l *life) (uint64, error) {
	if err := await(ctx, l.Barrier(g.cfg.Profile.Apply)); err != nil {
		return 0, translate(err)
	}
	return l.command(l.CommitIndex())
}

// command returns the index of the newest command up to index: entries of
// raft's own never reach the machine.
func (l *life) command(index uint64) (uint64, error) {
	applied, _, _ := l.fsm.progress()
	for ; index > applied; index-- {
		var log raft.Log
		err := l.stores.Log.GetLog(index, &log)
		if errors.Is(err, raft.ErrLogNotFound) {
			return applied, nil // in a snapshot, which is applied
		}
		if err != nil || log.Type == raft.LogCommand {
			return index, err
		}
	}
	return index, nil
}

// WaitApplied returns when this node has applied the command at index.
func (g *Group) WaitApplied(ctx context.Context, index uint64) error {
	for {
		if stopped := g.stopped.Load(); stopped != nil {
			return fmt.Errorf("%w: %w", ErrStopped, *stopped)
		}
		wake := (<-chan struct{})(nil)
		var retry <-chan time.Time
		if l := g.life.Load(); l != nil {
			applied, w, halted := l.fsm.progress()
			if applied >= index {
				return nil
			}
			if halted != nil {
				return fmt.Errorf("%w: %w", ErrStopped, halted)
			}
			wake = w
		}
		if wake == nil {
			retry = time.After(50 * time.Millisecond)
		} else {
			retry = time.After(time.Second) // a life may end without a wake
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for entry %d: %w", index, ctx.Err())
		case <-wake:
		case <-retry:
		}
	}
}
