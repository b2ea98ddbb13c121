package timing

import (
	"time"

	"github.com/holdfast-mesh/holdfast/jobs/calendar"
)

// Windows are the parts of the week in which something may run; none is always.
type Windows []calendar.Window

// ParseWindows reads "22-6" and "sat,sun 0-24" as [calendar.ParseSpan] does.
func ParseWindows(texts []string) (all Windows, err error) {
	for _, text := range texts {
		w, err := calendar.ParseSpan(text)
		if err != nil {
			return nil, err
		}
		all = append(all, w...)
	}
	return all, nil
}

// Contain tells whether one of the windows is open.
func (w Windows) Contain(t time.Time) bool {
	for _, one := range w {
		if one.Contains(t) {
			return true
		}
	}
	return len(w) == 0
}

// Open returns the first time, not before t, at which a window is open; false if
// there is none within eight days, which is never.
func (w Windows) Open(t time.Time) (time.Time, bool) {
	if w.Contain(t) {
		return t, true
	}
	for day := range 8 {
		first := time.Time{}
		for _, one := range w {
			at := one.Start(t.AddDate(0, 0, day))
			if at.After(t) && one.Contains(at) && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
		if !first.IsZero() {
			return first, true
		}
	}
	return time.Time{}, false
}
