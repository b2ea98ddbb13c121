package jobs

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"time"
)

// Trigger runs a schedule now, for someone, whatever its event, which counts
// from now on. It fails with [ErrNoJob], with [ErrRunning], or as
// [Manager.Start] does.
func (s *Scheduler) Trigger(name, auth string) (UPID, error) {
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
	s.mu.Unlock()
	return s.launch(e, auth)
}

// launch starts the task of an entry that is marked as running, for auth or,
// if that is "", for the schedule's own. That it runs is written down first:
// work that takes the process down with it is not started again at once by
// the next one.
func (s *Scheduler) launch(e *entry, auth string) (UPID, error) {
	s.mu.Lock()
	sched := e.Schedule
	if s.entries[sched.Name] != e { // removed since it was found due
		s.mu.Unlock()
		return UPID{}, fmt.Errorf("run %q: %w", sched.Name, ErrNoJob)
	}
	var before, base time.Time
	s.note(e, func(r *run) {
		before, base = r.Base, s.now()
		r.Base = base
	})
	s.mu.Unlock()
	s.save()

	started := make(chan struct{}) // closed when the task is noted, before its end is
	u, err := s.cfg.Manager.start(context.Background(), sched.Type, sched.ID, cmp.Or(auth, sched.Auth), sched.Work, func(i Info) {
		<-started
		s.ended(e, i)
	})
	s.mu.Lock()
	if err != nil {
		e.running, e.hold = false, s.now().Add(lookEvery)
		s.note(e, func(r *run) {
			if r.Base.Equal(base) { // else it was changed meanwhile
				r.Base = before
			}
		})
	} else {
		s.note(e, func(r *run) { r.Task, r.End, r.State = &u, time.Time{}, "" })
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
func (s *Scheduler) ended(e *entry, i Info) {
	s.mu.Lock()
	e.running = false
	s.note(e, func(r *run) { r.End, r.State = i.End, i.Status() })
	s.mu.Unlock()
	s.save()
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
	st.Next, _ = e.event.Next(r.Base.In(s.cfg.Location)) // zero if never
	return st, nil
}
