package jobs

import (
	"github.com/holdfast-mesh/holdfast/jobs/calendar"
	"github.com/holdfast-mesh/holdfast/jobs/timing"
)

// An Event is a rule for points in time, a Window a part of the day. The others are
// rules for when a [Schedule] runs.
type (
	Event   = calendar.Event
	Window  = calendar.Window
	Windows = timing.Windows
	CatchUp = timing.CatchUp
	Overlap = timing.Overlap
	AtEnd   = timing.AtEnd
)

// The rules for missed times.
const (
	CatchUpOnce = timing.Once
	CatchUpSkip = timing.Skip
)

// ParseEvent reads "mon..fri 21:30", "daily" and the like.
func ParseEvent(text string) (Event, error) { return calendar.Parse(text) }

// ParseWindow reads "[DAYS] HOUR[:MINUTE]-HOUR[:MINUTE]".
func ParseWindow(text string) (Window, error) { return calendar.ParseWindow(text) }
