package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/consensus/ballot"
	"github.com/holdfast-mesh/holdfast/consensus/brittle"
	"github.com/holdfast-mesh/holdfast/consensus/follow"
	"github.com/holdfast-mesh/holdfast/consensus/gate"
	"github.com/holdfast-mesh/holdfast/consensus/raftlog"
	"github.com/holdfast-mesh/holdfast/consensus/tail"
)

// A Group is this node's part of the Raft group. Its methods may be called
// concurrently, before, while and after it runs.
type Group struct {
	cfg     Config
	life    atomic.Pointer[life]
	waits   atomic.Pointer[life]  // nil, or what waits for a later incarnation, in the place of a life, and has no Raft
	stopped atomic.Pointer[error] // why Raft does not run, though Run does
	asks    atomic.Bool           // the others, for the first time, for the ledger of a later incarnation
	rejoins atomic.Uint64

	recovered bool // the life that ended last was, so that its node goes on, whoever knows more
}

// A life is one run of Raft.
type life struct {
	*raft.Raft // nil while it waits
	fsm        *fsm
	gate       *gate.Gate
	stream     *gate.Stream
	stores     *Stores
	loaded     history // with which it began
	disk       *brittle.Store

	recoveries chan recovery
	follower   *follow.Follower
	followers  atomic.Int32
}

// New returns a Group. It starts nothing.
func New(cfg Config) (*Group, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Group{cfg: cfg}, nil
}

// Load brings the machine to everything that is known here to be committed,
// without taking part in the group: so that who opens a node finds its settings
// before [Group.Run], which may not run meanwhile. The error says why Run will
// stay stopped; where the log cannot be read, the newest snapshot is loaded.
func (g *Group) Load() error {
	stores, closeStores, err := openStores(g.cfg)
	if err != nil {
		return errors.Join(fmt.Errorf("consensus: %w", err), loadSnapshot(g.cfg))
	}
	_, err = load(stores, newFSM(g.cfg.Machine), encoder{})
	if err := errors.Join(err, closeStores()); err != nil {
		return fmt.Errorf("consensus: load the state: %w", err)
	}
	return nil
}

// Run takes part in the group until ctx is done, then returns nil. It does not
// fail: whatever stops Raft here must not stop the node. [Group.Status] says
// what it is, and it is tried again after a pause, except a command that this
// program does not know, which only another program can cure. If the cluster
// was recovered without this node, its Raft state is put away and it begins
// again as an empty standby.
func (g *Group) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		var r errRecover
		var more *tail.Error
		err := g.runOnce(ctx)
		g.recovered = errors.As(err, &r)
		switch {
		case err == nil, g.recovered: // a recovery was done, well or not; the next life shows it
		case errors.Is(err, errSuperseded):
			g.rejoins.Add(1)
			g.cfg.Behind(nil)
			g.cfg.Log.Warn("this node's part of the ledger has ended and was put away; it joins again as a standby",
				"why", err, "incarnation", g.cfg.Roster.Incarnation())
		case errors.As(err, new(*brittle.TakenBackError)) && g.cfg.Machine.Applied() == 0:
			g.cfg.Log.Error("the cluster has lost entries that it had agreed on; this node's log, which has them, was put away, and it begins again as an empty standby", "err", err)
		case errors.As(err, &more) && more.Later:
			g.pause(ctx, 2*time.Second, err) // the signature is under way
		case more != nil:
			g.pause(ctx, retryAfter, err)
		case errors.Is(err, ErrNeedsUpgrade):
			g.pause(ctx, 0, cured(err, "upgrade holdfast on this node; until then it keeps its last settings, and backups and restores go on"))
		default:
			g.pause(ctx, retryAfter, cured(err, "backups and restores go on; the ledger is tried again by itself every half minute"))
		}
	}
	return nil
}

// retryAfter is when a life that failed is tried again.
const retryAfter = 30 * time.Second

// pause shows why Raft does not run, for so long, or until ctx is done.
func (g *Group) pause(ctx context.Context, d time.Duration, err error) {
	g.stopped.Store(&err)
	g.cfg.Log.Error("consensus stopped on this node; backups and restores go on", "err", err, "retry_in", d)
	var again <-chan time.Time
	if d > 0 {
		again = time.After(d)
	}
	select {
	case <-ctx.Done():
	case <-again:
		g.stopped.Store(nil)
	}
}

