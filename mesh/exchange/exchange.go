// Package exchange lets nodes have each other's feeds. Who learns that a peer
// has more asks it for what is missing, of whatever origin; every record is
// checked before it is stored, so it does not matter who gives it.
//
// Nothing is pushed, and an idle mesh exchanges nothing: peers gossip a digest
// of the heads that they hold, and a node asks one that has another digest.
// Each pull goes on where the last one ended. What a node signs twice for one
// place in its feed is kept as a proof, shown to everybody who asks, and its
// feed is taken from nobody any more.
package exchange

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
	"github.com/holdfast-mesh/holdfast/mesh/network"
)

// A Peer is a node that can be asked.
type Peer struct {
	Node   string
	Digest uint64 // of the feeds that it holds, [Exchange.Digest]; 0: not known
}

// Config says whose feeds are had from whom.
type Config struct {
	Key      ed25519.PrivateKey       // required: of this node, whose own feed it signs
	Store    *feed.Store              // required
	Network  network.Network          // required
	Member   func(node string) bool   // required: who may ask
	Wanted   func(o feed.Origin) bool // required: whose feed is wanted: members'
	Peers    func() []Peer            // required: who is there now
	Interval time.Duration            // between looks at the digests; default 30 s
	Budget   int64                    // bytes of one origin that are taken at once; more comes back at 64 MiB a day. Default 1 GiB
	Log      *slog.Logger             // default: discard

	// Added is called after records of a feed were stored, also of our own;
	// the next call waits for it. Forked is called once for each proof.
	// Behind is called when a peer has shown more of our own feed than we
	// have: the disk went back, and the next record needs a new epoch.
	// Each may be nil.
	Added  func(feed.Origin, feed.Head)
	Forked func(*feed.Fork)
	Behind func(known feed.Head)
}

// An Exchange gives and takes feeds while [Exchange.Run] runs.
type Exchange struct {
	cfg    Config
	self   feed.Origin
	kicked chan struct{}
	budget budget
	append sync.Mutex // one record of ours at a time

	mu     sync.Mutex
	heads  map[feed.Origin]feed.Head
	forked map[feed.Origin]*feed.Fork
	asked  map[string]bool // nodes to ask
	lost   feed.Head       // the newest head of ours that a peer has and we do not
	served int             // sessions
	counts Counts
}

// Counts is what an exchange has done so far.
type Counts struct {
	Pulls, Failed uint64 // sessions with peers
	Taken, Given  uint64 // records
	BytesTaken    uint64
	Refused       uint64 // records, proofs and requests that were not valid
	Strangers     uint64 // who asked and is no member
	Exhausted     uint64 // pulls that ended since the origin says too much
}

// New reads what is in the store.
func New(cfg Config) (*Exchange, error) {
	switch {
	case len(cfg.Key) != ed25519.PrivateKeySize || cfg.Store == nil || cfg.Network == nil:
		return nil, errors.New("feed exchange: no key, store or network")
	case cfg.Member == nil || cfg.Wanted == nil || cfg.Peers == nil:
		return nil, errors.New("feed exchange: nobody says who is there")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Interval = cmp.Or(cfg.Interval, 30*time.Second)
	cfg.Budget = cmp.Or(cfg.Budget, 1<<30)
	e := &Exchange{
		cfg: cfg, self: feed.OriginOf(cfg.Key), kicked: make(chan struct{}, 1), budget: newBudget(cfg.Budget),
		heads: map[feed.Origin]feed.Head{}, forked: map[feed.Origin]*feed.Fork{}, asked: map[string]bool{},
	}
	origins, err := cfg.Store.Origins()
	if err != nil {
		return nil, err
	}
	for _, o := range origins {
		if e.heads[o], err = cfg.Store.Head(o); err != nil {
			return nil, err
		}
	}
	forks, err := cfg.Store.Forks()
	if err != nil {
		return nil, err
	}
	for _, f := range forks {
		e.forked[f.Origin] = f
	}
	return e, nil
}

// Append adds records to our own feed, all or none, and returns when they are
// durable. If somebody has more of our feed than we have, they begin a new epoch.
func (e *Exchange) Append(records ...feed.Statement) (feed.Head, error) {
	e.append.Lock()
	defer e.append.Unlock()
	return e.add(records)
}

func (e *Exchange) add(records []feed.Statement) (h feed.Head, err error) {
	e.mu.Lock()
	lost, ours := e.lost, e.heads[e.self]
	e.mu.Unlock()
	if ours.Before(lost) {
		h, err = e.cfg.Store.NewEpoch(e.cfg.Key, time.Now(), lost, records...)
	} else {
		h, err = e.cfg.Store.Append(e.cfg.Key, time.Now(), records...)
	}
	if err != nil {
		return feed.Head{}, err
	}
	e.moved(e.self, h)
	return h, nil
}

// Rebase says anew all that holds, and forgets our own feed before that.
func (e *Exchange) Rebase(records []feed.Statement) error {
	e.append.Lock()
	defer e.append.Unlock()
	all, err := feed.Base(records)
	if err != nil {
		return err
	}
	if _, err := e.add(all); err != nil {
		return err
	}
	_, err = e.cfg.Store.Compact(e.self)
	return err
}

// Lost says that our own feed was longer once: the ledger has a checkpoint of
// it. It tells whether that is news.
func (e *Exchange) Lost(known feed.Head) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	fresh := e.heads[e.self].Before(known) && e.lost.Before(known)
	if fresh {
		e.lost = known
	}
	return fresh
}

