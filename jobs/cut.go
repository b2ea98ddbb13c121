package jobs

import (
	"errors"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/timing"
)

// Why a scheduler stops what runs.
var (
	errClosed   = errors.New("stopped: its window has closed")
	errReplaced = errors.New("stopped: its next time has come")
)

// cutShort asks what runs of an entry to stop if its window has closed, or its next
// time has come and replaces it. What a person has asked for goes on. The caller
// holds mu.
func (s *Scheduler) cutShort(e *entry, r run, now time.Time) {
	if e.asked || e.cut || r.Task == nil || !r.End.IsZero() {
		return
	}
	now = now.In(s.zone(e))
	open := e.Windows.Contain(now)
	var cause error
	if !open && e.AtEnd != timing.Finish {
		cause = errClosed
	}
	if _, due, ok := e.when.Next(r.Base.In(s.zone(e))); open && e.Overlap == timing.Replace && ok && !due.After(now) {
		cause = errReplaced
	}
	if t := s.cfg.Manager.running(*r.Task); cause != nil && t != nil {
		e.cut = true
		t.cancel(cause)
	}
}

// paused notes that an entry was paused, or that it may run by itself again: times
// that passed meanwhile are left out. The caller holds mu.
func (s *Scheduler) paused(e *entry, r *run) {
	now, text := s.now().In(s.zone(e)), "it was paused"
	if r.Paused = e.Paused; !r.Paused {
		text = "it may run by itself again"
		if first, _, ok := e.when.Next(r.Base.In(s.zone(e))); ok && !first.After(now) {
			text += "; its times from " + first.Format(time.RFC3339) + " on had passed while it was paused"
		}
		r.Base = now.Add(-e.when.Delay)
	}
	r.note(Note{At: now, Text: text})
}

// wentOn tells whether the run before went on at a time.
func (r run) wentOn(at time.Time) bool {
	return !at.IsZero() && r.Task != nil && r.Task.Time().Before(at) && r.End.After(at)
}

// Ran is a run of a schedule that has ended.
type Ran struct {
	Task  UPID             `json:"task"`
	End   time.Time        `json:"end"`
	State string           `json:"state"`
	Stats map[string]int64 `json:"stats,omitempty"`
}

// maxPast are kept of a schedule, the newest.
const maxPast = 20

func (r *run) remember(p Ran) {
	r.Past = append(r.Past[max(0, len(r.Past)-maxPast+1):len(r.Past):len(r.Past)], p)
}

// History returns the last runs of a schedule, the newest last; none if there is no
// such schedule.
func (s *Scheduler) History(name string) []Ran {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Ran(nil), s.runs[name].Past...)
}
