// Package consensus is one Raft group: the place where the nodes of a cluster
// agree on what people decided. It replicates commands to a [Machine] of
// which it knows nothing, and never anything that a backup or a restore has to
// wait for.
//
// It is hashicorp/raft with what that library leaves to its users:
//
//   - Nobody speaks Raft here who is not allowed to by the signed roster. The
//     library obeys an AppendEntries of anybody (measured), so the stream
//     layer asks for the cluster, the incarnation and the authority chain of
//     the other side before it hands over a connection; see package gate.
//   - A node that starts alone has its state. What was committed is on disk
//     ([logstore]) and is applied before Raft starts; see load.go.
//   - A snapshot of a peer is checked before it is installed.
//   - A command that this program does not know stops the Raft part of this
//     node, with the state before it, and nothing else.
//   - Any node takes commands and forwards them to the leader, once.
//   - Members enter as standbys, and [placement] decides who votes. Who finds no
//     room in the group follows it by a stream; see follower.go.
//   - After the loss of most voters, [Recover] starts a new incarnation, which
//     the old majority cannot enter if it comes back.
//
// [Group.Run] runs it. Errors of [Group.Submit] say whether the command may
// have been applied; the machine makes repeating one harmless by its request
// ID.
package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/brittle"
	"github.com/holdfast-mesh/holdfast/consensus/gate"
	"github.com/holdfast-mesh/holdfast/consensus/logstore"
	"github.com/holdfast-mesh/holdfast/consensus/placement"
	"github.com/holdfast-mesh/holdfast/consensus/raftlog"
	"github.com/holdfast-mesh/holdfast/consensus/tail"
)

// The services that a group listens on.
const (
	ServiceRaft   = 8300 // Raft itself; only for who may vote
	ServiceLedger = 8301 // commands and questions of members
)

type (
	// A Network connects nodes by name.
	Network = gate.Network
	// A Conn is a connection whose other end is authenticated.
	Conn = gate.Conn
)

// A Roster knows the authority chain: the signed statements, each on top of
// the one before, that say who belongs to the cluster. It answers at once.
type Roster interface {
	gate.Roster
	Incarnation() uint64
	Base() string // the node with whose history the incarnation began, "" for the first
}

// A Machine is what the group agrees on. Apply, Restore and Reset are never
// called at the same time as each other.
type Machine interface {
	// Check says whether Apply would know a command that somebody wants to
	// have applied. It is asked where the command enters the log.
	Check(command []byte) error

	// Apply applies the command at an index of the log; at is the clock of the
	// leader that took it, in milliseconds. The result may say that the command
	// was refused. An error means that this program cannot know what the
	// command does; the state is then what it was.
	Apply(index uint64, at time.Time, command []byte) ([]byte, error)

	// Snapshot returns the state of now, to be written while Apply goes on.
	Snapshot() io.WriterTo

	// Verify says whether Restore would take a snapshot, given what is known
	// here; Restore replaces the state. The state stays if either fails.
	Verify(snapshot []byte) error
	Restore(snapshot []byte) error

	Reset()              // forgets everything
	Applied() uint64     // index of the newest entry in the state, 0: none
	Incarnation() uint64 // of the state
}

// Config says how a [Group] works.
type Config struct {
	Self    string                                                                  // this node; required
	Cluster [16]byte                                                                // required
	Dir     string                                                                  // of the files; required, unless Stores are given
	Stores  *Stores                                                                 // for tests; default: files in Dir
	Network Network                                                                 // required
	Machine Machine                                                                 // required
	Roster  Roster                                                                  // required
	Members func() []placement.Member                                               // who should be in the group; default: nothing is changed
	Nodes   func() []string                                                         // who can be asked by a node without a place in the group; default: nobody
	Profile Profile                                                                 // default [WAN]
	Version string                                                                  // of this program, for the status of others
	Log     *slog.Logger                                                            // default: discard
	Now     func() time.Time                                                        // the clock that stamps commands; default time.Now
	Answer  func(ctx context.Context, node string, question []byte) ([]byte, error) // of members, see [Group.Ask]; default: refuses
	Votes   func(term uint64) error                                                 // whether this node may give votes in a term, and ask for them; default: nil, always
	Lost    func() error                                                            // is asked when there is no log, before one is made: an error keeps Raft from running; default: nil, there never was one
	Takes   func(e *brittle.TakenBackError, label string) error                     // is told that a leader takes back what was agreed on, before all is put away under a label and this node begins anew, empty; default: nothing
	Ends    func(label string)                                                      // is told that the state of this node is of a history that has ended, before it is put away under a label and this node begins anew, empty; default: nothing
	Resume  func() [][]byte                                                         // the commands of a recovery that a crash has cut short, when the roster has its record and the machine has not; default: none
	Behind  func(e *tail.Error)                                                     // is told of a node whose log is not in that of this one, which would lead it; nil: there is none any more; default: nothing
	Found   bool                                                                    // this node founds the group if it has no state; only for `node init`, and its restarts until it has led
}