func (e *Exchange) moved(o feed.Origin, h feed.Head) {
	e.mu.Lock()
	e.heads[o] = h
	e.mu.Unlock()
	if e.cfg.Added != nil {
		e.cfg.Added(o, h)
	}
}

// Heads returns where each feed ends here: what the ledger keeps as a
// checkpoint.
func (e *Exchange) Heads() map[feed.Origin]feed.Head {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.heads)
}

// Digest names what is held here of the feeds that are wanted: nodes with the
// same digest hold the same.
func (e *Exchange) Digest() uint64 {
	sum := sha256.New()
	for _, h := range sorted(e.Heads()) {
		if e.cfg.Wanted(h.origin) && !e.isForked(h.origin) {
			sum.Write(h.bytes())
		}
	}
	return max(binary.BigEndian.Uint64(sum.Sum(nil)), 1)
}

// Forks returns the proofs that are held, ordered by origin.
func (e *Exchange) Forks() []*feed.Fork {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.SortedFunc(maps.Values(e.forked), func(a, b *feed.Fork) int { return bytes.Compare(a.Origin[:], b.Origin[:]) })
}

// Counts returns what was done so far.
func (e *Exchange) Counts() Counts {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts
}

func (e *Exchange) count(f func(*Counts)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.counts)
}

// A Contradiction is a feed that is not the one that a checkpoint names.
type Contradiction struct {
	Origin     feed.Origin
	Checkpoint feed.Head
	Err        error
}

// Compare checks what is held here against a checkpoint of the ledger. behind
// are the origins of which the checkpoint knows more.
func (e *Exchange) Compare(checkpoint map[feed.Origin]feed.Head) (behind []feed.Origin, wrong []Contradiction, err error) {
	for _, h := range sorted(checkpoint) {
		late, err := e.cfg.Store.Check(h.origin, h.Head)
		switch {
		case errors.Is(err, feed.ErrForked):
			wrong = append(wrong, Contradiction{h.origin, h.Head, err})
		case err != nil:
			return nil, nil, err
		case late:
			behind = append(behind, h.origin)
		}
	}
	return behind, wrong, nil
}

// Kick has a node asked soon: it has said that there is more.
func (e *Exchange) Kick(node string) {
	e.mu.Lock()
	e.asked[node] = true
	e.mu.Unlock()
	select {
	case e.kicked <- struct{}{}:
	default:
	}
}

// Run gives and takes until ctx ends.
func (e *Exchange) Run(ctx context.Context) error {
	l, err := e.cfg.Network.Listen(network.ServiceFeeds)
	if err != nil {
		return fmt.Errorf("start feed exchange: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	g.Go(func() error { return e.serve(ctx, l) })
	g.Go(func() error { return e.pullAll(ctx) })
	return g.Wait()
}

// pullAll asks peers, one after the other, until ctx ends.
func (e *Exchange) pullAll(ctx context.Context) error {
	look := time.NewTimer(time.Second)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.kicked:
		case <-look.C:
			e.lookAround()
			look.Reset(e.cfg.Interval*3/4 + rand.N(e.cfg.Interval/2))
		}
		for {
			node := e.next()
			if node == "" || ctx.Err() != nil {
				break
			}
			if err := e.Pull(ctx, node); err != nil && ctx.Err() == nil {
				e.cfg.Log.Debug("feeds were not pulled", "node", node, "error", err)
			}
		}
	}
}

// lookAround has one of the peers asked that hold something else.
func (e *Exchange) lookAround() {
	digest := e.Digest()
	others := slices.DeleteFunc(slices.Clone(e.cfg.Peers()), func(p Peer) bool { return p.Digest == digest })
	if len(others) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked[others[rand.IntN(len(others))].Node] = true
}

func (e *Exchange) next() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for node := range e.asked {
		delete(e.asked, node)
		return node
	}
	return ""
}

// A placed is a head and whose feed it is of.
type placed struct {
	origin feed.Origin
	feed.Head
}

func sorted(heads map[feed.Origin]feed.Head) []placed {
	all := make([]placed, 0, len(heads))
	for o, h := range heads {
		all = append(all, placed{o, h})
	}
	slices.SortFunc(all, func(a, b placed) int { return bytes.Compare(a.origin[:], b.origin[:]) })
	return all
}
