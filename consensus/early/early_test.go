package early

import (
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A follower is the other end of a transport; it answers as it is told.
type follower struct {
	t      *testing.T
	trans  *raft.NetworkTransport
	leader *Transport
}

func newFollower(t *testing.T) *follower {
	open := func() *raft.NetworkTransport {
		trans, err := raft.NewTCPTransport("127.0.0.1:0", nil, 1, time.Minute, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return trans
	}
	f := &follower{t, open(), New(open())}
	t.Cleanup(func() { f.leader.Close(); f.trans.Close() })
	return f
}

// sends has the leader send a message of raft, which the follower takes.
func (f *follower) sends(m raft.AppendEntriesRequest) {
	f.t.Helper()
	done := make(chan error, 1)
	go func() {
		done <- f.leader.AppendEntries("f", f.trans.LocalAddr(), &m, new(raft.AppendEntriesResponse))
	}()
	f.hears(true)
	if err := <-done; err != nil {
		f.t.Fatal(err)
	}
}

// hears returns the next message, having answered it.
func (f *follower) hears(success bool) *raft.AppendEntriesRequest {
	rpc := <-f.trans.Consumer()
	rpc.Respond(&raft.AppendEntriesResponse{Success: success}, nil)
	return rpc.Command.(*raft.AppendEntriesRequest)
}

// ends ends what the leader is about to say; then all that it said is known.
func (f *follower) ends() {
	f.t.Helper()
	f.leader.Close()
	select {
	case rpc := <-f.trans.Consumer():
		f.t.Errorf("it heard %+v", rpc.Command)
	default:
	}
}

func message(term, prev, prevTerm, commit uint64, entries ...uint64) raft.AppendEntriesRequest {
	m := raft.AppendEntriesRequest{Term: term, PrevLogEntry: prev, PrevLogTerm: prevTerm, LeaderCommitIndex: commit,
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("leader")}}
	for _, index := range entries {
		m.Entries = append(m.Entries, &raft.Log{Index: index, Term: term})
	}
	return m
}

func TestFollowersAreToldWhatIsCommitted(t *testing.T) {
	f := newFollower(t)
	f.sends(message(3, 7, 2, 7, 8, 9))
	f.leader.Committed(12, 3) // others have more entries than this one
	m := f.hears(true)
	if m.Term != 3 || m.PrevLogEntry != 9 || m.PrevLogTerm != 3 || m.LeaderCommitIndex != 9 || len(m.Entries) != 0 || string(m.ID) != "leader" {
		t.Errorf("it heard %+v", m)
	}
	f.leader.Committed(12, 3) // it has no more entries
	f.sends(message(3, 9, 3, 12, 10, 11, 12))
	f.leader.Committed(12, 3) // raft has said it
	f.ends()
}

// The follower may get the entries after the news, by another connection.
func TestFollowersAreToldAgain(t *testing.T) {
	f := newFollower(t)
	f.sends(message(3, 7, 2, 7, 8))
	f.leader.Committed(8, 3)
	f.hears(false)
	if m := f.hears(true); m.LeaderCommitIndex != 8 {
		t.Errorf("it heard %+v", m)
	}
	f.ends()
}

// What was sent in an earlier term may never have been committed.
func TestNothingIsSaidOfEarlierTerms(t *testing.T) {
	f := newFollower(t)
	f.sends(message(3, 7, 2, 7, 8))
	f.leader.Committed(8, 4)
	f.sends(message(5, 0, 0, 0)) // a heartbeat
	f.leader.Committed(8, 5)
	f.ends()
}

func TestPipelineIsNoted(t *testing.T) {
	f := newFollower(t)
	p, err := f.leader.AppendEntriesPipeline("f", f.trans.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	m := message(3, 7, 2, 7, 8)
	if _, err := p.AppendEntries(&m, new(raft.AppendEntriesResponse)); err != nil {
		t.Fatal(err)
	}
	f.hears(true)
	f.leader.Committed(8, 3)
	if m := f.hears(true); m.LeaderCommitIndex != 8 {
		t.Errorf("it heard %+v", m)
	}
	p.Close()
	f.ends()
}
