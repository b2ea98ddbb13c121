package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/brittle"
	"github.com/holdfast-mesh/holdfast/consensus/wire"
)

// A Survivor is what a node says of its part of the ledger, when most voters
// are gone and it has to be decided which part goes on.
type Survivor struct {
	Node     string
	Err      error  // why it did not answer; the rest is then zero
	LastTerm uint64 // of the newest entry of its log
	Last     uint64 // index of that entry
	Applied  uint64
	Term     uint64
}

// present is the life of now, or what waits for one.
func (g *Group) present() *life { return cmp.Or(g.life.Load(), g.waits.Load()) }

// Survey asks every server of the group, itself included. It changes nothing. Who has
// nothing of the group, or something of one that has ended, asks everybody.
func (g *Group) Survey(ctx context.Context) ([]Survivor, error) {
	l := g.present()
	if l == nil {
		return nil, fmt.Errorf("ask the servers of the group: %w", ErrStopped)
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Profile.RPC)
	defer cancel()
	servers := []string{g.cfg.Self}
	for _, s := range l.servers() {
		servers = append(servers, string(s.ID))
	}
	if l.Raft == nil || g.cfg.Machine.Applied() == 0 {
		servers = append(servers, g.others()...)
	}
	servers = slices.Compact(slices.Sorted(slices.Values(servers)))
	all := make([]Survivor, len(servers))
	var tasks sync.WaitGroup
	for i, id := range servers {
		tasks.Go(func() {
			r := response{Stats: l.stats(g.cfg.Version)}
			var err error
			if id != g.cfg.Self {
				r, err = g.ask(ctx, id, request{Op: opStats})
			}
			all[i] = Survivor{Node: id, Err: err}
			if err == nil && r.Stats != nil {
				all[i] = Survivor{id, nil, r.Stats.LastTerm, r.Stats.Last, r.Stats.Applied, r.Stats.Term}
			}
		})
	}
	tasks.Wait()
	return all, nil
}

// lastTerm is the term of the newest entry of the log.
func (l *life) lastTerm() uint64 {
	n, _ := strconv.ParseUint(l.Stats()["last_log_term"], 10, 64) // raft prints a number
	return n
}

// BeginAnew puts this node's part of the ledger away, and has it begin again as an
// empty standby: for one that led alone, and finds out that it was put back to when
// it was alone. It has led in terms in which it had led before, so that Raft would
// take its entries for those of the others.
func (g *Group) BeginAnew(ctx context.Context) error {
	for g.cfg.Machine.Applied() > 0 {
		l := g.life.Load()
		if l == nil {
			return fmt.Errorf("begin the ledger anew: %w", ErrStopped)
		}
		l.disk.Refuse(&brittle.TakenBackError{To: g.cfg.Machine.Applied()})
		for g.life.Load() == l || g.life.Load() == nil && g.cfg.Machine.Applied() > 0 {
			select {
			case <-ctx.Done():
				return fmt.Errorf("begin the ledger anew: %w", ctx.Err())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// A recovery is a request to go on alone, or one that a crash has cut short.
type recovery struct {
	commands [][]byte
	done     chan error
	resumed  bool
}

// errRecover ends a life, so that the next one begins from a recovery.
type errRecover struct{ recovery }

func (errRecover) Error() string { return "the group is being recovered" }

// Recover makes this node the only voter of the group, for when most voters
// are lost for good. The commands are applied as the last entries of the old history;
// the machine must show a higher incarnation after them, which is what keeps the old
// majority out if it comes back. It refuses while there is
// a leader, and if a node that can be reached knows more.
//
// Every entry in the log of this node counts as committed from then on, also
// those that were not.
func (g *Group) Recover(ctx context.Context, commands ...[]byte) error {
	l := g.present()
	if l == nil {
		return fmt.Errorf("recover the group: %w", ErrStopped)
	}
	if leader := l.leader(); leader != "" {
		return &Error{fmt.Errorf("recover the group: %s leads it, so it has a quorum", leader), "remove members the usual way: `holdfast member eject`"}
	}
	all, err := g.Survey(ctx)
	if err != nil {
		return err
	}
	ours := l.end()
	for _, s := range all {
		if s.Err == nil && cmp.Or(cmp.Compare(s.LastTerm, ours.Term), cmp.Compare(s.Last, ours.Index)) > 0 {
			return &Error{
				fmt.Errorf("recover the group: %s knows more: its log ends with entry %d, this node's with %d", s.Node, s.Last, ours.Index),
				"run it on " + s.Node + " instead",
			}
		}
	}
	r := recovery{commands: commands, done: make(chan error, 1)}
	select {
	case l.recoveries <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(g.cfg.Profile.RPC):
		return fmt.Errorf("recover the group: %w", ErrStopped)
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return unknown(ctx.Err())
	}
}

// resumed is the recovery that begins the incarnation of now with the history of this
// node, if a crash came between its record, which the roster has, and the state: the others
// stop when they hear of it, and no node would ever have its ledger. It is nil if there is none.
func (g *Group) resumed(incarnation uint64) error {
	if g.cfg.Roster.Incarnation() <= incarnation || g.cfg.Roster.Base() != g.cfg.Self || g.cfg.Machine.Applied() == 0 {
		return nil
	}
	commands := g.cfg.Resume()
	if len(commands) == 0 {
		return nil
	}
	g.cfg.Log.Warn("the recovery of the cluster by this node was cut short, and is finished now", "incarnation", g.cfg.Roster.Incarnation())
	return errRecover{recovery{commands, make(chan error, 1), true}}
}

// recover writes a snapshot of everything in the log and of r on top of it, with
// this node as the only voter, and empties the log. The snapshot is what
// decides: a crash before it changes nothing, and one behind it is completed
// by load.
func (g *Group) recover(s *Stores, r recovery) error {
	before := g.cfg.Machine.Incarnation()
	f := newFSM(g.cfg.Machine)
	h, err := restore(s, g.cfg.Machine)
	if err != nil {
		return err
	}
	last, err := s.Log.LastIndex()
	if err != nil {
		return err
	}
	if h, err = replay(s, f, h, last); err == nil {
		h, err = followed(s, f, h)
	}
	if err != nil {
		return err
	}
	for _, command := range r.commands {
		h.index++
		data := wire.Stamp(g.cfg.Now().UnixMilli(), command)
		if _, err := f.apply(&raft.Log{Index: h.index, Term: h.term, Data: data}); err != nil {
			return err
		}
	}
	if now := g.cfg.Machine.Incarnation(); now <= before {
		return fmt.Errorf("the record of the recovery was refused: the incarnation is still %d", now)
	}
	self := raft.Server{ID: raft.ServerID(g.cfg.Self), Address: raft.ServerAddress(g.cfg.Self), Suffrage: raft.Voter}
	h.config, h.configIndex = raft.Configuration{Servers: []raft.Server{self}}, h.index
	if err := store(s, g.cfg.Machine, h, encoder{}); err != nil {
		return err
	}
	return trim(s, h.index)
}

// trim removes a log that ends before the snapshot of index: raft could not
// append behind the hole.
func trim(s *Stores, index uint64) error {
	first, err1 := s.Log.FirstIndex()
	last, err2 := s.Log.LastIndex()
	if err := errors.Join(err1, err2); err != nil || last == 0 || last >= index {
		return err
	}
	return s.Log.DeleteRange(first, last)
}
