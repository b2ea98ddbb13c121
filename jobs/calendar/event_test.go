package calendar

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // zones are tested on machines that know none
)

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                        "",
		"a zone alone":                   "UTC",
		"a blank in front":               " 5",
		"a blank behind":                 "5 ",
		"garbage behind":                 "daily x",
		"a keyword in upper case":        "Daily",
		"a day that is none":             "moon 2:30",
		"a range of days without end":    "mon..",
		"a range of days and numbers":    "mon..5",
		"days with a blank in the list":  "mon, tue",
		"an hour too many":               "24:00",
		"a minute too many":              "60",
		"a second too many":              "0:0:60",
		"a month too many":               "13-1",
		"a day too many":                 "1-32",
		"a year too many":                "2200-1-1",
		"a number of many digits":        "99999999999999999999",
		"a range that ends early":        "9..3:00",
		"a step of nothing":              "*/0",
		"a step without number":          "5/",
		"two steps":                      "5/2/2",
		"a star inside a list":           "*,5",
		"a list with a hole":             "5,,6",
		"a fault behind a full range":    "0..23,99:00",
		"a time of four parts":           "1:2:3:4",
		"a date of four parts":           "1-2-3-4",
		"a date without day":             "5-",
		"a date grown into a time":       "1-2-3:4",
		"a time without hour":            ":5",
		"a fraction":                     "1:2:3.5",
		"the end of a month":             "*-*~1",
		"another zone":                   "2:30 Europe/Berlin",
		"a sign":                         "+5",
		"a zone in lower case":           "2:30 utc",
		"more than it may be long":       strings.Repeat("1,", 600) + "1",
		"bytes that are no text":         "mon\xff",
		"a keyword and a time":           "daily 5:00",
		"the time of systemd's timespan": "@123",
	} {
		t.Run(name, func(t *testing.T) {
			e, err := Parse(text)
			var cause *Error
			if !errors.As(err, &cause) || cause.Hint() == "" {
				t.Errorf("Parse(%q) = %v, %v, want an *Error with a hint", text, e, err)
			}
		})
	}
}

func TestEventString(t *testing.T) {
	for text, want := range map[string]string{
		"minutely": "*:*", "hourly": "*:00", "daily": "00:00", "weekly": "mon 00:00", "monthly": "*-01 00:00",
		"quarterly": "01,04,07,10-01 00:00", "semiannually": "01,07-01 00:00", "semi-annually": "01,07-01 00:00",
		"yearly": "01-01 00:00", "annually UTC": "01-01 00:00 UTC", "dailyUTC": "00:00 UTC",
		"5": "*:05", "*": "*:*", "0": "*:00", "2:30": "02:30", "2:30:15": "02:30:15", "1:2:0": "01:02",
		"MON,Wednesday..fri": "mon,wed..fri 00:00", "fri..mon": "mon,fri..sun 00:00", "sat..sun 3:0": "sat,sun 03:00",
		"mon..sun 4:00": "04:00", "mon2:50": "mon 02:50", "sat\t 18:15": "sat 18:15", "tue UTC": "tue 00:00 UTC",
		"02-29": "02-29 00:00", "2020-7..9-2/2": "2020-07..09-02/2 00:00", "*-01..07 04:00": "*-01..07 04:00",
		"*-*-3 0:0": "*-03 00:00", "2020-*-*": "2020-*-* 00:00", "*/2-*/3 1:0": "*/2-*/3 01:00",
		"4..10/2:0": "04..10/2:00", "8..17/3:30": "08..17/3:30", "5,10:4,8": "05,10:04,08",
		"0..23,5:00": "*:00", "0..23/2,5:00": "00/2,05:00", "5/0:0": "05:00", "5..9/0:0": "05:00",
		"20..23:00": "20..23:00", "20/1:00": "20..23:00", "20/99:00": "20:00", "*/99": "*:00", "7..7": "*:07",
	} {
		t.Run(text, func(t *testing.T) {
			e, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := e.String(); got != want {
				t.Errorf("Parse(%q).String() = %q, want %q", text, got, want)
			}
			if again, err := Parse(want); err != nil || !reflect.DeepEqual(e, again) {
				t.Errorf("Parse(%q) = %+v, %v, want %+v", want, again, err, e)
			}
		})
	}
	if got := (Event{}).String(); got != "" {
		t.Errorf("the zero event is %q, want nothing", got)
	}
}

