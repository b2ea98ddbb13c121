package consensus

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// A Status is what this node knows of its group, without asking anybody.
type Status struct {
	Role        string    // "leader", "follower", "candidate", or "stopped"
	Leader      string    // "" if none is known
	LeaderSeen  time.Time // when this node last heard of it; zero: never
	Term        uint64
	Last        uint64 // index of the newest entry here
	Commit      uint64 // index of the newest committed entry that is known here
	Applied     uint64 // index of the newest command in the state
	Incarnation uint64
	Voters      []string
	Standbys    []string
	Rejoins     uint64 // times that the cluster was recovered without this node, since it started
	Stopped     error  // why Raft does not run here; nil: it does
}

// Status returns the newest Status.
func (g *Group) Status() Status {
	s := Status{Role: "stopped", Incarnation: g.cfg.Machine.Incarnation(), Applied: g.cfg.Machine.Applied(), Rejoins: g.rejoins.Load()}
	if err := g.stopped.Load(); err != nil {
		s.Stopped = *err
		return s
	}
	l := g.life.Load()
	if l == nil {
		if s.Stopped = fmt.Errorf("%w: it has not started", ErrStopped); g.asks.Load() {
			s.Stopped = errAsks
		}
		return s
	}
	applied, _, halted := l.fsm.progress()
	s.Role, s.Leader, s.Term, s.Stopped = roles[l.State()], l.leader(), l.CurrentTerm(), halted
	s.Last, s.Commit, s.Applied, s.Incarnation = l.LastIndex(), l.CommitIndex(), applied, l.gate.Incarnation
	s.LeaderSeen = l.LastContact()
	servers := l.servers()
	if theirs, seen, ok := l.follower.Group(); ok {
		s.LeaderSeen, servers = seen, theirs
	}
	if s.Role == "leader" {
		s.LeaderSeen = time.Now()
	}
	for _, server := range servers {
		if server.Suffrage == raft.Voter {
			s.Voters = append(s.Voters, string(server.ID))
		} else {
			s.Standbys = append(s.Standbys, string(server.ID))
		}
	}
	return s
}

var roles = map[raft.RaftState]string{
	raft.Leader: "leader", raft.Follower: "follower", raft.Candidate: "candidate", raft.Shutdown: "stopped",
}

// Transfer hands leadership to another voter; "" leaves the choice to raft. It
// is for planned stops.
func (g *Group) Transfer(ctx context.Context, node string) error {
	l := g.life.Load()
	if l == nil {
		return ErrStopped
	}
	if l.State() != raft.Leader {
		return errNotLeader
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Profile.Apply)
	defer cancel()
	if !l.transfer(ctx, node) {
		return fmt.Errorf("hand leadership to %q: nobody has taken it in time", node)
	}
	return nil
}

// transfer tells whether this node stopped to lead before ctx was done. It
// looks at that and not at raft's future, which raft may forget.
func (l *life) transfer(ctx context.Context, node string) bool {
	if node == "" {
		l.LeadershipTransfer()
	} else {
		l.LeadershipTransferToServer(raft.ServerID(node), raft.ServerAddress(node))
	}
	for l.State() == raft.Leader {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return true
}
