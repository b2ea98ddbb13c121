// Package roster keeps what every node must know of its cluster the same on
// all of them, without the ledger and without the tunnel: the authority chain,
// which says who is a member, and the node records, which say where members
// are.
//
// Two nodes compare what they have and give each other what the other lacks.
// They do so when something changed here, so that a new link is known within a
// second wherever members reach each other; when they connect, so that a node
// that was away for a year finds out all it missed from anyone; and now and
// then. What is received is believed because of its signatures, not because of
// who sent it, and passed on.
package roster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/record"
)

// Protocol is the name of the streams that this package speaks, for members.
const Protocol = "/holdfast/roster/1"

// A Stream is a connection that proves who is at its other end.
type Stream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// A Chain is the authority chain. Extend checks links and makes them durable; those
// of another branch are all of it, from the first on.
type Chain interface {
	Head() (links uint64, hash [32]byte)
	Links(from uint64) [][]byte
	Parts(links uint64, hash [32]byte) bool // there are so many here, which end otherwise
	Extend(links [][]byte) error
}

// Config says what a [Syncer] works with; all fields but Log are required.
type Config struct {
	Chain   Chain
	Records *record.Store
	Member  func(node string) bool // records of others are not taken

	// Peers returns the members that are connected, and Open opens a stream
	// to one.
	Peers func() []string
	Open  func(ctx context.Context, node string) (Stream, error)
	Where func(node string) string // the multiaddress at which we see it; "" if we do not

	// Changed is called after something new came from a peer, and Seen with
	// the address at which a peer says that it sees this node.
	Changed func()
	Seen    func(by, address string)
	Refused func(err error) // of a record of a member

	Log *slog.Logger
}

// A Syncer compares with the others, while Run runs.
type Syncer struct {
	cfg   Config
	push  chan struct{}
	chain sync.Mutex // held while links are added

	serving sync.Mutex
	served  map[string]int // comparisons that a node began, which go on
	times   compared

	budget int // bytes of links and records to put into one message; the rest follows
}

// New returns a Syncer.
func New(cfg Config) (*Syncer, error) {
	if cfg.Chain == nil || cfg.Records == nil || cfg.Member == nil || cfg.Peers == nil || cfg.Open == nil || cfg.Where == nil || cfg.Changed == nil || cfg.Seen == nil || cfg.Refused == nil {
		return nil, errors.New("roster: a field of the config is missing")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Syncer{cfg: cfg, push: make(chan struct{}, 1), budget: maxLarge / 2, served: map[string]int{}}, nil
}

const (
	every    = 5 * time.Minute        // between comparisons with one peer when nothing changes
	again    = 10 * time.Second       // after one that failed
	pause    = 100 * time.Millisecond // between two rounds: much that is new comes at once
	syncTime = 20 * time.Second
	maxSmall = 64 << 10
	maxLarge = 4 << 20 // bytes of a message with links or records
	maxServe = 2       // comparisons that one node begins: the last may not have ended here
)

// Push has this node compare with all peers now, because the chain or a record
// changed here. A longer chain is also noticed within a second without it.
func (s *Syncer) Push() {
	select {
	case s.push <- struct{}{}:
	default:
	}
}

// Run compares with peers until ctx ends.
func (s *Syncer) Run(ctx context.Context) error {
	r := rounds{Syncer: s, due: map[string]time.Time{}, busy: map[string]bool{}}
	defer r.work.Wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var shown [32]byte // the head of the chain that all peers were shown
	pushed := false
	for {
		_, head := s.cfg.Chain.Head()
		r.begin(ctx, pushed || head != shown)
		shown, pushed = head, false
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.push:
			pushed = true
		case <-tick.C:
		}
	}
}

// rounds are the comparisons of a Syncer with its peers, at most one with each
// at a time: who does not answer keeps nobody else waiting.
type rounds struct {
	*Syncer
	work sync.WaitGroup

	mu   sync.Mutex
	due  map[string]time.Time // of the next comparison, by peer
	busy map[string]bool
}

// begin compares with the peers whose time has come, or with all. A peer that
// has just connected is one whose time has come.
func (r *rounds) begin(ctx context.Context, all bool) {
	peers := r.cfg.Peers()
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for node := range r.due {
		if !slices.Contains(peers, node) {
			delete(r.due, node)
		}
	}
	for _, node := range peers {
		if all {
			r.due[node] = now
		}
		if r.busy[node] || now.Before(r.due[node]) {
			continue
		}
		r.busy[node] = true
		r.due[node] = now.Add(every/2 + rand.N(every/2))
		r.work.Go(func() {
			err := r.Sync(ctx, node)
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.busy, node)
			if err != nil && ctx.Err() == nil {
				r.cfg.Log.Debug("roster not compared", "node", node, "err", err)
				if soon := time.Now().Add(again); r.due[node].After(soon) {
					r.due[node] = soon
				}
			}
		})
	}
}

// Sync compares with one peer, until both have the same.
func (s *Syncer) Sync(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, syncTime)
	defer cancel()
	conn, err := s.cfg.Open(ctx, node)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	began := time.Now()
	if err := s.ask(node, s.cfg.Where(node), conn); err != nil {
		return fmt.Errorf("compare the roster with node %s: %w", node, err)
	}
	s.times.note(node, began)
	return nil
}

// Compared returns when the newest comparison with a peer began that has left
// both with the same: what this node knew then, the peer knows. The zero time: there
// was none.
func (s *Syncer) Compared(node string) time.Time {
	s.times.mu.Lock()
	defer s.times.mu.Unlock()
	return s.times.by[node]
}

// compared is when peers were compared with.
type compared struct {
	mu sync.Mutex
	by map[string]time.Time
}

func (c *compared) note(node string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string]time.Time{}
	}
	c.by[node] = at
}
