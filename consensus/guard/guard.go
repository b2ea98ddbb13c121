// Package guard is what one node has promised itself: which cluster it belongs
// to, how old a snapshot must be before it may go, whom it keeps out, and how
// far claims and feeds were. No command of the cluster goes below it.
//
// The guard only tightens. Anybody with the right may lengthen a floor, block a
// node or trip the breaker, at once, also without a quorum. To loosen a floor
// or lift a block takes the signatures of the operators, and then a delay by
// this node's own clock, in which it can be vetoed here.
//
// It is a file of entries, each with the hash of the one before, synced before
// it counts, in two copies. A copy that was damaged or cut off is made again
// from the other. Both cannot be repaired if both are damaged: then this node
// does not start, rather than promise less. How far the guard was stands in a
// third file, beside the directory and not in it: files that are gone, were cut
// off, or are another node's are found out by it.
//
// The guard has a clock of its own, which goes on while the node runs, and by
// at most a day while it does not: to set the machine's clock ahead ends no
// delay.
package guard

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// The kinds of entry. Numbers are never used again.
const (
	kindChain  uint8 = 1 // body [Chain]
	kindFloor  uint8 = 2 // body [Floor]
	kindBlock  uint8 = 3 // body [Block]
	kindFence  uint8 = 4 // body [Fence]
	kindClock  uint8 = 5 // no body: only the time
	kindTrip   uint8 = 6 // body [Trip]
	kindAsk    uint8 = 7 // body [Request]: a loosening that waits
	kindVeto   uint8 = 8 // body [Veto]
	kindLoosen uint8 = 9 // body [Loosened]: one that has waited and counts
)

// An entry is what the file holds.
type entry struct {
	Seq   uint64   `cbor:"1,keyasint"`
	Prev  [32]byte `cbor:"2,keyasint"`
	Clock int64    `cbor:"3,keyasint"` // of the guard, in seconds
	Wall  int64    `cbor:"4,keyasint"` // of the machine, Unix seconds
	Actor string   `cbor:"5,keyasint,omitempty"`
	Kind  uint8    `cbor:"6,keyasint"`
	Body  []byte   `cbor:"7,keyasint,omitempty"`
}

// The bodies of entries.
type (
	// A Chain is how far this node has followed the authority chain. It only
	// gets longer, and the genesis stays.
	Chain struct {
		Genesis     [32]byte `cbor:"1,keyasint"`
		Length      uint64   `cbor:"2,keyasint"`
		Head        [32]byte `cbor:"3,keyasint"`
		Incarnation uint64   `cbor:"4,keyasint"`
		Shared      uint64   `cbor:"5,keyasint,omitempty"` // in an entry: links that it has in common with the one whose place it takes; 0: all of them
	}
	// A Floor is what retention may not go below in a scope: a store, or a
	// store and namespace.
	Floor struct {
		Scope     string `cbor:"1,keyasint"`
		MinAge    int64  `cbor:"2,keyasint,omitempty"` // seconds
		MinCopies int    `cbor:"3,keyasint,omitempty"`
		LockUntil int64  `cbor:"4,keyasint,omitempty"` // Unix seconds
	}
	// A Block keeps a node, token or key out.
	Block struct {
		What   string `cbor:"1,keyasint"` // "node 12D3…", "token op@pbs!x"
		Reason string `cbor:"2,keyasint,omitempty"`
	}
	// A Fence is the greatest that was seen of a job.
	Fence struct {
		Job         string `cbor:"1,keyasint"`
		Incarnation uint64 `cbor:"2,keyasint"`
		Index       uint64 `cbor:"3,keyasint"`
	}
	// A Trip opens the breaker, which stops all deletion; Close, by a person,
	// ends that.
	Trip struct {
		Reason string `cbor:"1,keyasint"`
		Close  bool   `cbor:"2,keyasint,omitempty"`
	}
	// A Veto ends a loosening that waits.
	Veto struct {
		ID     [16]byte `cbor:"1,keyasint"`
		Reason string   `cbor:"2,keyasint,omitempty"`
	}
	// A Loosened is a loosening whose time has come.
	Loosened struct {
		ID [16]byte `cbor:"1,keyasint"`
	}
)

var (
	// ErrHeld is what every refusal is: the guard promised otherwise.
	ErrHeld = errors.New("held by the guard of this node")
	// ErrDamaged is a file that cannot be trusted.
	ErrDamaged = errors.New("the guard file is damaged")
)