// runOnce is one life of Raft.
func (g *Group) runOnce(ctx context.Context) (err error) {
	stores, closeStores, err := openStores(g.cfg)
	if err != nil {
		return fmt.Errorf("consensus: %w", err)
	}
	archived := false
	defer func() {
		if !archived {
			err = errors.Join(err, closeStores())
		}
	}()
	old, err := g.start(ctx, stores)
	var r errRecover
	if errors.As(err, &r) {
		failed := g.recover(stores, r.recovery)
		if failed != nil {
			g.cfg.Machine.Reset() // entries were applied that are not committed
			failed = fmt.Errorf("recover the group: %w", failed)
		}
		r.done <- failed
		if r.resumed && failed != nil {
			return failed
		}
		return err
	}
	var later errLater
	if errors.Is(err, errSuperseded) && !errors.As(err, &later) && g.cfg.Machine.Applied() > 0 {
		return nil // the next life waits for the ledger that comes in its place
	}
	label := strconv.FormatUint(old, 10)
	if taken := new(brittle.TakenBackError); errors.As(err, &taken) {
		label += fmt.Sprintf("-entry-%d", taken.From)
		if failed := g.cfg.Takes(taken, label); failed != nil { // with its vote another such leader could be elected
			return errors.Join(err, failed)
		}
	} else if !errors.Is(err, errSuperseded) {
		return err
	}
	g.cfg.Ends(label)
	g.cfg.Machine.Reset()
	var next func(raft.SnapshotStore) error
	if later.state != nil {
		if failed := g.cfg.Machine.Restore(later.state.Data); failed != nil {
			return errors.Join(failed, err) // the next life has what is on the disk
		}
		next = func(s raft.SnapshotStore) error { return g.adopt(&Stores{Snapshots: s}, later.state) }
	}
	if failed := stores.Archive(label, next); failed != nil {
		g.cfg.Machine.Reset()
		return fmt.Errorf("consensus: put the state of incarnation %d away: %w, after: %w", old, failed, err)
	}
	archived = true
	return err
}

// start loads the state and runs Raft on it. It returns the incarnation of
// the state.
func (g *Group) start(ctx context.Context, stores *Stores) (incarnation uint64, err error) {
	l, trans, err := g.prepare(stores)
	if err != nil {
		return 0, err
	}
	incarnation = l.gate.Incarnation
	defer trans.Close() // a second time, if all went well
	if g.superseded(incarnation) && l.fsm.machine.Applied() > 0 {
		return incarnation, g.await(ctx, l)
	}
	if err := g.resumed(incarnation); err != nil {
		return incarnation, err
	}
	if err := g.found(stores, trans); err != nil {
		return 0, err
	}
	if err := g.askOthers(ctx, l, trans); err != nil {
		return incarnation, err
	}
	tasks, taskCtx := errgroup.WithContext(ctx)
	filterCtx, stopFilter := context.WithCancel(context.Background())
	defer stopFilter()
	halted := make(chan error, 1)
	l.fsm.halt = func(err error) { halted <- fmt.Errorf("%w: %w", ErrNeedsUpgrade, err) }
	l.fsm.changed = func() {
		l.stream.Recheck()
		if l := g.life.Load(); l != nil {
			applied, _, _ := l.fsm.progress()
			trans.Committed(applied, l.CurrentTerm()) // in this order
		}
	}
	if l.Raft, err = raft.NewRaft(g.cfg.raft(), l.fsm, l.disk, l.disk, brittle.Snapshots{SnapshotStore: stores.Snapshots, Verify: l.fsm.machine.Verify, Max: maxSnapshot, Disk: l.disk}, trans); err != nil {
		return 0, fmt.Errorf("consensus: %w", err)
	}
	filterDone := make(chan struct{})
	go func() { defer close(filterDone); trans.Run(filterCtx, l.Raft) }()
	g.life.Store(l)
	if slices.Equal(l.voters(), []string{g.cfg.Self}) { // nobody else could lead
		tasks.Go(func() error { return trans.Elect(taskCtx, g.cfg.Self) })
	}
	tasks.Go(func() error { return g.serve(taskCtx, l) })
	tasks.Go(func() error { return g.place(taskCtx, l) })
	tasks.Go(func() error { return l.follower.Run(taskCtx) })
	tasks.Go(func() error { return g.watch(taskCtx, l, halted) })
	err = tasks.Wait()
	g.life.Store(nil)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		l.leave()
		err = nil
	}
	l.stop(trans)
	stopFilter()
	<-filterDone
	return incarnation, err
}

// superseded tells whether the cluster began a later incarnation with the
// history of another node. One that began with ours is a recovery that a crash
// has cut short, see [Group.resumed].
func (g *Group) superseded(incarnation uint64) bool {
	return g.cfg.Roster.Incarnation() > incarnation && g.cfg.Roster.Base() != g.cfg.Self
}

