package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/timing"
)

// Trigger runs a schedule now, for someone, whatever its event, which counts
// from now on, also if it is paused or its window is closed. It fails with
// [ErrNoJob], with [ErrRunning], or as [Manager.Start] does; if others share it,
// also if one of them does it now.
func (s *Scheduler) Trigger(name, auth string) (UPID, error) { return s.Begin(name, auth, "") }

// Begin is Trigger for something that has happened, as why says: at the end of its
// window the run is treated as one that its time has started. Ask [ScheduleStatus]
// first whether it is held.
func (s *Scheduler) Begin(name, auth, why string) (UPID, error) {
	s.mu.Lock()
	e := s.entries[name]
	if e == nil {
		s.mu.Unlock()
		return UPID{}, fmt.Errorf("run %q: %w", name, ErrNoJob)
	}
	if e.running {
		s.mu.Unlock()
		return UPID{}, fmt.Errorf("run %q: %w", name, ErrRunning)
	}
	e.running = true
	now, share := s.now(), e.Shared
	s.mu.Unlock()
	if !share {
		return s.launch(s.life, e, auth, why, time.Time{}, nil)
	}
	return s.triggerShared(e, auth, now)
}

// launch starts the task of an entry that is marked as running, for auth or,
// if that is "", for the schedule's own. That it runs is written down first:
// work that takes the process down with it is not started again at once by
// the next one. why is noted, "" if somebody asked for it. The work of one that
// is shared ends with ctx, and counts as that of its slot however late it is;
// onEnd is told of its end.
func (s *Scheduler) launch(ctx context.Context, e *entry, auth, why string, slot time.Time, onEnd func(Info)) (UPID, error) {
	s.mu.Lock()
	sched := e.Schedule
	if s.entries[sched.Name] != e { // removed since it was found due
		s.mu.Unlock()
		return UPID{}, fmt.Errorf("run %q: %w", sched.Name, ErrNoJob)
	}
	var before, base time.Time
	s.note(e, func(r *run) {
		if before, base = r.Base, s.now().Add(-e.when.Delay); !slot.IsZero() { // a time that came since is one to be seen to
			base = later(before, slot)
		}
		r.Base = base
	})
	s.mu.Unlock()
	s.save()

	started := make(chan struct{}) // closed when the task is noted, before its end is
	if onEnd == nil {              // what runs goes on when Run does not
		ctx = context.WithoutCancel(ctx)
	}
	u, err := s.cfg.Manager.start(ctx, sched.Type, sched.ID, cmp.Or(auth, sched.Auth), sched.Work, func(i Info) {
		<-started
		s.ended(e, i, onEnd)
	})
	s.mu.Lock()
	if e.asked, e.cut = why == "", false; e.asked {
		why = auth + " had asked for it"
	}
	if err != nil {
		e.running, e.hold = onEnd != nil, s.now().Add(lookEvery)
		s.note(e, func(r *run) {
			if r.Base.Equal(base) { // else it was changed meanwhile
				r.Base = before
			}
			r.note(Note{At: s.now(), Text: "it did not run, and is tried again: " + err.Error()})
		})
	} else {
		s.note(e, func(r *run) {
			r.Task, r.End, r.State, r.Cut = &u, time.Time{}, "", ""
			r.note(Note{At: s.now(), Slot: slot, Text: "it ran: " + why, Task: &u})
		})
		close(started)
	}
	s.mu.Unlock()
	s.save()
	if err != nil {
		return UPID{}, fmt.Errorf("run %q: %w", sched.Name, err)
	}
	return u, nil
}

// note changes what is remembered of an entry, unless it was removed
// meanwhile. The caller holds mu.
func (s *Scheduler) note(e *entry, change func(*run)) {
	if s.entries[e.Name] == e {
		r := s.runs[e.Name]
		change(&r)
		s.runs[e.Name] = r
	}
}

// ended notes how the task of an entry ended.
func (s *Scheduler) ended(e *entry, i Info, onEnd func(Info)) {
	s.mu.Lock()
	e.running, e.hung = onEnd != nil && !e.hung, false // until who shares it knows
	s.note(e, func(r *run) {
		r.End, r.State = i.End, i.Status()
		if i.cut != nil {
			r.Cut = timing.Abort
		}
		if errors.Is(i.cut, errClosed) && e.AtEnd == timing.Pause {
			r.Cut = timing.Pause
		}
		r.remember(Ran{i.UPID, i.End, r.State, i.Stats})
		r.note(Note{At: i.End, Text: "it ended: " + r.State, Task: &i.UPID})
	})
	s.mu.Unlock()
	s.save()
	if onEnd != nil {
		onEnd(i)
	}
	s.poke()
}

// save writes what is remembered to the file. A failure is logged: schedules
// go on, and after a restart some may run once more than they should.
func (s *Scheduler) save() {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	runs := maps.Clone(s.runs)
	s.mu.Unlock()
	if err := writeRuns(s.cfg.File, runs); err != nil {
		s.cfg.Log.Error("runs of schedules cannot be remembered", "file", s.cfg.File, "err", err)
	}
}

// poke makes Run look again.
func (s *Scheduler) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// ScheduleStatus is how a schedule stands, as PBS shows jobs (PBS protocol
// notes §7.4).
type ScheduleStatus struct {
	Schedule
	Next    time.Time // zero: never; in the past: it is due, or runs
	Running bool
	Held    bool      // it is paused, or its window is closed: only a person starts it
	Last    *UPID     // nil: it never ran
	End     time.Time // of the last run; zero: it runs, or nobody knows
	State   string    // how the last run ended, as [Info.Status] has it
}

// Status returns how a schedule stands, or [ErrNoJob].
func (s *Scheduler) Status(name string) (ScheduleStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[name]
	if e == nil {
		return ScheduleStatus{}, fmt.Errorf("%q: %w", name, ErrNoJob)
	}
	r := s.runs[name]
	st := ScheduleStatus{Schedule: e.Schedule, Running: e.running, Last: r.Task, End: r.End, State: r.State}
	now := s.now().In(s.zone(e))
	st.Held = e.Paused || !e.Windows.Contain(now)
	switch {
	case e.Paused:
	case r.Cut == timing.Pause:
		st.Next, _ = e.Windows.Open(now)
	default:
		_, st.Next, _ = e.when.Next(r.Base.In(s.zone(e)))
	}
	return st, nil
}
