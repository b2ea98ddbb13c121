package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Share decides whether this node does the work of a slot, which is one of the
// times of a schedule that others have as well. It calls run, at most
// once at a time, or waits until another has done the slot and returns an
// [*Elsewhere], or gives up at until with any other error. The context of the
// work ends with that of run, which is also told which slot before it some node
// had, zero if none is known.
type Share func(ctx context.Context, slot, until time.Time, run func(ctx context.Context, before time.Time) error) error

// A Fence goes with the effects of a run that several nodes could do: whoever runs it
// later has a greater one, and what is written to refuses a smaller one than it has
// seen.
type Fence struct{ Incarnation, Index uint64 }

type fenceKey struct{}

// WithFence gives the work of a [Share] its fence.
func WithFence(ctx context.Context, f Fence) context.Context {
	return context.WithValue(ctx, fenceKey{}, f)
}

// FenceOf returns the fence of work that nodes share.
func FenceOf(ctx context.Context) (f Fence, is bool) {
	f, is = ctx.Value(fenceKey{}).(Fence)
	return f, is
}

// Elsewhere says that another node has done a slot.
type Elsewhere struct {
	Node string // its name
	How  string // "done", "failed"
}

func (e *Elsewhere) Error() string { return fmt.Sprintf("node %s had it: %s", e.Node, e.How) }

// share has a slot of an entry, which is marked as running, done by whoever is to
// do it. started is told of each task here, or why there was none.
func (s *Scheduler) share(st start, auth string, started func(UPID, error)) {
	e, slot := st.entry, st.slot
	var ran, lost bool  // lost: another node may do it now
	var first time.Time // that no node had before this one
	err := s.cfg.Share(e.Name)(s.life, slot, st.until, func(ctx context.Context, before time.Time) error {
		first = s.firstMissed(st, before)
		why := "it was this node's turn for " + slot.UTC().Format(time.RFC3339)
		if auth != "" {
			why = ""
		}
		end := make(chan Info, 1)
		u, err := s.launch(ctx, e, auth, why, slot, func(i Info) { end <- i })
		started(u, err)
		if err != nil {
			return err
		}
		i, stalled := s.await(e, u, end)
		ran, lost = true, ctx.Err() != nil
		if stalled {
			return ErrStalled
		}
		if i.State != OK && i.State != Warning {
			return errors.New(i.Status())
		}
		return nil
	})
	if !ran {
		started(UPID{}, err)
	}
	missed := s.shareEnded(e, slot, ran && !lost, auth != "", err)
	if missed && first.IsZero() {
		if first = st.missed; first.IsZero() {
			first = slot
		}
	}
	if (missed || ran) && !first.IsZero() && s.cfg.Missed != nil {
		last := slot
		if !missed {
			s.mu.Lock()
			last = s.last(e, first, slot.Add(e.when.Delay-time.Second)) // the slot itself was not
			s.mu.Unlock()
		}
		s.cfg.Missed(e.Schedule, first, last)
	}
	s.save()
	s.poke()
}

// firstMissed returns the first slot that no node had before this one, zero if
// there is none.
func (s *Scheduler) firstMissed(st start, before time.Time) time.Time {
	if before.IsZero() {
		return st.missed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	zone := s.zone(st.entry)
	next, due, ok := st.when.Next(before.In(zone))
	_, this, _ := st.when.Next(st.slot.In(zone).Add(-time.Second))
	if ok && next.Before(st.slot) && due.Before(this) { // else both waited for the same window
		return next
	}
	return time.Time{}
}

// shareEnded notes what has become of a slot, and tells whether it was missed.
func (s *Scheduler) shareEnded(e *entry, slot time.Time, ran, asked bool, err error) (missed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.running = e.hung
	if s.life.Err() != nil {
		return false // after a restart the same is asked again
	}
	var other *Elsewhere
	switch {
	case errors.As(err, &other):
		s.note(e, func(r *run) {
			r.Base = later(r.Base, slot)
			r.note(Note{At: s.now(), Slot: slot, Text: "it did not run here: " + err.Error()})
		})
	case ran:
		s.note(e, func(r *run) { r.Base = later(r.Base, slot) })
	case asked:
	case err != nil:
		s.note(e, func(r *run) {
			r.Base = later(r.Base, slot)
			r.note(Note{At: s.now(), Slot: slot, Text: "it did not run here, nor was another node seen to run it: " + err.Error()})
		})
		return true
	}
	return false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// triggerShared runs an entry that is shared now, for auth.
func (s *Scheduler) triggerShared(e *entry, auth string, now time.Time) (UPID, error) {
	type outcome struct {
		u   UPID
		err error
	}
	first := make(chan outcome, 1)
	s.shared.Go(func() {
		s.share(start{entry: e, slot: now, until: now.Add(time.Minute)}, auth, func(u UPID, err error) {
			select {
			case first <- outcome{u, err}:
			default: // it was tried again
			}
		})
	})
	o := <-first
	return o.u, o.err
}