// An Error is an error with a known cure.
type Error struct {
	Err  error
	Cure string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint says what an operator can do about it.
func (e *Error) Hint() string { return e.Cure }

func held(cure, format string, args ...any) error {
	return &Error{fmt.Errorf("%w: %s", ErrHeld, fmt.Sprintf(format, args...)), cure}
}

// Config says where the guard is.
type Config struct {
	Dir string // required
	Now func() time.Time
	Ran func() time.Duration // since any beginning, whatever is done to the clock; default: by the monotonic part of Now
}

// A Guard is open. Its methods may be called concurrently, and return when
// what they say is durable.
type Guard struct {
	now func() time.Time
	ran func() time.Duration // since it was opened

	mu     sync.Mutex
	head   string // path
	copies [2]*file
	broken error
	s      state
	base   int64 // of the guard's clock when it was opened
	pace   pace
	jumped bool // what is newest in pace is in no entry yet
}

// state is what the entries come to.
type state struct {
	seq    uint64
	prev   [32]byte
	clock  int64
	wall   int64
	began  int64 // the machine's clock at the first entry, when the guard's began
	chain  Chain
	floors map[string]Floor
	blocks map[string]Block
	fences map[string]Fence
	trip   *Trip
	looked int64 // the machine's clock when a person closed the breaker last
	sweep  int64 // the guard's clock until which the trash may be emptied without a quorum
	asked  map[[16]byte]Pending
	done   map[[16]byte]bool // requests that were loosened or vetoed

	followed []reached // how the chain got longer
}

// reached is when, by the guard's clock, the authority chain had a length.
type reached struct {
	length uint64
	clock  int64
}

// maxSleep is how far the clock goes at most while the node does not run.
const maxSleep = 24 * time.Hour

// Open opens the guard of a node, or makes it.
func Open(cfg Config) (*Guard, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	opened := cfg.Now() // with its monotonic part
	if cfg.Ran == nil {
		cfg.Ran = func() time.Duration { return cfg.Now().Sub(opened) }
	}
	before := cfg.Ran()
	g := &Guard{now: cfg.Now, ran: func() time.Duration { return cfg.Ran() - before }, head: HeadOf(cfg.Dir)}
	entries, err := g.load(filepath.Join(cfg.Dir, "guard.1"), filepath.Join(cfg.Dir, "guard.2"))
	if err != nil {
		return nil, fmt.Errorf("open the guard in %s: %w", cfg.Dir, err)
	}
	g.s = newState()
	if err := g.whole(entries); err != nil {
		return nil, errors.Join(fmt.Errorf("open the guard in %s: %w", cfg.Dir, err), g.Close())
	}
	for _, e := range entries {
		if err := g.s.replay(e); err != nil {
			return nil, errors.Join(fmt.Errorf("open the guard in %s: %w: %w", cfg.Dir, ErrDamaged, err), g.Close())
		}
		g.pace.note(sample{g.s.clock, g.s.wall})
	}
	asleep := max(0, min(opened.Unix()-g.s.wall, int64(maxSleep/time.Second)))
	if g.s.seq == 0 {
		asleep = 0
	}
	g.base = g.s.clock + asleep
	g.jumped = g.pace.note(sample{g.base, opened.Unix()})
	return g, nil
}

func newState() state {
	return state{
		floors: map[string]Floor{}, blocks: map[string]Block{}, fences: map[string]Fence{},
		asked: map[[16]byte]Pending{}, done: map[[16]byte]bool{},
	}
}

// Clock is the guard's own time, in seconds. It never goes back.
func (g *Guard) Clock() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.clock()
}

func (g *Guard) clock() int64 {
	return max(g.s.clock, g.base+max(0, int64(g.ran()/time.Second)))
}

// Tick makes the time durable. It is to be called every hour.
func (g *Guard) Tick() error { return g.add("", kindClock, nil) }

// add writes an entry to both copies.
func (g *Guard) add(actor string, kind uint8, body any) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.write(actor, kind, body)
}

