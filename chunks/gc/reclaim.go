package gc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// reclaim gives back the space of everything condemned, also by cycles that
// were interrupted. It comes after sweep, so all of it is durably condemned:
// if a crash could forget that, a client might be told that bytes are here
// which are not. A pack that fails does not keep the others from being done.
func (y *cycle) reclaim(ctx context.Context) error {
	work, err := y.measure(y.c.cfg.Store.Condemned())
	if err != nil {
		return err
	}
	var failed []error
	for i, p := range work.Packs {
		if p.Method == pack.Keep {
			break // the rest is kept as well
		}
		y.progress("reclaim", i, len(work.Packs))
		if ctx.Err() != nil {
			break
		}
		moved, err := y.reclaimPack(ctx, p)
		if err == nil {
			y.rest(ctx, moved)
		} else if ctx.Err() == nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(append(failed, ctx.Err())...)
}

// reclaimPack does one pack and returns the bytes that it freed or copied.
func (y *cycle) reclaimPack(ctx context.Context, p PackPlan) (moved int64, err error) {
	got, err := y.c.cfg.Store.Reclaim(ctx, p.Pack, p.Method, y.c.switchover)
	y.report.RemovedChunks += int64(got.Entries)
	y.report.RemovedBytes += got.FreedBytes
	y.report.CopiedBytes += got.CopiedBytes
	if err != nil {
		return 0, fmt.Errorf("reclaim pack %d by %s: %w", p.Pack, p.Method, err)
	}
	return got.FreedBytes + got.CopiedBytes, nil
}

// rest waits as long as the limits ask after moved bytes, or until ctx ends.
func (y *cycle) rest(ctx context.Context, moved int64) {
	wait := y.options.Pause
	if y.options.RateBytes > 0 {
		wait += time.Duration(float64(moved) / float64(y.options.RateBytes) * float64(time.Second))
	}
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// switchover lets a store give live chunks another place. Whoever pinned the
// old place pins the new one before anyone can be told of it. The old pin
// stays: a crash may bring back the old pack, and if not, its number is never
// used again.
//
// Pins that are durable stay so across the move: they are journaled before
// the switch, outside the gate, because that takes an fsync. What sessions
// make durable between that and the switch is rare, and done inside.
func (c *Collector) switchover(moves []pack.Move, apply func()) {
	if c.carry(moves) {
		c.saveMoved()
	}
	c.gate.Lock()
	defer c.gate.Unlock()
	if c.carry(moves) {
		c.saveMoved()
	}
	apply()
}

// Relocate is for stores that give live chunks another place outside of a
// collection, as a cloud tier does: it pins the new places of what is pinned,
// and calls apply while nobody looks up, pins or sweeps.
func (c *Collector) Relocate(moves []pack.Move, apply func()) { c.switchover(moves, apply) }

// carry pins the new place of every move whose old place is pinned, and
// reports whether a lease has the old place in the journal. Only sessions have
// pins: those kept beyond their session ended with the sweep before.
func (c *Collector) carry(moves []pack.Move) (durable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sessions {
		s.mu.Lock()
		for _, m := range moves {
			if s.pins.Has(m.Old) && !s.pins.Has(m.New) {
				s.add(m.New)
				durable = durable || s.recorded && !s.fresh.Has(m.Old)
			}
		}
		s.mu.Unlock()
	}
	return durable
}

// saveMoved makes the pins of recorded leases durable. If the journal fails,
// nothing but the memory of a crashed session suffers.
func (c *Collector) saveMoved() {
	for _, s := range c.open() {
		s.mu.Lock()
		recorded := s.recorded
		s.mu.Unlock()
		if !recorded {
			continue
		}
		if err := c.records.save(s); err != nil {
			c.cfg.Log.Warn("pins of moved chunks were not saved", "err", err)
			return
		}
	}
}
