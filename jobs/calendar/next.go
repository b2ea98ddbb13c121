package calendar

import "time"

// Next returns the first time after after, to the second, at which the event
// happens, in the zone of after; false if it never happens again (30 February,
// a year gone by; no event is later than 2199).
//
// An event that names its hours happens once a day on days when the clock
// changes: a time that the clock skips comes as much later as the clock jumps
// (2:30 becomes 3:30), one that it repeats counts the first time only. An event
// of every hour follows the wall clock as it goes, through both hours.
func (e Event) Next(after time.Time) (time.Time, bool) {
	zone := after.Location()
	if e.utc {
		zone = time.UTC
	}
	at := time.Unix(after.Unix()+1, 0).In(zone)
	named := !e.hour.covers(hours)
	// Between two changes of the clock, the wall is an offset away from UTC.
	for never := 0; ; {
		begin, end := at.ZoneBounds()
		if !end.IsZero() && !end.After(at) {
			// Where a zone goes on by rule, package time ends leap years a day
			// early and has the end before the time. A bound too many is fine.
			end = at.Add(24 * time.Hour)
		}
		t, ok := e.within(at, begin, named)
		if ok && (end.IsZero() || t.Before(end)) {
			return t.In(after.Location()), true
		}
		// What the wall never shows again, it may show in one repeated hour.
		if !ok {
			never++
		}
		if end.IsZero() || never > 2 {
			return time.Time{}, false
		}
		at = end
	}
}

// within returns the first time from at on at which the event happens, as if
// the clock, last changed at begin, were never changed again.
func (e Event) within(at, begin time.Time, named bool) (time.Time, bool) {
	offset := offsetOf(at)
	before := offset
	if !begin.IsZero() {
		before = offsetOf(begin.Add(-time.Second))
	}
	jump := offset - before // of the wall, at begin
	changed := begin.Add(jump.Abs())
	if named && jump < 0 && at.Before(changed) {
		at = changed // the wall repeats itself until then
	}
	wall, ok := e.search(onWall(at, offset))
	t := wall.Add(-offset)
	if named && jump > 0 && at.Before(changed) {
		// The old wall goes on through the time that was skipped.
		ghost, found := e.search(onWall(at, before))
		if g := ghost.Add(-before); found && g.Before(changed) && (!ok || g.Before(t)) {
			t, ok = g, true
		}
	}
	return t.In(at.Location()), ok
}

func offsetOf(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}

// onWall returns what the wall shows at t, written as a time in UTC.
func onWall(t time.Time, offset time.Duration) time.Time { return t.UTC().Add(offset) }

// search returns the first time from wall on at which the event happens; both
// are times on the wall.
func (e Event) search(wall time.Time) (time.Time, bool) {
	y, mo, d := wall.Date()
	date, ok := e.date(y, int(mo), d)
	if ok && date.Equal(time.Date(y, mo, d, 0, 0, 0, 0, time.UTC)) {
		if clock, today := e.clock(wall.Clock()); today {
			return date.Add(clock), true
		}
		date, ok = e.date(y, int(mo), d+1)
	}
	if !ok {
		return time.Time{}, false
	}
	clock, ok := e.clock(0, 0, 0)
	return date.Add(clock), ok
}

// date returns the first day from the given one on at which the event
// happens. The day may be one past the end of its month.
func (e Event) date(y, mo, d int) (time.Time, bool) {
	for {
		year, ok := e.year.next(y)
		if !ok {
			return time.Time{}, false
		}
		if year > y {
			y, mo, d = year, 1, 1
		}
		month, ok := e.month.next(max(mo, 1))
		if !ok {
			y, mo, d = y+1, 1, 1
			continue
		}
		if month > mo {
			mo, d = month, 1
		}
		for {
			day, ok := e.day.next(max(d, 1))
			date := time.Date(y, time.Month(mo), day, 0, 0, 0, 0, time.UTC)
			if !ok || date.Day() != day { // the month is over
				mo, d = mo+1, 1
				break
			}
			if e.days.has(date.Weekday()) {
				return date, true
			}
			d = day + 1
		}
	}
}

// clock returns the first time of day from h:m:s on at which the event
// happens, since midnight.
func (e Event) clock(h, m, s int) (time.Duration, bool) {
	for {
		hour, ok := e.hour.next(h)
		if !ok {
			return 0, false
		}
		if hour > h {
			h, m, s = hour, 0, 0
		}
		minute, ok := e.minute.next(m)
		if !ok {
			h, m, s = h+1, 0, 0
			continue
		}
		if minute > m {
			m, s = minute, 0
		}
		second, ok := e.secs.next(s)
		if !ok {
			m, s = m+1, 0
			continue
		}
		return time.Duration(h*3600+m*60+second) * time.Second, true
	}
}