func (g *Guard) write(actor string, kind uint8, body any) error {
	if g.broken != nil {
		return g.broken
	}
	e := entry{Seq: g.s.seq + 1, Prev: g.s.prev, Clock: g.clock(), Wall: g.now().Unix(), Actor: actor, Kind: kind}
	if body != nil {
		e.Body = canon.Encode(body)
	}
	next := g.s.clone()
	if err := next.replay(canon.Encode(e)); err != nil {
		return err
	}
	for _, f := range g.copies {
		if err := f.append(canon.Encode(e)); err != nil {
			// A copy may hold the entry and the other not. What counts is found
			// out by opening it again; until then nothing may be promised.
			g.broken = fmt.Errorf("write the guard: %w", err)
			return g.broken
		}
	}
	g.s, g.jumped = next, false
	if g.pace.note(sample{e.Clock, e.Wall}); kind == kindClock {
		return nil // every hour: nothing that was promised
	}
	if g.broken = writeHead(g.head, next); g.broken != nil {
		g.broken = fmt.Errorf("write the guard: %w", g.broken)
	}
	return g.broken
}

func (s state) clone() state {
	s.floors, s.blocks, s.fences = maps.Clone(s.floors), maps.Clone(s.blocks), maps.Clone(s.fences)
	s.asked, s.done = maps.Clone(s.asked), maps.Clone(s.done)
	return s
}

// replay makes s what it is behind an entry. It refuses what could never have
// been written: a guard that was edited by hand.
func (s *state) replay(b []byte) error {
	var e entry
	if err := canon.Decode(b, &e); err != nil {
		return err
	}
	if e.Seq != s.seq+1 || e.Prev != s.prev || e.Clock < s.clock {
		return fmt.Errorf("entry %d does not follow entry %d", e.Seq, s.seq)
	}
	if err := s.apply(e); err != nil {
		return err
	}
	if e.Seq == 1 {
		s.began = e.Wall - e.Clock
	}
	s.seq, s.prev, s.clock, s.wall = e.Seq, canon.Sum(b), e.Clock, e.Wall
	return nil
}

func body[T any](e entry, do func(T) error) error {
	var v T
	if err := canon.Decode(e.Body, &v); err != nil {
		return err
	}
	return do(v)
}

func (s *state) apply(e entry) error {
	switch e.Kind {
	case kindChain:
		return body(e, func(c Chain) error { return s.follow(c, e.Clock) })
	case kindFloor:
		return body(e, func(f Floor) error {
			s.floors[f.Scope] = s.floors[f.Scope].with(f)
			return nil
		})
	case kindBlock:
		return body(e, func(b Block) error { s.blocks[b.What] = b; return nil })
	case kindFence:
		return body(e, s.fence)
	case kindClock:
		return nil
	case kindTrip:
		return body(e, func(t Trip) error {
			if s.trip = &t; t.Close {
				s.trip, s.looked = nil, e.Wall
			}
			return nil
		})
	case kindAsk:
		return body(e, func(r Request) error { return s.ask(r, e) })
	case kindVeto:
		return body(e, func(v Veto) error { return s.settle(v.ID) })
	case kindLoosen:
		return body(e, func(l Loosened) error { return s.loosen(l, e) })
	}
	return fmt.Errorf("entry %d is of the kind %d, which this program does not know", e.Seq, e.Kind)
}

// with is a floor that holds what both hold.
func (f Floor) with(g Floor) Floor {
	return Floor{g.Scope, max(f.MinAge, g.MinAge), max(f.MinCopies, g.MinCopies), max(f.LockUntil, g.LockUntil)}
}

func (s *state) follow(c Chain, clock int64) error {
	was := s.chain
	switch {
	case was.Length > 0 && c.Genesis != was.Genesis:
		return held("this node belongs to one cluster; to put it into another, begin with an empty data directory", "the genesis of another cluster")
	case c.Shared > 0 && c.Shared < was.Length && c.Shared < c.Length && c.Incarnation >= was.Incarnation:
		s.followed = slices.DeleteFunc(slices.Clone(s.followed), func(r reached) bool { return r.length > c.Shared })
	case c.Shared > 0, c.Length < was.Length, c.Length == was.Length && c.Head != was.Head, c.Incarnation < was.Incarnation:
		return held("", "an authority chain of %d links in incarnation %d, after one of %d in %d", c.Length, c.Incarnation, was.Length, was.Incarnation)
	}
	c.Shared = 0
	s.chain = c
	s.followed = append(slices.Clip(s.followed), reached{c.Length, clock})
	return nil
}

func (s *state) fence(f Fence) error {
	was := s.fences[f.Job]
	if f.Incarnation < was.Incarnation || f.Incarnation == was.Incarnation && f.Index < was.Index {
		return held("", "the run of job %q was superseded: its fence is %d.%d, one of %d.%d was seen", f.Job, f.Incarnation, f.Index, was.Incarnation, was.Index)
	}
	s.fences[f.Job] = f
	return nil
}

