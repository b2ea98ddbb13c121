package ballot

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/early"
	"github.com/holdfast-mesh/holdfast/consensus/wire"
)

const maxTermJump = 1000 // terms that an honest leader may be ahead of us

// A Config is what a [Filter] judges by.
type Config struct {
	Voter    func(node string) error // nil: it may speak raft
	Votes    func(term uint64) error // nil: this node may take part in an election
	Patience time.Duration           // with a silent leader: raft's heartbeat timeout
	Log      *slog.Logger
}

// A Filter looks at every message before raft does. The gate knows whose
// connection it is; the filter knows what is said on it.
type Filter struct {
	*Transport
	cfg  Config
	out  chan raft.RPC
	raft atomic.Pointer[raft.Raft] // nil: none yet

	preceded uint64 // the last term in which a candidate was told that this node comes first
}

// NewFilter returns one in front of a transport. Whoever has it leads all who follow,
// until it gets another Leads.
func NewFilter(inner *raft.NetworkTransport, cfg Config) *Filter {
	t := &Transport{Transport: early.New(inner), May: cfg.Votes, Leads: func(string) error { return nil }}
	return &Filter{Transport: t, cfg: cfg, out: make(chan raft.RPC)}
}

// Consumer is where raft gets its messages from.
func (f *Filter) Consumer() <-chan raft.RPC { return f.out }

// SetHeartbeatHandler filters heartbeats too, which do not wait for Consumer.
func (f *Filter) SetHeartbeatHandler(handle func(raft.RPC)) {
	f.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if err := f.check(rpc); err != nil {
			rpc.Respond(nil, err)
			return
		}
		handle(rpc)
	})
}

// Elect has raft ask for votes at once instead of waiting for a leader.
func (f *Filter) Elect(ctx context.Context, self string) error {
	now := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self), Addr: []byte(self)}}
	select {
	case f.out <- raft.RPC{Command: now, RespChan: make(chan raft.RPCResponse, 1)}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run passes messages on to a raft until ctx is done.
func (f *Filter) Run(ctx context.Context, r *raft.Raft) {
	f.raft.Store(r)
	for {
		select {
		case <-ctx.Done():
			return
		case rpc := <-f.NetworkTransport.Consumer():
			if err := f.check(rpc); err != nil {
				f.cfg.Log.Warn("a raft message was refused", "err", err)
				rpc.Respond(nil, err)
				continue
			}
			if !f.weigh(rpc) {
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

// weigh makes elections short, where raft leaves much to chance; what makes a vote is left
// to raft. It returns false for what it has answered.
//
// A follower whose leader has been silent for so long that it will ask for votes itself
// votes for another that does. Raft refuses until its own timer has fired, so that the next
// leader had to wait for the last of a majority, and not for the first.
//
// Of two that ask at the same time one comes first. With raft both say yes when asked
// whether they would vote, then each votes for itself, and both wait once more.
func (f *Filter) weigh(rpc raft.RPC) bool {
	switch m := rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		_, _, silent := f.leader()
		m.LeadershipTransfer = m.LeadershipTransfer || silent
	case *raft.RequestPreVoteRequest:
		if addr, id, silent := f.leader(); silent {
			m.Addr = f.EncodePeer(id, addr) // of no use but to be compared with that of the leader
		}
		if f.precedes(m) {
			f.preceded = m.Term // no second time: this node may be one that nobody hears
			rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}, Term: m.Term}, nil)
			return false
		}
	}
	return true
}

// leader returns who leads, and whether this node follows it and has not heard of it for too long.
func (f *Filter) leader() (addr raft.ServerAddress, id raft.ServerID, silent bool) {
	r := f.raft.Load()
	addr, id = r.LeaderWithID()
	return addr, id, addr != "" && r.State() == raft.Follower && time.Since(r.LastContact()) >= f.cfg.Patience
}

// precedes tells whether this node wants votes too, could have the other's, and has its own already or is the first by name.
func (f *Filter) precedes(m *raft.RequestPreVoteRequest) bool {
	r := f.raft.Load()
	first := r.CurrentTerm() >= m.Term || f.LocalAddr() < raft.ServerAddress(m.ID)
	return r.State() == raft.Candidate && first && r.LastIndex() >= m.LastLogIndex && m.Term > f.preceded
}

// check refuses a message that names a sender who may not vote, or a term so
// far ahead that following it would lock out every honest leader.
func (f *Filter) check(rpc raft.RPC) error {
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
		return fmt.Errorf("%w: a message of the kind %T", wire.ErrRefused, rpc.Command)
	}
	if r := f.raft.Load(); r != nil && term > r.CurrentTerm()+maxTermJump {
		return fmt.Errorf("%w: term %d is too far ahead of %d", wire.ErrRefused, term, r.CurrentTerm())
	}
	if mayNot != nil {
		return mayNot
	}
	sender := string(rpc.Command.(raft.WithRPCHeader).GetRPCHeader().ID)
	if err := f.cfg.Voter(sender); err != nil {
		return fmt.Errorf("%w: a message in the name of %.60q: %w", wire.ErrRefused, sender, err)
	}
	return nil
}
