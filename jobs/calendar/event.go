package calendar

import (
	"errors"
	"fmt"
	"strings"
)

// An Event is a rule for points in time, as PBS and systemd write them:
// "daily", "sat 18:15", "mon..fri 8..17/3:30", "*-1..7 4:00", "2:30 UTC"
// (PBS protocol notes §8.1). The zero Event never happens.
type Event struct {
	days               weekdays
	year, month, day   set
	hour, minute, secs set
	utc                bool
}

// keywords are short for an event; case matters.
var keywords = map[string]string{
	"minutely":      "*:*",
	"hourly":        "*:00",
	"daily":         "00:00",
	"weekly":        "mon 00:00",
	"monthly":       "*-01 00:00",
	"quarterly":     "01,04,07,10-01 00:00",
	"semiannually":  "01,07-01 00:00",
	"semi-annually": "01,07-01 00:00",
	"yearly":        "01-01 00:00",
	"annually":      "01-01 00:00",
}

// maxEvent bounds in bytes what is parsed. It has room for every minute and
// second written one by one.
const maxEvent = 1024

// An Error says why a text is no calendar event, or no window.
type Error struct {
	Text string
	Err  error
	hint string
}

func (e *Error) Error() string { return fmt.Sprintf("read %.100q: %v", e.Text, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Hint shows what such a text looks like.
func (e *Error) Hint() string { return e.hint }

// Parse reads a calendar event:
//
//	[DAYS] [DATE] [TIME] [UTC], or a keyword such as "daily" and [UTC]
//
// At least one part is there. DAYS are names and ranges ("mon,wed..fri"); DATE
// is YEAR-MONTH-DAY or MONTH-DAY; TIME is HOUR:MINUTE:SECOND, HOUR:MINUTE or,
// alone, MINUTE. A number may be a list, a range "1..7", a step "0/15", or "*".
// Without UTC the event is meant in the zone of the time that [Event.Next] is
// asked with. An error is an [*Error].
func Parse(text string) (Event, error) {
	e, err := parse(text)
	if err != nil {
		return Event{}, &Error{text, err, "write for example daily, mon..fri 21:30, *:0/15 or *-01..07 04:00"}
	}
	return e, nil
}

func parse(text string) (Event, error) {
	if len(text) > maxEvent {
		return Event{}, fmt.Errorf("it has %d bytes, want at most %d", len(text), maxEvent)
	}
	rest, utc := strings.CutSuffix(text, "UTC")
	if utc {
		rest = strings.TrimRight(rest, " \t")
	}
	if long, ok := keywords[rest]; ok {
		rest = long
	}
	if rest == "" {
		return Event{}, errors.New("it is empty, want days, a date or a time")
	}
	e := Event{
		year: years.any(), month: months.any(), day: days.any(),
		hour: hours.only(0), minute: minutes.only(0), secs: seconds.only(0), utc: utc,
	}
	var err error
	if e.days, rest, err = cutWeekdays(rest); err != nil || rest == "" {
		return e, err
	}
	fields, rest := cutFields(rest, '-')
	if len(fields) > 1 {
		if err := e.setDate(fields); err != nil {
			return Event{}, err
		}
		if rest = trimBlanks(rest); rest == "" {
			return e, nil
		}
		fields, rest = cutFields(rest, ':')
	} else if strings.HasPrefix(rest, ":") {
		fields, rest = cutFields(fields[0]+rest, ':')
	}
	if rest != "" {
		return Event{}, fmt.Errorf("%.20q does not belong there", rest)
	}
	return e, e.setTime(fields)
}

// cutFields cuts lists of numbers with sep between them off the front of
// text. The first may be empty.
func cutFields(text string, sep byte) (fields []string, rest string) {
	for {
		n := 0
		for n < len(text) && strings.IndexByte("0123456789*,./", text[n]) >= 0 {
			n++
		}
		fields, text = append(fields, text[:n]), text[n:]
		if text == "" || text[0] != sep {
			return fields, text
		}
		text = text[1:]
	}
}

func (e *Event) setDate(fields []string) (err error) {
	if len(fields) > 3 {
		return fmt.Errorf("the date has %d parts, want [YEAR-]MONTH-DAY", len(fields))
	}
	if len(fields) == 3 {
		if e.year, err = years.parse(fields[0]); err != nil {
			return err
		}
		fields = fields[1:]
	}
	if e.month, err = months.parse(fields[0]); err != nil {
		return err
	}
	e.day, err = days.parse(fields[1])
	return err
}

func (e *Event) setTime(fields []string) (err error) {
	switch len(fields) {
	case 1: // the minute of every hour
		e.hour = hours.any()
		e.minute, err = minutes.parse(fields[0])
		return err
	case 2, 3:
		if e.hour, err = hours.parse(fields[0]); err != nil {
			return err
		}
		if e.minute, err = minutes.parse(fields[1]); err != nil {
			return err
		}
		if len(fields) == 3 {
			e.secs, err = seconds.parse(fields[2])
		}
		return err
	}
	return fmt.Errorf("the time has %d parts, want HOUR:MINUTE[:SECOND] or MINUTE", len(fields))
}

// String writes the event so that [Parse] reads the same one; "" for the
// zero Event. Keywords come out in full: daily is "00:00".
func (e Event) String() string {
	if e.days == 0 {
		return ""
	}
	var b strings.Builder
	if e.days != everyDay {
		b.WriteString(e.days.String() + " ")
	}
	anyYear := years.isAny(e.year)
	if !anyYear {
		b.WriteString(years.text(e.year, 4) + "-")
	}
	if !anyYear || !months.isAny(e.month) || !days.isAny(e.day) {
		b.WriteString(months.text(e.month, 2) + "-" + days.text(e.day, 2) + " ")
	}
	b.WriteString(hours.text(e.hour, 2) + ":" + minutes.text(e.minute, 2))
	if !isZero(e.secs) {
		b.WriteString(":" + seconds.text(e.secs, 2))
	}
	if e.utc {
		b.WriteString(" UTC")
	}
	return b.String()
}

func isZero(s set) bool { return len(s) == 1 && s[0] == span{0, 0, 1} }
