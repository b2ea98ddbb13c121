package calendar

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Window is a part of the day, on some days of the week: "mon..fri 8-17:30"
// (PBS protocol notes §8.2). The start belongs to it, the end does not. It
// does not pass midnight, and the zero Window has no time in it.
type Window struct {
	days       weekdays
	start, end int // minutes since midnight
}

// ParseWindow reads "[DAYS] HOUR[:MINUTE]-HOUR[:MINUTE]". An error is an
// [*Error].
func ParseWindow(text string) (Window, error) {
	w, err := parseWindow(text)
	if err != nil {
		return Window{}, &Error{text, err, "write for example 8-17:30 or mon..fri 22:00-23:59"}
	}
	return w, nil
}

func parseWindow(text string) (w Window, err error) {
	if len(text) > maxEvent {
		return Window{}, fmt.Errorf("it has %d bytes, want at most %d", len(text), maxEvent)
	}
	rest := ""
	if w.days, rest, err = cutWeekdays(text); err != nil {
		return Window{}, err
	}
	from, to, ok := strings.Cut(rest, "-")
	if !ok {
		return Window{}, errors.New("there is no - between two times")
	}
	if w.start, err = parseMinutes(strings.TrimRight(from, " \t")); err != nil {
		return Window{}, err
	}
	if w.end, err = parseMinutes(trimBlanks(to)); err != nil {
		return Window{}, err
	}
	if w.end < w.start {
		return Window{}, errors.New("it ends before it begins; write two windows for one that passes midnight")
	}
	return w, nil
}

// ParseSpan reads what [ParseWindow] does, and also a window that passes midnight,
// which becomes two: "fri 22-6" ends on Saturday at six. Midnight at its end is 24.
// An error is an [*Error].
func ParseSpan(text string) ([]Window, error) {
	days, rest, err := cutWeekdays(text)
	if err != nil || len(text) > maxEvent {
		w, err := ParseWindow(text) // which says what is wrong
		return []Window{w}, err
	}
	from, to, _ := strings.Cut(rest, "-")
	start, err1 := parseMinutes(strings.TrimRight(from, " \t"))
	end, err2 := parseMinutes(trimBlanks(to))
	if to := trimBlanks(to); to == "24" || to == "24:00" {
		end, err2 = 24*60, nil
	}
	switch {
	case err1 != nil || err2 != nil || start == end:
		if start == end && err1 == nil && err2 == nil {
			return nil, &Error{text, errors.New("it ends when it begins"), "write 0-24 for the whole day"}
		}
		w, err := ParseWindow(text)
		return []Window{w}, err
	case start < end:
		return []Window{{days, start, end}}, nil
	}
	evening, morning := Window{days, start, 24 * 60}, Window{days.next(), 0, end}
	if end == 0 {
		return []Window{evening}, nil
	}
	return []Window{evening, morning}, nil
}

// Start returns when the window opens on the day of t, in its zone, whatever day of
// the week that is.
func (w Window) Start(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, w.start/60, w.start%60, 0, 0, t.Location())
}

// parseMinutes reads "8" or "8:30" as minutes since midnight.
func parseMinutes(text string) (int, error) {
	hour, minute, split := strings.Cut(text, ":")
	h, err := hours.number(hour, hours.last)
	if err != nil || !split {
		return h * 60, err
	}
	m, err := minutes.number(minute, minutes.last)
	return h*60 + m, err
}

// Contains reports whether the wall clock of t's zone is in the window at t.
func (w Window) Contains(t time.Time) bool {
	now := t.Hour()*60 + t.Minute()
	return w.days.has(t.Weekday()) && w.start <= now && now < w.end
}

// String writes the window so that [ParseWindow] reads the same one.
func (w Window) String() string {
	text := fmt.Sprintf("%d:%02d-%d:%02d", w.start/60, w.start%60, w.end/60, w.end%60)
	if w.days != everyDay && w.days != 0 {
		text = w.days.String() + " " + text
	}
	return text
}
