// Package strays passes on, from member to member, whom operators have removed on a branch
// of the authority chain that does not count: nodes that were off, or on the other side,
// never see that branch, and would go on talking to whom it has ejected.
//
// Who has such a branch offers it to every member that it is connected to, and shows the
// links to who does not know them. They are believed because of the operators' signatures,
// not because of who shows them, and passed on. In a cluster where nothing is like that
// nobody says anything; a program that does not know the protocol refuses it, and loses
// nothing else.
package strays

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/frame"
)

// Protocol is the name of the streams that this package speaks, for members.
const Protocol = "/holdfast/strays/1"

// A Stream is a connection that proves who is at its other end.
type Stream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// A Store has the branches. An ID stands for what the links of one say.
type Store interface {
	Offered() [][32]byte // what this node passes on
	Links(id [32]byte) [][]byte
	Knows(id [32]byte) bool
	Take(links [][]byte) error // checks them, and makes what they say durable
}

// Config says what a [Passer] works with; all fields but Log are required.
type Config struct {
	Store Store
	Peers func() []string // the members that are connected
	Open  func(ctx context.Context, node string) (Stream, error)
	Log   *slog.Logger
}

// A Passer passes branches on, while Run runs, and takes those of others.
type Passer struct {
	cfg    Config
	taking sync.Mutex // to check links takes time: those of one at once
}

// New returns a Passer.
func New(cfg Config) (*Passer, error) {
	if cfg.Store == nil || cfg.Peers == nil || cfg.Open == nil {
		return nil, errors.New("strays: a field of the config is missing")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Passer{cfg: cfg}, nil
}

// A comparison is three messages, and one for each branch that is wanted.
type (
	offer struct {
		IDs [][32]byte `cbor:"1,keyasint"`
	}
	want struct {
		IDs [][32]byte `cbor:"1,keyasint,omitempty"` // of those that were offered
	}
	gift struct {
		Links [][]byte `cbor:"1,keyasint"`
	}
	thanks struct {
		Taken int `cbor:"1,keyasint,omitempty"` // branches
	}
)

const (
	look     = 5 * time.Second  // between two looks at who is connected, and what there is to say
	every    = 5 * time.Minute  // between offers to a peer that knows all
	again    = 30 * time.Second // to one that does not: what it cannot check yet it can later
	passTime = 20 * time.Second
	maxIDs   = 64

	maxRefused = 3 // branches of one comparison: the chain of this node may not be as long as the other's yet, but to find that out takes time
	maxSmall   = 4 << 10
	maxGift    = 2 << 20
)

// Run offers what there is to all peers, until ctx ends.
func (p *Passer) Run(ctx context.Context) error {
	r := rounds{Passer: p, due: map[string]time.Time{}, busy: map[string]bool{}}
	defer r.work.Wait()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		r.begin(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// rounds are the offers of a Passer to its peers, at most one to each at a time.
type rounds struct {
	*Passer
	work  sync.WaitGroup
	shown [][32]byte // what there was last

	mu   sync.Mutex
	due  map[string]time.Time // of the next offer, by peer
	busy map[string]bool
}

// begin makes the offers whose time has come: to who has just connected, to all when there
// is something else to offer than before, and every now and then.
func (r *rounds) begin(ctx context.Context) {
	ids := r.cfg.Store.Offered()
	if !slices.Equal(ids, r.shown) {
		clear(r.due)
	}
	if r.shown = ids; len(ids) == 0 {
		return
	}
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
		if r.busy[node] || now.Before(r.due[node]) {
			continue
		}
		r.busy[node], r.due[node] = true, now.Add(again)
		r.work.Go(func() {
			known, err := r.Pass(ctx, node)
			if err != nil && ctx.Err() == nil {
				r.cfg.Log.Debug("whom operators have removed on another side is not passed on", "node", node, "err", err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if delete(r.busy, node); known && now.Before(r.due[node]) {
				r.due[node] = now.Add(every)
			}
		})
	}
}

// Pass offers a peer what there is, and gives it what it lacks. It tells whether that was
// nothing.
func (p *Passer) Pass(ctx context.Context, node string) (known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, passTime)
	defer cancel()
	conn, err := p.cfg.Open(ctx, node)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	if known, err = p.pass(conn); err != nil {
		return false, fmt.Errorf("pass on to node %s whom operators have removed: %w", node, err)
	}
	return known, nil
}

func (p *Passer) pass(conn Stream) (known bool, err error) {
	ids := p.cfg.Store.Offered()
	ids = ids[:min(len(ids), maxIDs)]
	if err := frame.Write(conn, offer{ids}); err != nil {
		return false, err
	}
	var w want
	if err := frame.Read(conn, maxSmall, &w); err != nil {
		return false, err
	}
	if !wanted(ids, w.IDs) {
		return false, fmt.Errorf("%w: it wants what was not offered", frame.ErrForm)
	}
	for _, id := range w.IDs {
		if err := frame.Write(conn, gift{p.cfg.Store.Links(id)}); err != nil {
			return false, err
		}
	}
	return len(w.IDs) == 0, frame.Read(conn, maxSmall, &thanks{})
}

// wanted tells whether what is wanted is a part of what was offered, in its order.
func wanted(offered, want [][32]byte) bool {
	for _, id := range want {
		i := slices.Index(offered, id)
		if i < 0 {
			return false
		}
		offered = offered[i+1:]
	}
	return true
}

// Serve takes what a member offers that opened a stream.
func (p *Passer) Serve(ctx context.Context, node string, conn Stream) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.SetDeadline(time.Now().Add(passTime))
	if err := p.take(conn); err != nil {
		return fmt.Errorf("hear from node %s whom operators have removed: %w", node, err)
	}
	return nil
}

func (p *Passer) take(conn Stream) error {
	var o offer
	if err := frame.Read(conn, maxSmall, &o); err != nil {
		return err
	}
	if len(o.IDs) > maxIDs {
		return fmt.Errorf("%w: %d branches, want at most %d", frame.ErrForm, len(o.IDs), maxIDs)
	}
	w := want{slices.DeleteFunc(slices.Clone(o.IDs), p.cfg.Store.Knows)}
	if err := frame.Write(conn, w); err != nil {
		return err
	}
	var refused []error
	for range w.IDs {
		var g gift
		if err := frame.Read(conn, maxGift, &g); err != nil {
			return err
		}
		p.taking.Lock()
		err := p.cfg.Store.Take(g.Links)
		p.taking.Unlock()
		if err != nil {
			refused = append(refused, err)
		}
		if len(refused) > maxRefused {
			return errors.Join(refused...)
		}
	}
	refused = append(refused, frame.Write(conn, thanks{len(w.IDs) - len(refused)}))
	return errors.Join(refused...)
}
