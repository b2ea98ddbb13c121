package jobs

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/timing"
)

// A Note says why a schedule ran at some time, or did not.
type Note struct {
	At   time.Time `json:"at"`
	Slot time.Time `json:"slot,omitzero"` // the time that it is about, if it is about one
	Text string    `json:"text"`          // "it ran: its time had come"
	Task *UPID     `json:"task,omitempty"`
}

// maxNotes are kept of a schedule, the newest.
const maxNotes = 20

// note adds a note. One that says again what the last said takes its place.
func (r *run) note(n Note) {
	if last := len(r.Notes) - 1; last >= 0 && n.Task == nil && r.Notes[last].Text == n.Text && r.Notes[last].Slot.Equal(n.Slot) {
		r.Notes = r.Notes[:last:last]
	}
	r.Notes = append(r.Notes[max(0, len(r.Notes)-maxNotes+1):len(r.Notes):len(r.Notes)], n)
}

// well tells whether the last run has ended well, and was not stopped before.
func (r run) well() bool {
	return r.Cut == "" && r.Task != nil && !r.End.IsZero() && (r.State == "OK" || strings.HasPrefix(r.State, "WARNINGS"))
}

// whyMissed says why a time was missed.
func (r run) whyMissed(due time.Time) string {
	if r.wentOn(due) {
		return "the run before went on until " + r.End.UTC().Format(time.RFC3339)
	}
	return "the daemon did not run then, or its clock was changed"
}

// rule is what the time a schedule counts from belongs to.
func (s Schedule) rule() string { return cmp.Or(s.Event, "after "+s.After) }

// A Why is all that is known of why a schedule runs, or does not.
type Why struct {
	ScheduleStatus
	Delay time.Duration // after its times, since it is staggered
	Now   string        // what becomes of it now
	Notes []Note        // what became of it, the newest last
}

// Why explains a schedule, or fails with [ErrNoJob].
func (s *Scheduler) Why(name string) (Why, error) {
	st, err := s.Status(name)
	if err != nil {
		return Why{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, r, now := s.entries[name], s.runs[name], s.now()
	if e == nil {
		return Why{}, fmt.Errorf("%q: %w", name, ErrNoJob)
	}
	w := Why{ScheduleStatus: st, Delay: e.when.Delay, Notes: append([]Note(nil), r.Notes...)}
	switch hold := e.hold.Sub(now); {
	case e.running && r.Task != nil && r.End.IsZero():
		w.Now = "it runs, since " + r.Task.Time().UTC().Format(time.RFC3339)
	case e.running:
		w.Now = "it is being decided which node runs it"
	case hold > 0 && hold <= lookEvery:
		w.Now = "it could not be started, and is tried again within a minute"
	case e.Paused:
		w.Now = "it is paused, and runs only when somebody asks for it"
	case r.Cut == timing.Pause:
		w.Now = "it goes on when its window opens: " + st.Next.Format(time.RFC3339)
	case e.After != "" && s.entries[e.After] == nil:
		w.Now = "it never runs by itself: it comes after " + e.After + ", which is not there"
	case e.After != "":
		w.Now = "it waits until " + e.After + " has run well"
	case st.Event == "":
		w.Now = "it runs only when somebody asks for it: it has no schedule, or is disabled"
	case st.Next.IsZero():
		w.Now = "it never runs again: there is no such time to come"
	case st.Next.After(now):
		w.Now = "it waits for " + st.Next.Format(time.RFC3339)
	case st.Held:
		w.Now = "it is due, and waits for its window"
	default:
		w.Now = "it is due"
	}
	return w, nil
}
