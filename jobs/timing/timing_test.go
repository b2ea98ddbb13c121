package timing

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-mesh/holdfast/jobs/calendar"
)

func TestDecide(t *testing.T) {
	for _, row := range []struct {
		name, event, base, now string
		rule                   CatchUp
		run                    bool
		counts, next, missed   string
	}{
		{"not yet", "daily", "20 10:00", "20 23:59", Once, false, "20 10:00", "21 00:00", ""},
		{"now", "daily", "20 10:00", "21 00:00", Once, true, "21 00:00", "21 00:00", ""},
		{"now, without making up", "daily", "20 10:00", "21 00:01", Skip, true, "21 00:01", "21 00:00", ""},
		{"a while ago, made up", "daily", "20 10:00", "24 07:00", Once, true, "24 07:00", "21 00:00", "21 00:00"},
		{"a while ago, not made up", "daily", "20 10:00", "24 07:00", Skip, false, "24 07:00", "25 00:00", "21 00:00"},
		{"missed by what a look may be late", "daily", "20 10:00", "21 00:02", Skip, false, "21 00:02", "22 00:00", "21 00:00"},
		{"never", "2-30", "20 10:00", "24 07:00", Once, false, "20 10:00", "", ""},
		{"never again, not made up", "2026-11-21", "20 10:00", "24 07:00", Skip, false, "24 07:00", "", "21 00:00"},
		{"the clock was put back a little", "hourly", "20 10:00", "20 09:30", Once, false, "20 10:00", "20 11:00", ""},
		{"the clock was put back by days", "hourly", "24 10:00", "20 09:30", Once, false, "20 09:30", "20 10:00", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			e, err := calendar.Parse(row.event)
			if err != nil {
				t.Fatal(err)
			}
			v := Rule{Event: e, CatchUp: row.rule}.Decide(november(t, row.base), november(t, row.now))
			want := Verdict{row.run, november(t, row.counts), november(t, row.next), november(t, row.missed)}
			if v != want {
				t.Errorf("%+v, want %+v", v, want)
			}
		})
	}
}

// november reads "21 10:00", a time in November 2026.
func november(t *testing.T, text string) time.Time {
	t.Helper()
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse("2006-01-02 15:04", "2026-11-"+text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// rule makes a rule that may run in some windows.
func rule(t *testing.T, event string, delay time.Duration, catchUp CatchUp, windows ...string) Rule {
	t.Helper()
	e, err := calendar.Parse(event)
	if err != nil {
		t.Fatal(err)
	}
	w, err := ParseWindows(windows)
	if err != nil {
		t.Fatal(err)
	}
	return Rule{Event: e, Delay: delay, CatchUp: catchUp, Windows: w}
}

// A time outside of the windows waits for the next; several that wait are one, and
// none of them was missed. 2026-11-20 is a Friday.
func TestDecideInWindows(t *testing.T) {
	for _, row := range []struct {
		name               string
		rule               Rule
		base, now          string
		run                bool
		counts, next, miss string
	}{
		{"the window is open", rule(t, "hourly", 0, Once, "8-17"), "20 10:00", "20 11:00", true, "20 11:00", "20 11:00", ""},
		{"it is closed", rule(t, "hourly", 0, Once, "8-17"), "20 16:00", "20 17:00", false, "20 16:00", "21 08:00", ""},
		{"it opens, and fifteen times have waited", rule(t, "hourly", 0, Once, "8-17"), "20 16:00", "21 08:00", true, "21 08:00", "21 08:00", ""},
		{"it passes midnight", rule(t, "daily", 0, Once, "22-6"), "20 10:00", "21 00:00", true, "21 00:00", "21 00:00", ""},
		{"days are those of its evening", rule(t, "hourly", 0, Once, "fri 22-6"), "21 05:00", "21 06:00", false, "21 05:00", "27 22:00", ""},
		{"it was missed in its window, and is made up for in the next", rule(t, "23:00", 0, Once, "22-6"), "20 10:00", "21 12:00", false, "20 10:00", "20 23:00", ""},
		{"which is then", rule(t, "23:00", 0, Once, "22-6"), "20 10:00", "21 22:00", true, "21 22:00", "20 23:00", "20 23:00"},
		{"it was missed, and is not made up for", rule(t, "23:00", 0, Skip, "22-6"), "20 10:00", "21 12:00", false, "21 12:00", "21 23:00", "20 23:00"},
		{"the delay comes before the window", rule(t, "7:55", 10*time.Minute, Once, "8-17"), "20 10:00", "21 08:05", true, "21 07:55", "21 08:05", ""},
		{"a time that came within the delay of one that was made up for", rule(t, "hourly", 5*time.Minute, Skip), "20 10:00", "20 12:02", false, "20 11:57", "20 12:05", "20 11:05"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := row.rule.Decide(november(t, row.base), november(t, row.now))
			want := Verdict{row.run, november(t, row.counts), november(t, row.next), november(t, row.miss)}
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

// Whatever the windows, the time at which they open lies in one, is not before the
// time asked about, and no minute between them lies in one.
func TestWindowsOpen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var texts []string
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			days := rapid.SampledFrom([]string{"", "mon..fri ", "sat,sun ", "wed ", "sun "}).Draw(t, "days")
			from, to := rapid.IntRange(0, 23).Draw(t, "from"), rapid.IntRange(0, 24).Draw(t, "to")
			if from == to {
				to++
			}
			texts = append(texts, fmt.Sprintf("%s%d:30-%d", days, from, to))
		}
		w, err := ParseWindows(texts)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Date(2026, 11, 16, 0, rapid.IntRange(0, 7*24*60).Draw(t, "minute"), 0, 0, time.UTC)
		opens, ok := w.Open(at)
		if !ok || opens.Before(at) || !w.Contain(opens) {
			t.Fatalf("%q open at %s (%v)", texts, opens, ok)
		}
		for m := at; m.Before(opens); m = m.Add(time.Minute) {
			if w.Contain(m) {
				t.Fatalf("%q are open at %s, before %s", texts, m, opens)
			}
		}
	})
}

func TestParseWindowsRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "one time": "8", "an end that is its beginning": "8-8", "an unknown day": "foo 8-9", "an hour too many": "22-25", "garbage": "8-9 x",
	} {
		if w, err := ParseWindows([]string{text}); err == nil {
			t.Errorf("%s: %q is %v", name, text, w)
		}
	}
}
