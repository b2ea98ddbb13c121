package consensus

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/ballot"
	"github.com/holdfast-mesh/holdfast/consensus/early"
)

// A filter looks at every message before raft does. The gate knows whose
// connection it is; the filter knows what is said on it.
type filter struct {
	*ballot.Transport
	roster Roster
	log    *slog.Logger
	out    chan raft.RPC
	term   func() uint64 // of this node; 0: it has none yet
}

func newFilter(inner *raft.NetworkTransport, cfg Config) *filter {
	return &filter{Transport: &ballot.Transport{Transport: early.New(inner), May: cfg.Votes, Leads: func(string) error { return nil }}, roster: cfg.Roster, log: cfg.Log, out: make(chan raft.RPC), term: func() uint64 { return 0 }}
}

// Consumer is where raft gets its messages from.
func (f *filter) Consumer() <-chan raft.RPC { return f.out }

// SetHeartbeatHandler filters heartbeats too, which do not wait for Consumer.
func (f *filter) SetHeartbeatHandler(handle func(raft.RPC)) {
	f.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if err := f.check(rpc); err != nil {
			rpc.Respond(nil, err)
			return
		}
		handle(rpc)
	})
}

// elect has raft ask for votes at once instead of waiting for a leader.
func (f *filter) elect(ctx context.Context, self string) error {
	now := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self), Addr: []byte(self)}}
	select {
	case f.out <- raft.RPC{Command: now, RespChan: make(chan raft.RPCResponse, 1)}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run passes messages on until ctx is done.
func (f *filter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case rpc := <-f.NetworkTransport.Consumer():
			if err := f.check(rpc); err != nil {
				f.log.Warn("a raft message was refused", "err", err)
				rpc.Respond(nil, err)
				continue
			}
			select {
			case f.out <- rpc:
			case <-ctx.Done():
				return
			}
		}
	}
}

// check refuses a message that names a sender who may not vote, or a term so
// far ahead that following it would lock out every honest leader.
func (f *filter) check(rpc raft.RPC) error {
	var term uint64
	var mayNot error
	switch m := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		term = m.Term
	case *raft.RequestVoteRequest:
		term, mayNot = m.Term, f.May(m.Term)
	case *raft.RequestPreVoteRequest:
		term, mayNot = m.Term, f.May(m.Term)
	case *raft.InstallSnapshotRequest:
		term = m.Term
	case *raft.TimeoutNowRequest:
	default:
		return fmt.Errorf("%w: a message of the kind %T", ErrRefused, rpc.Command)
	}
	if ours := f.term(); ours > 0 && term > ours+maxTermJump {
		return fmt.Errorf("%w: term %d is too far ahead of %d", ErrRefused, term, ours)
	}
	if mayNot != nil {
		return mayNot
	}
	sender := string(rpc.Command.(raft.WithRPCHeader).GetRPCHeader().ID)
	if err := f.roster.Voter(sender); err != nil {
		return fmt.Errorf("%w: a message in the name of %.60q: %w", ErrRefused, sender, err)
	}
	return nil
}
