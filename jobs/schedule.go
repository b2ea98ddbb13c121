package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/timing"
)

// A Schedule is work with a name and a time. Its runs are tasks.
type Schedule struct {
	Name    string  // unique in a [Scheduler]: "prunejob:daily", at most 200 bytes
	Event   string  // calendar event; "" is never: the work runs by [Scheduler.Trigger] alone
	CatchUp CatchUp // default [CatchUpOnce]

	Overlap Overlap // of a time with the run before; default [timing.Forbid]
	Windows Windows // when it may run by itself; default: always
	AtEnd   AtEnd   // of a window: what becomes of a run that was not asked for; default [timing.Pause]
	Paused  bool    // it runs only when somebody asks for it

	After   string         // name of another schedule: it runs when that has run well; has no Event then
	Stagger bool           // it begins a part of its period later, which its name says: not all at once
	Zone    *time.Location // in which Event and Windows are meant; default: the scheduler's
	Shared  bool           // other nodes have it too, and one of them does its work each time: [SchedulerConfig.Share]

	Type string // of the task: "prunejob"
	ID   string // of the task: what is worked on
	Auth string // whose task it is when the time starts it

	Work func(ctx context.Context, t *Task) error
}

// check completes s, and returns its rule.
func (s Schedule) check() (Schedule, timing.Rule, error) {
	var e Event
	var err error
	s.CatchUp, err = timing.ParseCatchUp(string(s.CatchUp))
	if err == nil {
		s.Overlap, err = timing.ParseOverlap(string(s.Overlap))
	}
	if err == nil {
		s.AtEnd, err = timing.ParseAtEnd(string(s.AtEnd))
	}
	switch {
	case err != nil:
	case s.Name == "" || len(s.Name) > maxWord:
		err = fmt.Errorf("the name has %d bytes, want 1 to %d", len(s.Name), maxWord)
	case s.Work == nil:
		err = errors.New("it has no work")
	case s.After != "" && (s.Event != "" || s.After == s.Name || s.Shared):
		err = fmt.Errorf("it comes after %s, and so it can have no time of its own, be that, or be shared", s.After)
	case s.Shared && s.CatchUp == CatchUpSkip:
		err = errors.New("what nodes share is always made up for: this one cannot know that none of them ran it")
	case s.Event != "":
		e, err = ParseEvent(s.Event)
	}
	if err == nil {
		err = UPID{Node: "x", Type: s.Type, ID: s.ID, AuthID: s.Auth}.Check()
	}
	if err != nil {
		err = fmt.Errorf("schedule %q: %w", s.Name, err)
	}
	when := timing.Rule{Event: e, Windows: s.Windows, CatchUp: s.CatchUp}
	if s.Stagger {
		when.Delay = timing.Stagger(s.Name, e)
	}
	return s, when, err
}

// lookEvery is how often the scheduler looks at the clock at least.
const lookEvery = timing.MissedAfter / 2