// Follow notes that this node believes a chain; it is to be called by the Save
// of an [authority.KeeperConfig].
func (g *Guard) Follow(c *authority.Chain) error {
	next := chainOf(c)
	if g.Chain() == next {
		return nil
	}
	return g.add("", kindChain, next)
}

// Part is Follow of another branch, which shares so many links with the one that this
// node has followed, and is in no earlier incarnation.
func (g *Guard) Part(c *authority.Chain, shared uint64) error {
	next := chainOf(c)
	if g.Chain() == next {
		return nil
	}
	next.Shared = shared
	return g.add("", kindChain, next)
}

func chainOf(c *authority.Chain) Chain {
	length, head := c.Head()
	return Chain{Genesis: c.GenesisHash(), Length: length, Head: head, Incarnation: c.Incarnation()}
}

// Chain returns how far this node has followed the authority chain.
func (g *Guard) Chain() Chain {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.s.chain
}

// KnownFor is for how long, by the guard's clock, this node has known the links of
// the authority chain that it has up to a length; zero if it has fewer.
func (g *Guard) KnownFor(length uint64) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.s.followed {
		if r.length >= length {
			return time.Duration(g.clock()-r.clock) * time.Second
		}
	}
	return 0
}

// Raise raises a floor; what is lower in f than the present one stays.
func (g *Guard) Raise(actor string, f Floor) error {
	if g.Floor(f.Scope).with(f) == g.Floor(f.Scope) {
		return nil
	}
	return g.add(actor, kindFloor, f)
}

// Floor returns the floor of a scope.
func (g *Guard) Floor(scope string) Floor {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.s.floors[scope]
	f.Scope = scope
	return f
}

// Block keeps somebody out from now on.
func (g *Guard) Block(actor string, b Block) error {
	if g.Blocked(b.What) {
		return nil
	}
	return g.add(actor, kindBlock, b)
}

// Explain changes the reason for which somebody is kept out, and nothing else.
func (g *Guard) Explain(b Block) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if was, is := g.s.blocks[b.What]; !is || was == b {
		return nil
	}
	return g.write("", kindBlock, b)
}

// BlocksAny tells whether anybody is kept out.
func (g *Guard) BlocksAny() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.s.blocks) > 0
}

// Blocked tells whether somebody is kept out.
func (g *Guard) Blocked(what string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, is := g.s.blocks[what]
	return is
}

// Pass lets a run with a fence go on, and every run with an older one not
// from then on. It is to be asked before the first effect.
func (g *Guard) Pass(f Fence) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.s.fences[f.Job] == f {
		return g.broken
	}
	return g.write("", kindFence, f)
}

// Trip opens the breaker.
func (g *Guard) Trip(actor, reason string) error {
	return g.add(actor, kindTrip, Trip{Reason: reason})
}

// CloseBreaker closes it; actor is the person who has looked.
func (g *Guard) CloseBreaker(actor, reason string) error {
	if actor == "" || reason == "" {
		return errors.New("close the breaker: it has to be said by whom and why")
	}
	return g.add(actor, kindTrip, Trip{reason, true})
}

// Breaker tells whether the breaker is open, and why.
func (g *Guard) Breaker() (open bool, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.s.trip == nil {
		return false, ""
	}
	return true, g.s.trip.Reason
}

// MayDelete returns nil if a snapshot of an age with so many proven copies
// elsewhere may be deleted.
func (g *Guard) MayDelete(scope string, age time.Duration, copies int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.s.floors[scope]
	switch {
	case g.broken != nil:
		return g.broken
	case g.s.trip != nil:
		return held("look at what was about to be deleted, then close the breaker", "the breaker is open: %s", g.s.trip.Reason)
	case int64(age/time.Second) < f.MinAge:
		return held("", "%s keeps snapshots for %s, this one is %s old", scope, time.Duration(f.MinAge)*time.Second, age.Round(time.Second))
	case copies < f.MinCopies:
		return held("", "%s wants %d copies elsewhere, %d are proven", scope, f.MinCopies, copies)
	case g.trusted() < f.LockUntil:
		return held("", "%s is locked until %s", scope, time.Unix(f.LockUntil, 0).UTC().Format(time.DateTime))
	}
	return nil
}

// trusted is the time in Unix seconds as far as the guard believes it: not
// further from its first entry than its own clock has gone, so that a machine
// whose clock was set ahead keeps its locks.
func (g *Guard) trusted() int64 {
	return min(g.now().Unix(), g.s.began+g.clock())
}
