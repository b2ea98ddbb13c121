package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	patience    = 10 * time.Second // before a node without a place follows another
	again       = time.Second      // after a stream has ended
	keepEvery   = time.Minute      // a state that has changed
	dialTime    = 10 * time.Second
	maxSources  = 64      // asked in one turn
	leaderKnown = Silence // that whom we follow names counts
)

// Config says who follows, and what is done with what is given.
type Config struct {
	Self    string
	Nodes   func() []string // who can be asked
	InGroup func() bool     // this node has a place: Raft gives it everything
	Dial    func(ctx context.Context, node string, from uint64) (net.Conn, error)
	Applied func() uint64
	Apply   func(Entry) error
	Restore func(state []byte) error
	// Keep makes the state durable if it is still that at an entry, whose data
	// is left out; if it is not, that is [ErrMoved], and nothing is done.
	Keep  func(at Entry, group raft.Configuration, index uint64) error
	Store raft.StableStore // for what came since, see [Note]
	Log   *slog.Logger
}

// ErrMoved says that the state is not any more, or not yet, that of an entry.
var ErrMoved = errors.New("the state is that of another entry")

// A Follower follows others while this node has no place in the group.
type Follower struct {
	cfg  Config
	news atomic.Pointer[heard] // nil: nobody is followed

	mu    sync.Mutex
	at    Entry // the newest, without data
	kept  uint64
	when  time.Time // zero: what is here came as a state, and is nowhere else
	noted []Entry   // since kept
	size  int       // bytes of those
}

// heard is what a source said last.
type heard struct {
	News
	at    time.Time
	group raft.Configuration
}

// New returns a Follower that does not run.
func New(cfg Config) *Follower { return &Follower{cfg: cfg, kept: cfg.Applied()} }

// Leader is who leads, as far as whom this node follows knows; "" if nobody does.
func (f *Follower) Leader() string {
	if n := f.news.Load(); n != nil && time.Since(n.at) < leaderKnown {
		return n.Leader
	}
	return ""
}

// Group is who is in the group and when a leader was heard of; false if nobody
// is followed.
func (f *Follower) Group() (servers []raft.Server, seen time.Time, ok bool) {
	n := f.news.Load()
	if n == nil {
		return nil, seen, false
	}
	return n.group.Servers, n.at.Add(-time.Duration(n.Age) * time.Millisecond), true
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	defer f.keep()
	for wait := patience; ; wait += again {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		if f.cfg.InGroup() {
			f.news.Store(nil)
			wait = patience - again // who has a place loses it seldom
			continue
		}
		wait = 0
		for _, node := range f.sources() {
			err := f.from(ctx, node)
			if ctx.Err() != nil || f.cfg.InGroup() {
				break
			}
			f.cfg.Log.Debug("the ledger is not followed by way of this node", "node", node, "err", err)
		}
	}
}

// sources are the nodes to ask: those known to be in the group first.
func (f *Follower) sources() []string {
	all := slices.DeleteFunc(slices.Clone(f.cfg.Nodes()), func(id string) bool { return id == f.cfg.Self })
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if n := f.news.Load(); n != nil {
		slices.SortStableFunc(all, func(a, b string) int { return place(n.group, a) - place(n.group, b) })
	}
	return all[:min(len(all), maxSources)]
}

// place is 0 for a node in the group, and else 1.
func place(group raft.Configuration, node string) int {
	if slices.ContainsFunc(group.Servers, func(s raft.Server) bool { return string(s.ID) == node }) {
		return 0
	}
	return 1
}

// from follows by way of one node until that fails.
func (f *Follower) from(ctx context.Context, node string) error {
	dial, cancel := context.WithTimeout(ctx, dialTime)
	conn, err := f.cfg.Dial(dial, node, f.cfg.Applied())
	cancel()
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return Follow(conn, f)
}

// Applied is the index of the newest command here.
func (f *Follower) Applied() uint64 { return f.cfg.Applied() }

// Note makes commands durable that are not here yet: what is applied here, and may be
// acknowledged, is there after a reboot.
func (f *Follower) Note(entries []Entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := len(f.noted)
	for _, e := range entries {
		if e.Index > f.Applied() {
			f.noted, f.size = append(f.noted, e), f.size+len(e.Data)
		}
	}
	if len(f.noted) == before {
		return nil
	}
	return Note(f.cfg.Store, f.noted)
}

// Apply applies a command, unless it is here.
func (f *Follower) Apply(e Entry) error {
	f.note(e)
	return f.cfg.Apply(e)
}

// Restore replaces an older state.
func (f *Follower) Restore(state []byte, at Entry) error {
	if at.Index <= f.Applied() {
		return nil
	}
	f.note(at)
	f.mu.Lock()
	f.when = time.Time{}
	f.mu.Unlock()
	return f.cfg.Restore(state)
}

func (f *Follower) note(e Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = Entry{Index: e.Index, Term: e.Term}
}

// Heard takes over what a source says of the group.
func (f *Follower) Heard(n News) error {
	group, err := decode(n.Config)
	if err != nil {
		return err
	}
	f.news.Store(&heard{n, time.Now(), group})
	f.mu.Lock()
	due := time.Since(f.when) >= keepEvery || f.size > journalMost
	f.mu.Unlock()
	if due {
		f.keep()
	}
	switch {
	case f.cfg.InGroup():
		return errors.New("this node has a place in the group now")
	case n.Leader == "" && time.Duration(n.Age)*time.Millisecond > Leaderless:
		return errors.New("it hears of no leader")
	}
	return nil
}

// decode reads who is in the group.
func decode(b []byte) (group raft.Configuration, err error) {
	defer func() {
		if r := recover(); r != nil { // raft panics at what is no configuration
			err = fmt.Errorf("%w: who is in the group is said in no known way", errStream)
		}
	}()
	if len(b) > 0 {
		group = raft.DecodeConfiguration(b)
	}
	return group, nil
}

// keep makes the state durable, if it has changed.
func (f *Follower) keep() {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.news.Load()
	if n == nil || f.at.Index <= f.kept || f.at.Term == 0 || f.cfg.InGroup() {
		return
	}
	err := f.cfg.Keep(f.at, n.group, n.ConfigIndex)
	if errors.Is(err, ErrMoved) {
		return // what was noted stays
	}
	if err != nil {
		f.cfg.Log.Warn("the ledger is not written down; it is tried again", "err", err)
		return
	}
	f.kept, f.when, f.noted, f.size = f.at.Index, time.Now(), nil, 0
	if err := Note(f.cfg.Store, nil); err != nil { // who loads it again finds that it is applied
		f.cfg.Log.Warn("what is written down is noted, too", "err", err)
	}
}