// moment reads a time of the tables below, in zone.
func moment(t *testing.T, text string, zone *time.Location) time.Time {
	t.Helper()
	for _, layout := range []string{"2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			return at.In(zone)
		}
	}
	t.Fatalf("no time: %q", text)
	return time.Time{}
}

// checkNext asks e for what follows after, again and again.
func checkNext(t *testing.T, text string, after time.Time, want ...string) {
	t.Helper()
	e, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		next, ok := e.Next(after)
		if w == "never" {
			if ok {
				t.Errorf("%q after %v: %v, want never", text, after, next)
			}
			return
		}
		if at := moment(t, w, after.Location()); !ok || !next.Equal(at) {
			t.Fatalf("%q after %v: %v, %v, want %v", text, after, next, ok, at)
		}
		after = next
	}
}

func TestNextInUTC(t *testing.T) {
	for _, row := range []struct{ name, event, after, want string }{
		// The vectors of §8.1; 1 January 1970 was a Thursday.
		{"a minute of every hour", "*:0", "1970-01-01 00:00", "1970-01-01 01:00|1970-01-01 02:00"},
		{"a time on a day", "mon 2:50", "1970-01-01 00:00", "1970-01-05 02:50|1970-01-12 02:50"},
		{"steps of hours", "4..10/2:0", "1970-01-01 00:00", "1970-01-01 04:00|1970-01-01 06:00|1970-01-01 08:00|1970-01-01 10:00|1970-01-02 04:00"},
		{"lists", "5,10:4,8", "1970-01-01 00:00", "1970-01-01 05:04|1970-01-01 05:08|1970-01-01 10:04|1970-01-01 10:08|1970-01-02 05:04"},
		{"a day of the week", "tue", "1970-01-01 00:00", "1970-01-06 00:00"},
		{"today's midnight is gone", "thu", "1970-01-01 00:00", "1970-01-08 00:00"},
		{"a leap day", "02-29", "1970-01-01 00:00", "1972-02-29 00:00|1976-02-29 00:00"},
		{"steps of days", "2020-7..9-2/2", "2020-07-31 00:00", "2020-08-02 00:00|2020-08-04 00:00"},
		{"office hours", "mon..fri 8..17/3:30", "1970-01-02 14:30", "1970-01-02 17:30|1970-01-05 08:30"},
		{"a Saturday", "sat 18:15", "1970-01-01 00:00", "1970-01-03 18:15|1970-01-10 18:15"},
		{"the first week", "*-01..07 04:00", "1970-01-06 12:00", "1970-01-07 04:00|1970-02-01 04:00"},
		{"the first Monday", "mon *-1..7 05:00", "1970-01-01 00:00", "1970-01-05 05:00|1970-02-02 05:00|1970-03-02 05:00"},

		{"a day that is never", "02-30", "1970-01-01 00:00", "never"},
		{"a leap day that is never", "2021-02-29", "1970-01-01 00:00", "never"},
		{"a year gone by", "2020-*-*", "2021-01-01 00:00", "never"},
		{"the last day of all", "2199-12-31 23:59:59", "2026-01-01 00:00", "2199-12-31 23:59:59|never"},
		{"a month of no calendar", "0-1", "2026-01-01 00:00", "never"},
		{"odd days", "*-*/2", "2026-01-30 00:00", "2026-01-31 00:00|2026-02-01 00:00|2026-02-03 00:00"},
		{"odd months", "*/2-1", "2026-02-01 00:00", "2026-03-01 00:00|2026-05-01 00:00"},
		{"the end of long months", "*-31", "2026-01-31 00:00", "2026-03-31 00:00|2026-05-31 00:00|2026-07-31 00:00|2026-08-31 00:00"},
		{"the turn of the year", "hourly", "2025-12-31 23:30", "2026-01-01 00:00"},
		{"every second", "*:*:*", "2025-12-31 23:59:58", "2025-12-31 23:59:59|2026-01-01 00:00:00"},
		{"seconds in steps", "*:*:5/20", "2026-01-01 00:00:05", "2026-01-01 00:00:25|2026-01-01 00:00:45|2026-01-01 00:01:05"},
		{"a leap day on a Saturday", "sat 2-29", "2026-01-01 00:00", "2048-02-29 00:00"},
		{"not a leap year", "2-29", "2096-02-29 00:00", "2104-02-29 00:00"},
		{"quarters", "quarterly", "2026-01-01 00:00", "2026-04-01 00:00|2026-07-01 00:00|2026-10-01 00:00|2027-01-01 00:00"},
		{"half years", "semiannually", "2026-01-01 00:00", "2026-07-01 00:00|2027-01-01 00:00"},
	} {
		t.Run(row.name, func(t *testing.T) {
			checkNext(t, row.event, moment(t, row.after, time.UTC), strings.Split(row.want, "|")...)
		})
	}
	if at, ok := (Event{}).Next(time.Unix(0, 0)); ok {
		t.Errorf("the zero event happens at %v, want never", at)
	}
	e, _ := Parse("*:*:*")
	if at, _ := e.Next(time.Unix(10, 999)); at.Unix() != 11 {
		t.Errorf("after 10.000000999 s comes %v, want 11 s", at)
	}
}