// Stores are where a group keeps its log and its snapshots.
type Stores struct {
	Log       LogStore
	Snapshots raft.SnapshotStore

	// Archive puts both away under a label and makes them empty; or, with next, has what it
	// writes in their place: a crash leaves the one or the other.
	Archive func(label string, next func(raft.SnapshotStore) error) error
}

// A LogStore is what [logstore.Store] is.
type LogStore = brittle.Log

var _ LogStore = (*logstore.Store)(nil)

func (c Config) withDefaults() (Config, error) {
	if c.Profile == (Profile{}) {
		c.Profile = WAN
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Votes == nil {
		c.Votes = func(uint64) error { return nil }
	}
	if c.Takes == nil {
		c.Takes = func(*brittle.TakenBackError, string) error { return nil }
	}
	if c.Ends == nil {
		c.Ends = func(string) {}
	}
	if c.Resume == nil {
		c.Resume = func() [][]byte { return nil }
	}
	if c.Behind == nil {
		c.Behind = func(*tail.Error) {}
	}
	if c.Nodes == nil {
		c.Nodes = func() []string { return nil }
	}
	switch {
	case c.Self == "":
		return c, errors.New("consensus: no name of this node")
	case c.Cluster == [16]byte{}:
		return c, errors.New("consensus: no cluster")
	case c.Dir == "" && c.Stores == nil:
		return c, errors.New("consensus: no directory")
	case c.Network == nil, c.Machine == nil, c.Roster == nil:
		return c, errors.New("consensus: no network, machine or roster")
	}
	if err := raft.ValidateConfig(c.raft()); err != nil {
		return c, fmt.Errorf("consensus: profile: %w", err)
	}
	return c, nil
}

// A Profile is how patient a group is. Every voter has the same.
type Profile struct {
	Heartbeat time.Duration // without one a follower asks for votes after 1 to 2 times this
	Election  time.Duration // the same for a candidate
	Lease     time.Duration // a leader without a quorum steps down after this
	Commit    time.Duration // between empty messages to an idle follower, which hears of commits at once, see package early
	RPC       time.Duration // for one message
	Apply     time.Duration // for one command at the leader
	Forward   time.Duration // for one command from anywhere
	Batch     int           // entries in a message
}

// The profiles. WAN is the default: on home uplinks it makes no elections
// where the library's own values make hundreds an hour (measured).
var (
	LAN = Profile{1500 * time.Millisecond, 1500 * time.Millisecond, time.Second, 100 * time.Millisecond, 5 * time.Second, 5 * time.Second, 10 * time.Second, 64}
	WAN = Profile{5 * time.Second, 5 * time.Second, 4500 * time.Millisecond, 2 * time.Second, 10 * time.Second, 10 * time.Second, 15 * time.Second, 64}
	Far = Profile{10 * time.Second, 10 * time.Second, 9 * time.Second, 4 * time.Second, 20 * time.Second, 30 * time.Second, 45 * time.Second, 32}
)

const (
	snapshotEvery    = 2 * time.Minute
	snapshotAfter    = 256  // entries
	trailingEntries  = 4096 // kept behind a snapshot, so that one who was away needs no snapshot
	snapshotsKept    = 2
	maxSnapshot      = 64 << 20
	maxCommand       = 128 << 10
	raftConnsPerNode = 3
)

// raft returns the configuration of the library.
func (c Config) raft() *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(c.Self)
	r.HeartbeatTimeout, r.ElectionTimeout = c.Profile.Heartbeat, c.Profile.Election
	r.LeaderLeaseTimeout, r.CommitTimeout = c.Profile.Lease, c.Profile.Commit
	r.MaxAppendEntries = c.Profile.Batch
	r.SnapshotInterval, r.SnapshotThreshold, r.TrailingLogs = snapshotEvery, snapshotAfter, trailingEntries
	r.NoSnapshotRestoreOnStart = true // load has done it
	r.RestoreCommittedLogs = true     // makes raft tell the log what is committed
	r.NoLegacyTelemetry = true
	r.Logger = raftlog.New(c.Log)
	return r
}
