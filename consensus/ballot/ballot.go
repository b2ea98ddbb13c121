// Package ballot is raft's way to the others, on which a node that may not vote
// asks for no votes either: else it could lead, by the votes of others, with a
// disk that went back (consensus notes §2.4).
package ballot

import (
	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/early"
)

// A Transport asks for votes only in terms in which May allows it.
type Transport struct {
	*early.Transport

	May func(term uint64) error
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
