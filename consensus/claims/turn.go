package claims

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// Elsewhere says what became of a slot that another node had.
type Elsewhere struct {
	Node  string // its ID
	State string // [ledger.Ended], [ledger.Failed], or [ledger.Running] at the end of the wait
	Fence ledger.Fence
}

func (e *Elsewhere) Error() string { return fmt.Sprintf("node %s had it: %s", e.Node, e.State) }

// ErrNotYet says that a slot has not come by the clock of who leads.
var ErrNotYet = errors.New("its time has not come by the clock of the leader: the clock of this node is fast")

const (
	lookAgain = 5 * time.Second  // at a slot that another node has
	tryAgain  = 20 * time.Second // to claim one when nobody leads
)

// Turn does a slot of a job when it is this node's turn: at once if it comes first
// among all that could do it, or had the job last, else [Step] later for each one
// before it. It waits for the end of a run elsewhere, and takes over if that is
// lost, or has stalled. A run that fails, here or elsewhere, is the end of its slot;
// one that was lost is not, and one that has stalled only for this node. Until it is claimed by somebody, Turn goes on until the time until;
// without a quorum nobody can, and its error says so.
//
// What do writes is to carry the fence; see [Claims.Hold].
func (c *Claims) Turn(ctx context.Context, job string, slot, until time.Time, all []Candidate, do func(ctx context.Context, fence ledger.Fence) error) error {
	wait, is := Wait(c.Next(job, all), c.self.NodeID())
	if !is {
		return fmt.Errorf("claim %s: this node is none of those that could do it", job)
	}
	for {
		other, decided := c.decided(job, slot)
		switch {
		case decided:
			return other
		case other != nil && time.Now().After(until):
			return other // it goes on there, and the next slot comes here
		case other != nil:
			wait = lookAgain
		case wait == 0:
			err, again := c.try(ctx, job, slot, do)
			if !again || !time.Now().Before(until) {
				return err
			}
			wait = tryAgain
			if errors.As(err, new(*Taken)) || errors.Is(err, ErrDone) || errors.Is(err, ErrLost) {
				wait = lookAgain
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
			wait = 0
		}
	}
}

// Next is the order in which those that could do a job try it: who had it last comes first,
// since it has most of what the job needs, and who got nowhere with it last.
func (c *Claims) Next(job string, all []Candidate) []string {
	order := Order(job, all)
	var last ledger.Claim
	for _, row := range ledger.Claims.All(c.cfg.Client.Ledger.View()) {
		if b := row.Body; b.Job == job && b.Fence.Compare(last.Fence) > 0 {
			last = b
		}
	}
	i := slices.Index(order, last.Owner.NodeID())
	switch {
	case i < 0 || last.State == ledger.Lost:
	case last.State == ledger.Stalled:
		order = append(slices.Delete(order, i, i+1), last.Owner.NodeID())
	default:
		order = slices.Insert(slices.Delete(order, i, i+1), 0, last.Owner.NodeID())
	}
	return order
}

// Before returns the newest slot before one that was decided: done, or failed. One
// whose run was lost, or has stalled, was not: if there is no other, Before returns the time before the
// first such. Zero if no slot is known. Whoever has a claim of the job asks when no
// other runs, so that it is all there is to know.
func (c *Claims) Before(job string, slot time.Time) (before time.Time) {
	var lost time.Time // the first
	for _, row := range ledger.Claims.All(c.cfg.Client.Ledger.View()) {
		b, at := row.Body, time.Unix(row.Body.Slot, 0).UTC()
		if b.Job != job || !at.Before(slot) {
			continue
		}
		if decided := b.State == ledger.Ended || b.State == ledger.Failed; decided && at.After(before) {
			before = at
		} else if !decided && (lost.IsZero() || at.Before(lost)) {
			lost = at
		}
	}
	if before.IsZero() && !lost.IsZero() {
		return lost.Add(-time.Second)
	}
	return before
}

// caughtUp waits until this node knows of a claim of its own, and so of all before.
func (c *Claims) caughtUp(ctx context.Context, f ledger.Fence) error {
	for l := c.cfg.Client.Ledger; ; {
		v := l.View()
		if v.Index() >= f.Index {
			return nil
		}
		if _, err := l.Wait(ctx, v, ledger.Claims); err != nil {
			return fmt.Errorf("wait for the ledger: %w", context.Cause(ctx))
		}
	}
}

// try claims a slot and does it, and tells whether that is worth another try.
func (c *Claims) try(ctx context.Context, job string, slot time.Time, do func(context.Context, ledger.Fence) error) (err error, again bool) {
	began := false
	err = c.Slot(ctx, job, slot, func(ctx context.Context, f ledger.Fence) error {
		if err := c.caughtUp(ctx, f); err != nil {
			return err
		}
		began = true
		return do(ctx, f)
	})
	lost := errors.Is(err, ErrLost)
	return err, err != nil && (!began || lost) && ctx.Err() == nil
}

// decided says who has, or had, a slot, as far as it is known here: nil if nobody
// has, or has lost it or left it. It is decided when that run has ended.
func (c *Claims) decided(job string, slot time.Time) (other *Elsewhere, decided bool) {
	row, is := ledger.Claims.Get(c.cfg.Client.Ledger.View(), ledger.ClaimKey(job, slot.Unix()))
	b := row.Body
	if !is || b.State == ledger.Lost || b.State == ledger.Stalled || b.Owner == c.self && b.State != ledger.Ended {
		return nil, false
	}
	return &Elsewhere{b.Owner.NodeID(), b.State, b.Fence}, b.State != ledger.Running
}
