package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/timing"
)

// SchedulerConfig says how a [Scheduler] behaves.
type SchedulerConfig struct {
	Manager  *Manager         // required; runs the tasks
	File     string           // required; where the last runs are remembered
	Log      *slog.Logger     // default: discard
	Location *time.Location   // in which events without UTC are meant; default: of the machine
	Now      func() time.Time // the wall clock, which may jump; default: that of the machine

	// Share decides for a schedule that is shared which node runs it. Required for such.
	Share func(schedule string) Share

	// Relief tells whether another node could take over what runs here of a schedule that
	// is shared, and has stalled: see [ErrStalled]. Default: none could.
	Relief func(schedule string) bool

	// Missed is told of a schedule that did not run when it was due, from the first
	// such time to the last, and must not wait. It may be told again while the schedule
	// cannot be started.
	Missed func(s Schedule, first, last time.Time)
}

// A Scheduler starts schedules as tasks when it is time. A schedule never runs
// twice at once: a time that comes while it runs is a missed one. Its methods
// may be called from any goroutine, before and during Run.
type Scheduler struct {
	cfg  SchedulerConfig
	now  func() time.Time // the wall clock, which may jump
	wake chan struct{}    // 1: something changed, look again

	life   context.Context // of what is shared with other nodes; ends with Run
	end    context.CancelFunc
	shared sync.WaitGroup

	saving sync.Mutex // taken before mu, held while the file is written

	mu      sync.Mutex
	entries map[string]*entry
	runs    map[string]run // also of schedules that are not here yet
}

// wallClock returns the time without the reading of the monotonic clock, which
// knows nothing of jumps.
func wallClock() time.Time { return time.Now().Round(0).UTC() }

// An entry is a schedule and how it stands.
type entry struct {
	Schedule
	when    timing.Rule
	running bool      // from before its task is started until after its end
	asked   bool      // for what runs, by somebody
	cut     bool      // what runs was asked to stop
	hung    bool      // what runs was given up, and has not ended yet
	hold    time.Time // not before: its task could not be started
}

// NewScheduler returns a Scheduler without schedules, which remembers the runs
// of an earlier one. It starts nothing; call [Scheduler.Put] and
// [Scheduler.Run]. A damaged file is set aside with a warning: schedules then
// count from when they are put.
func NewScheduler(cfg SchedulerConfig) (*Scheduler, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Location = cmp.Or(cfg.Location, time.Local)
	if cfg.Now == nil {
		cfg.Now = wallClock
	}
	switch {
	case cfg.Manager == nil:
		return nil, errors.New("jobs: no manager for the tasks of schedules")
	case cfg.File == "":
		return nil, errors.New("jobs: no file for the runs of schedules")
	}
	runs, err := readRuns(cfg.File)
	if errors.Is(err, errDamaged) {
		aside := cfg.File + ".damaged"
		cfg.Log.Warn("file of schedules makes no sense, schedules count from now", "file", cfg.File, "aside", aside, "err", err)
		runs, err = map[string]run{}, os.Rename(cfg.File, aside)
	}
	if err != nil {
		return nil, fmt.Errorf("read runs of schedules: %w", err)
	}
	s := &Scheduler{
		cfg: cfg, now: cfg.Now, wake: make(chan struct{}, 1),
		entries: map[string]*entry{}, runs: runs,
	}
	s.life, s.end = context.WithCancel(context.Background())
	return s, nil
}

// Put adds a schedule, or replaces the one of the same name. A new one, or one
// with another event, counts from now; otherwise it counts from its last run,
// also if that was in an earlier process. A run that goes on is left alone.
func (s *Scheduler) Put(sched Schedule) error {
	sched, when, err := sched.check()
	if err != nil {
		return err
	}
	if sched.Shared && s.cfg.Share == nil {
		return fmt.Errorf("schedule %q: it is shared, and there are no other nodes", sched.Name)
	}
	s.mu.Lock()
	e := s.entries[sched.Name]
	if e == nil {
		e = &entry{}
		s.entries[sched.Name] = e
	}
	e.Schedule, e.when, e.hold = sched, when, time.Time{}
	r, known := s.runs[sched.Name]
	changed := !known || r.Event != sched.rule()
	if changed {
		r.Event, r.Base, r.Paused = sched.rule(), s.now(), sched.Paused
	}
	if r.Paused != sched.Paused {
		s.paused(e, &r)
		changed = true
	}
	if r.Task != nil && r.End.IsZero() && !e.running {
		// The process died while it ran; the manager knows more, or nobody does.
		if i, err := s.cfg.Manager.Status(*r.Task); err == nil && i.State != Running {
			r.End, r.State, changed = i.End, i.Status(), true
			r.note(Note{At: s.now(), Text: "it had not ended when the daemon did: " + r.State, Task: r.Task})
		}
	}
	s.runs[sched.Name] = r
	s.mu.Unlock()
	if changed {
		s.save()
	}
	s.poke()
	return nil
}

