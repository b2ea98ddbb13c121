package jobs

import "github.com/holdfast-mesh/holdfast/jobs/calendar"

// An Event is a rule for points in time, a Window a part of the day.
type (
	Event  = calendar.Event
	Window = calendar.Window
)

// ParseEvent reads "mon..fri 21:30", "daily" and the like.
func ParseEvent(text string) (Event, error) { return calendar.Parse(text) }

// ParseWindow reads "[DAYS] HOUR[:MINUTE]-HOUR[:MINUTE]".
func ParseWindow(text string) (Window, error) { return calendar.ParseWindow(text) }
