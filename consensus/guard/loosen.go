package guard

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// A Request asks a node to loosen its guard: to lower a floor to Floor, to lift
// the block of Unblock, or to empty the trash for a day though the ledger was not
// heard of for long. Operators sign it for one node.
type Request struct {
	ID      [16]byte              `cbor:"1,keyasint"`
	Cluster [16]byte              `cbor:"2,keyasint"`
	Node    authority.Key         `cbor:"3,keyasint"`
	Floor   *Floor                `cbor:"4,keyasint,omitempty"`
	Unblock string                `cbor:"5,keyasint,omitempty"`
	Reason  string                `cbor:"6,keyasint"`
	Sigs    []authority.Signature `cbor:"7,keyasint,omitempty"`
	Sweep   bool                  `cbor:"8,keyasint,omitempty"`
}

// Signed is what operators sign of a request.
func (r Request) Signed() []byte {
	r.Sigs = nil
	return append([]byte("holdfast/guard-request/1\x00"), canon.Encode(r)...)
}

// The delays, by the guard's own clock.
const (
	FloorDelay = 14 * 24 * time.Hour
	BlockDelay = 0
)

func (r Request) delay() time.Duration {
	if r.Floor != nil {
		return FloorDelay
	}
	return BlockDelay
}

// wishes is for how many things a request is.
func (r Request) wishes() (n int) {
	for _, is := range []bool{r.Floor != nil, r.Unblock != "", r.Sweep} {
		if is {
			n++
		}
	}
	return n
}

// maxAge bounds the age of a floor in seconds: one of more cannot be said in words.
const maxAge = int64(math.MaxInt64 / time.Second)

// Check refuses a request that is for nothing, for several things at once, or for a
// floor that is none: who signs would read something else than what they sign.
func (r Request) Check() error {
	if r.wishes() != 1 {
		return errors.New("loosen the guard: the request is for a floor, for a block or for the trash, and for one of them")
	}
	if f := r.Floor; f != nil && (f.Scope == "" || f.MinAge < 0 || f.MinAge > maxAge || f.MinCopies < 0 || f.LockUntil < 0) {
		return fmt.Errorf("loosen the guard: a floor of %q with an age of %d s, %d copies and locked until %d is none", f.Scope, f.MinAge, f.MinCopies, f.LockUntil)
	}
	return nil
}

// SweepTime is how long the trash may be emptied after a request for it.
const SweepTime = 24 * time.Hour

// A Pending loosening waits until the guard's clock shows Due.
type Pending struct {
	Request Request
	Due     int64
}

// Ask takes a request of the operators: it is noted, and counts when its delay
// is over and [Guard.Settle] is called.
func (g *Guard) Ask(chain *authority.Chain, self authority.Key, r Request) error {
	if err := chain.Approved(r.Signed(), r.Sigs); err != nil {
		return fmt.Errorf("loosen the guard: %w", err)
	}
	switch {
	case r.Cluster != chain.Cluster() || r.Node != self:
		return held("", "the request is for another node or cluster")
	}
	if err := r.Check(); err != nil {
		return err
	}
	return g.add("operators", kindAsk, r)
}

// Pending returns the loosenings that wait, the next one first.
func (g *Guard) Pending() (list []Pending) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.s.asked {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Pending) int {
		if a.Due != b.Due {
			return int(max(-1, min(1, a.Due-b.Due)))
		}
		return slices.Compare(a.Request.ID[:], b.Request.ID[:])
	})
	return list
}

// Veto ends a loosening that waits.
func (g *Guard) Veto(actor string, v Veto) error { return g.add(actor, kindVeto, v) }

// Settle makes the loosenings count whose delay is over.
func (g *Guard) Settle() error {
	for _, p := range g.Pending() {
		if p.Due > g.Clock() {
			return nil
		}
		if err := g.add("", kindLoosen, Loosened{p.Request.ID}); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) ask(r Request, e entry) error {
	if _, waits := s.asked[r.ID]; waits || s.done[r.ID] {
		return held("sign a new request", "the request was made before")
	}
	s.asked[r.ID] = Pending{r, e.Clock + int64(r.delay()/time.Second)}
	return nil
}

// settle ends the waiting of a request.
func (s *state) settle(id [16]byte) error {
	if _, waits := s.asked[id]; !waits {
		return held("", "no request %x waits", id[:4])
	}
	delete(s.asked, id)
	s.done[id] = true
	return nil
}

func (s *state) loosen(l Loosened, e entry) error {
	p, waits := s.asked[l.ID]
	if waits && e.Clock < p.Due {
		return held("", "the request waits for another %s", time.Duration(p.Due-e.Clock)*time.Second)
	}
	if err := s.settle(l.ID); err != nil {
		return err
	}
	switch r := p.Request; {
	case r.Floor != nil:
		s.floors[r.Floor.Scope] = *r.Floor
	case r.Sweep:
		s.sweep = e.Clock + int64(SweepTime/time.Second)
	default:
		delete(s.blocks, r.Unblock)
	}
	return nil
}