// In Berlin, 2026-03-29 02:00 +0100 becomes 03:00 +0200, and 2026-10-25 03:00
// +0200 becomes 02:00 +0100.
func TestNextWhereTheClockChanges(t *testing.T) {
	for _, row := range []struct{ name, zone, event, after, want string }{
		{"a skipped time comes an hour later", "Europe/Berlin", "2:30", "2026-03-28 12:00", "2026-03-29 03:30:00 +0200|2026-03-30 02:30"},
		{"it does so for who asks in between", "Europe/Berlin", "2:30", "2026-03-29 03:10", "2026-03-29 03:30"},
		{"the hour of the change itself", "Europe/Berlin", "2,3:0", "2026-03-29 01:00", "2026-03-29 03:00|2026-03-30 02:00"},
		{"nothing else comes twice in spring", "Europe/Berlin", "1..3:30", "2026-03-29 00:00", "2026-03-29 01:30|2026-03-29 03:30|2026-03-30 01:30"},
		{"every hour goes on in spring", "Europe/Berlin", "*:0", "2026-03-29 01:00", "2026-03-29 03:00|2026-03-29 04:00"},
		{"quarters go on in spring", "Europe/Berlin", "0/15", "2026-03-29 01:30", "2026-03-29 01:45|2026-03-29 03:00|2026-03-29 03:15"},
		{"a repeated time comes once", "Europe/Berlin", "2:30", "2026-10-24 12:00", "2026-10-25 02:30:00 +0200|2026-10-26 02:30"},
		{"also for who asks in between", "Europe/Berlin", "2:30", "2026-10-25 02:10:00 +0100", "2026-10-26 02:30"},
		{"a time behind the repetition", "Europe/Berlin", "3:0", "2026-10-25 02:10:00 +0200", "2026-10-25 03:00:00 +0100"},
		{"every hour runs in both hours", "Europe/Berlin", "*:30", "2026-10-25 01:30", "2026-10-25 02:30:00 +0200|2026-10-25 02:30:00 +0100|2026-10-25 03:30"},
		{"quarters run in both hours", "Europe/Berlin", "0/15", "2026-10-25 02:45:00 +0200", "2026-10-25 02:00:00 +0100|2026-10-25 02:15:00 +0100"},
		{"UTC knows no change", "Europe/Berlin", "2:30 UTC", "2026-10-24 12:00", "2026-10-25 03:30:00 +0100|2026-10-26 03:30"},
		{"a change by half an hour", "Australia/Lord_Howe", "2:10", "2026-10-03 12:00", "2026-10-04 02:40|2026-10-05 02:10"},
		{"midnight that is skipped", "America/Sao_Paulo", "daily", "2018-11-03 12:00", "2018-11-04 01:00|2018-11-05 00:00"},
		{"midnight that is repeated", "America/Havana", "0:30", "2026-10-31 12:00", "2026-11-01 00:30:00 -0400|2026-11-02 00:30"},
		{"a day that is skipped", "Pacific/Apia", "daily", "2011-12-29 00:00", "2011-12-31 00:00|2012-01-01 00:00"},
		{"years ahead", "Europe/Berlin", "2100-7-1 12:00", "2026-01-01 00:00", "2100-07-01 12:00:00 +0200|never"},
		{"never, in a zone", "Europe/Berlin", "2-30", "2026-10-25 02:45:00 +0200", "never"},
	} {
		t.Run(row.name, func(t *testing.T) {
			zone, err := time.LoadLocation(row.zone)
			if err != nil {
				t.Fatal(err)
			}
			checkNext(t, row.event, moment(t, row.after, zone), strings.Split(row.want, "|")...)
		})
	}
}
