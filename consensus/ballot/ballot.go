// Package ballot is raft's way to the others, on which a node that may not vote
// asks for no votes either: else it could lead, by the votes of others, with a
// disk that went back (consensus notes §2.4). And one that leads says nothing to
// those whom it must not lead.
package ballot

import (
	"io"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/early"
)

// A Transport asks for votes only in terms in which May allows it, and has only
// nodes follow that Leads allows.
type Transport struct {
	*early.Transport

	May   func(term uint64) error
	Leads func(node string) error
}

// AppendEntries has a node follow.
func (t *Transport) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := t.Leads(string(id)); err != nil {
		return err
	}
	return t.Transport.AppendEntries(id, to, args, resp)
}

// AppendEntriesPipeline has a node follow.
func (t *Transport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	if err := t.Leads(string(id)); err != nil {
		return nil, err
	}
	return t.Transport.AppendEntriesPipeline(id, to)
}

// InstallSnapshot has a node follow.
func (t *Transport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := t.Leads(string(id)); err != nil {
		return err
	}
	return t.Transport.InstallSnapshot(id, to, args, resp, data)
}

// RequestVote asks for a vote, if this node may.
func (t *Transport) RequestVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := t.May(args.Term); err != nil {
		return err
	}
	return t.Transport.RequestVote(id, to, args, resp)
}

// RequestPreVote asks whether there would be a vote, if this node may have it.
func (t *Transport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := t.May(args.Term); err != nil {
		return err
	}
	return t.Transport.RequestPreVote(id, to, args, resp)
}