// prepare loads the state and opens the network, without starting Raft.
func (g *Group) prepare(stores *Stores) (*life, *ballot.Filter, error) {
	l := &life{fsm: newFSM(g.cfg.Machine), stores: stores, recoveries: make(chan recovery)}
	var err error
	if l.loaded, err = load(stores, l.fsm, encoder{}); err != nil {
		return nil, nil, fmt.Errorf("consensus: load the state: %w", err)
	}
	l.follower = g.newFollower(l)
	if l.disk, err = brittle.New(stores.Log, gate.Timeout); err != nil {
		return nil, nil, fmt.Errorf("consensus: %w", err)
	}
	l.fsm.note, l.fsm.installed = l.disk.Applied, l.disk.Installed
	incarnation := g.cfg.Machine.Incarnation()
	if g.cfg.Machine.Applied() == 0 {
		incarnation = g.cfg.Roster.Incarnation()
	}
	l.gate = &gate.Gate{Cluster: g.cfg.Cluster, Incarnation: incarnation, Roster: g.cfg.Roster}
	if l.stream, err = gate.Listen(g.cfg.Network, g.cfg.Self, ServiceRaft, l.gate, g.cfg.Log); err != nil {
		return nil, nil, fmt.Errorf("consensus: %w", err)
	}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: l.stream, MaxPool: raftConnsPerNode, Timeout: g.cfg.Profile.RPC, Logger: raftlog.New(g.cfg.Log),
	})
	return l, ballot.NewFilter(trans, ballot.Config{Voter: g.cfg.Roster.Voter, Votes: g.cfg.Votes, Patience: g.cfg.Profile.Heartbeat, Log: g.cfg.Log}), nil
}

// found makes this node the only voter of a new group, if it is to. A cluster
// that was ever recovered has a group, whatever is here.
func (g *Group) found(stores *Stores, trans raft.Transport) error {
	has, err := raft.HasExistingState(stores.Log, stores.Log, stores.Snapshots)
	if err != nil || has || !g.cfg.Found || g.cfg.Roster.Incarnation() > 1 {
		return err
	}
	self := raft.Server{ID: raft.ServerID(g.cfg.Self), Address: raft.ServerAddress(g.cfg.Self), Suffrage: raft.Voter}
	err = raft.BootstrapCluster(g.cfg.raft(), stores.Log, stores.Log, stores.Snapshots, trans, raft.Configuration{Servers: []raft.Server{self}})
	if err != nil {
		return fmt.Errorf("consensus: found the group: %w", err)
	}
	return nil
}

// watch ends a life when Raft has to stop or the cluster has left it behind.
func (g *Group) watch(ctx context.Context, l *life, halted <-chan error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-halted:
			return err
		case err := <-l.disk.Failed:
			return err
		case r := <-l.recoveries:
			return errRecover{r}
		case <-tick.C:
			if g.superseded(l.gate.Incarnation) {
				return errSuperseded
			}
		}
	}
}

// leave hands leadership over and stores the state, if there is time.
func (l *life) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	l.fsm.halt = func(error) {}
	if l.State() == raft.Leader && len(l.voters()) > 1 {
		l.transfer(ctx, "")
	}
	_ = await(ctx, l.Snapshot()) // a state that is not stored is replayed
}

// stop ends Raft and every connection of it.
func (l *life) stop(trans *ballot.Filter) {
	l.drain()
	done := l.Shutdown()
	trans.CloseStreams()
	_ = trans.Close() // closes the stream, whose errors say nothing now
	l.disk.End()
	_ = done.Error() // waits for raft's goroutines
}

// drain lets raft answer those whose entries are committed and not applied:
// it forgets them when it ends, and they would wait for ever.
func (l *life) drain() {
	l.fsm.end()
	for quiet, deadline := 0, time.Now().Add(gate.Timeout); quiet < 2 && time.Now().Before(deadline); {
		if quiet++; l.fsm.isBusy() || l.Stats()["fsm_pending"] != "0" {
			quiet = 0
		}
		time.Sleep(time.Millisecond)
	}
}

// Recheck closes the connections of nodes that the roster does not let have them
// any more. It is called by itself after every command, and when a node has shown
// a longer chain; call it when the roster changed in another way.
func (g *Group) Recheck() {
	if l := g.life.Load(); l != nil {
		l.stream.Recheck()
	}
}

func (l *life) voters() (ids []string) {
	for _, s := range l.servers() {
		if s.Suffrage == raft.Voter {
			ids = append(ids, string(s.ID))
		}
	}
	return ids
}

func (l *life) servers() []raft.Server {
	if l.Raft == nil {
		return l.loaded.config.Servers
	}
	f := l.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	return f.Configuration().Servers
}

// An encoder is as much of a transport as a snapshot needs.
type encoder struct{ raft.Transport }

func (encoder) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