// Remove forgets a schedule and its runs. A run that goes on is left alone. To
// remove what is not there is fine.
func (s *Scheduler) Remove(name string) {
	s.mu.Lock()
	_, known := s.runs[name]
	delete(s.entries, name)
	delete(s.runs, name)
	s.mu.Unlock()
	if known {
		s.save()
	}
}

// Run starts schedules when it is time until ctx is done, then returns nil.
// Their tasks belong to the manager, and go on.
func (s *Scheduler) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer s.shared.Wait()
	defer s.end()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-s.wake:
		}
		timer.Reset(s.pass())
	}
}

// pass starts what is due and returns how long to wait for the next pass.
// Timers do not notice when the wall clock jumps or the machine sleeps, so it
// is never longer than a minute.
func (s *Scheduler) pass() time.Duration {
	due, missed, wait := s.due()
	for _, m := range missed {
		if s.cfg.Missed != nil {
			s.cfg.Missed(m.Schedule, m.first, m.last)
		}
	}
	for _, d := range due {
		if d.Shared {
			s.shared.Go(func() { s.share(d, "", func(UPID, error) {}) })
			continue
		}
		if _, err := s.launch(s.life, d.entry, "", d.why, time.Time{}, nil); err != nil {
			s.cfg.Log.Error("scheduled task cannot be started", "err", err, "retry_in", lookEvery)
		}
	}
	return wait
}

// A missed is a schedule that did not run when it was due.
type missed struct {
	Schedule
	first, last time.Time
}

// A start is a schedule that is due, and why.
type start struct {
	*entry
	why         string
	slot, until time.Time // if it is shared: the newest of its times, and the one after
	missed      time.Time // the first of its times that this node missed; zero: none
}

// due returns the schedules that are due now, marked as running, those that are
// late, and how long to wait for the next.
func (s *Scheduler) due() (due []start, late []missed, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	wait = lookEvery
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		e, r := s.entries[name], s.runs[name]
		if e.running {
			s.cutShort(e, r, now)
			continue
		}
		if hold := e.hold.Sub(now); e.Paused || hold > 0 && hold <= lookEvery {
			continue
		}
		v := s.decide(e, r, now)
		if !v.Missed.IsZero() && !e.Shared { // else another node may have run it
			late = append(late, missed{e.Schedule, v.Missed, s.last(e, v.Missed, now)})
		}
		if v.Run {
			e.running = true
			due = append(due, s.start(e, r, v, now))
			continue
		}
		if !v.Missed.IsZero() {
			r.note(Note{At: now, Slot: v.Missed, Text: "it did not run: " + r.whyMissed(v.Missed) + ", and what was missed is not made up for"})
		}
		r.Base = v.Base // in memory; after a restart the same is decided again
		s.runs[name] = r
		if !v.Next.IsZero() {
			wait = min(wait, v.Next.Sub(now))
		}
	}
	return due, late, max(wait, 0)
}

// decide says what becomes of an entry. The caller holds mu.
func (s *Scheduler) decide(e *entry, r run, now time.Time) timing.Verdict {
	zone := s.zone(e)
	now = now.In(zone)
	open := e.Windows.Contain(now)
	switch {
	case r.Cut == timing.Pause:
		opens, _ := e.Windows.Open(now)
		return timing.Verdict{Run: open, Base: r.Base, Next: opens}
	case e.After != "":
		before := s.runs[e.After]
		return timing.Verdict{Run: open && before.well() && before.End.After(r.Base), Base: r.Base}
	}
	v := e.when.Decide(r.Base.In(zone), now)
	if e.Overlap != timing.Forbid && r.wentOn(v.Missed) {
		v.Missed = time.Time{} // it waited for the run before, as it should
	}
	return v
}

// last returns the newest of the times of an entry that have come, not before one of
// them.
func (s *Scheduler) last(e *entry, first, now time.Time) time.Time {
	newest, ok := e.when.Event.Last(now.Add(-e.when.Delay).In(s.zone(e)))
	if !ok {
		return first
	}
	return later(first, newest.Add(e.when.Delay))
}

// zone is where the event of an entry is meant.
func (s *Scheduler) zone(e *entry) *time.Location { return cmp.Or(e.Zone, s.cfg.Location) }

// start says why an entry is due.
func (s *Scheduler) start(e *entry, r run, v timing.Verdict, now time.Time) start {
	st := start{entry: e, why: "its time had come"}
	switch {
	case r.Cut == timing.Pause:
		st.why = "its window is open again, and it goes on"
	case e.After != "":
		st.why = "after " + e.After + " had run: " + s.runs[e.After].State
	case !v.Missed.IsZero():
		st.why = "to make up for " + v.Missed.Format(time.RFC3339) + ": " + r.whyMissed(v.Missed)
	}
	if e.Shared {
		st.missed = v.Missed
		st.slot, _ = e.when.Event.Last(now.Add(-e.when.Delay).In(s.zone(e))) // there is one, since it is due
		st.until = now.Add(24 * time.Hour)
		if _, next, ok := e.when.Next(st.slot); ok {
			st.until = next
		}
	}
	return st
}
