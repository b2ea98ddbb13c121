// Package early tells the followers of a leader what is committed, at once.
//
// Raft tells them with the next entries, and when there are none after its
// CommitTimeout. Who has asked a follower for a change, or to eject a node,
// waits for that; and a short CommitTimeout costs an idle cluster most of its
// traffic. A [Transport] therefore sends the message that raft would send
// later. The entries that it calls committed are among those that raft has sent
// to the same follower in the same term, in which nobody else leads, and the
// follower checks that it has them.
package early

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// pause is for raft, which may have entries to send and then says it itself.
	pause = 5 * time.Millisecond

	// tries and between are for a follower that has not got the entries yet. Who
	// needs longer hears of it from raft.
	tries   = 5
	between = 50 * time.Millisecond
)

// A Transport is a transport of raft that knows what was sent last to each
// follower.
type Transport struct {
	*raft.NetworkTransport

	mu      sync.Mutex
	last    map[raft.ServerID]*said
	closed  bool
	tasks   sync.WaitGroup
	closing chan struct{}
}

// said is what raft has said to a follower last.
type said struct {
	target      raft.ServerAddress
	header      raft.RPCHeader
	term        uint64
	index       uint64 // of the newest entry
	indexTerm   uint64
	commit      uint64
	wanted      uint64 // to be said
	outstanding bool   // somebody is about to
}

// New returns a Transport over another.
func New(inner *raft.NetworkTransport) *Transport {
	return &Transport{NetworkTransport: inner, last: map[raft.ServerID]*said{}, closing: make(chan struct{})}
}

// AppendEntries sends a message of raft.
func (t *Transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	t.note(id, target, args)
	return t.NetworkTransport.AppendEntries(id, target, args, resp)
}

// AppendEntriesPipeline opens a pipeline for messages of raft.
func (t *Transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return pipeline{p, t, id, target}, nil
}

type pipeline struct {
	raft.AppendPipeline
	t      *Transport
	id     raft.ServerID
	target raft.ServerAddress
}

func (p pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.t.note(p.id, p.target, args)
	return p.AppendPipeline.AppendEntries(args, resp)
}

// note remembers a message, unless it is a heartbeat, which says nothing.
func (t *Transport) note(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest) {
	if args.PrevLogEntry == 0 && args.LeaderCommitIndex == 0 && len(args.Entries) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.last[id]
	if s == nil || s.term != args.Term {
		s = &said{}
		t.last[id] = s
	}
	s.target, s.header, s.term, s.commit = target, args.RPCHeader, args.Term, args.LeaderCommitIndex
	s.index, s.indexTerm = args.PrevLogEntry, args.PrevLogTerm
	if n := len(args.Entries); n > 0 {
		s.index, s.indexTerm = args.Entries[n-1].Index, args.Entries[n-1].Term
	}
}

// Committed has the followers of this node told that the entries up to index
// are committed, and does not wait. The term is that of this node after it has
// learnt so: what it sent when it led before may never have been committed.
func (t *Transport) Committed(index, term uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, s := range t.last {
		if s.term != term {
			delete(t.last, id)
			continue
		}
		if s.wanted = index; s.outstanding || t.closed || s.reach() <= s.commit {
			continue
		}
		s.outstanding = true
		t.tasks.Go(func() { t.tell(id, s) })
	}
}

// reach is how much of what is wanted the follower can be told.
func (s *said) reach() uint64 { return min(s.wanted, s.index) }

// tell tells one follower, until it knows or hears it from raft.
func (t *Transport) tell(id raft.ServerID, s *said) {
	for n, wait := 0, pause; n < tries; n, wait = n+1, between {
		select {
		case <-t.closing:
			return
		case <-time.After(wait):
		}
		m, target, needed := t.next(s)
		if !needed {
			return
		}
		var resp raft.AppendEntriesResponse
		if err := t.NetworkTransport.AppendEntries(id, target, m, &resp); err == nil && (resp.Success || resp.Term > m.Term) {
			t.told(s, m.LeaderCommitIndex)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.outstanding = false
}

// next returns the message that s needs, or ends the telling.
func (t *Transport) next(s *said) (*raft.AppendEntriesRequest, raft.ServerAddress, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.reach() <= s.commit {
		s.outstanding = false
		return nil, "", false
	}
	return &raft.AppendEntriesRequest{
		RPCHeader: s.header, Term: s.term,
		PrevLogEntry: s.index, PrevLogTerm: s.indexTerm, LeaderCommitIndex: s.reach(),
	}, s.target, true
}

func (t *Transport) told(s *said, commit uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.commit = max(s.commit, commit)
}

// Close ends the transport; what it was about to say is not said any more.
func (t *Transport) Close() error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.closing)
	}
	t.mu.Unlock()
	err := t.NetworkTransport.Close()
	t.CloseStreams()
	t.tasks.Wait()
	return err
}
