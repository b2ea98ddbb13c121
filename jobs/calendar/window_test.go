package calendar

import (
	"errors"
	"testing"
	"time"
)

func TestWindowContains(t *testing.T) {
	for _, row := range []struct {
		name, window, at string
		want             bool
	}{
		{"the start belongs to it", "8-17:30", "2026-11-20 08:00:00", true},
		{"the end does not", "8-17:30", "2026-11-20 17:30:00", false},
		{"the second before the end does", "8-17:30", "2026-11-20 17:29:59", true},
		{"before the start", "8:15 - 9", "2026-11-20 08:14:59", false},
		{"on one of its days", "mon..fri 8-17", "2026-11-20 12:00:00", true},
		{"on another day", "mon..fri 8-17", "2026-11-21 12:00:00", false},
		{"days beyond the end of the week", "sat..sun,Mon 0-23:59", "2026-11-23 12:00:00", true},
		{"an empty window", "8-8", "2026-11-20 08:00:00", false},
		{"without a blank", "fri8-9", "2026-11-20 08:30:00", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			w, err := ParseWindow(row.window)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.Contains(moment(t, row.at, time.UTC)); got != row.want {
				t.Errorf("%q contains %s: %v, want %v", row.window, row.at, got, row.want)
			}
		})
	}
	if (Window{}).Contains(time.Unix(0, 0).UTC()) {
		t.Error("the zero window has midnight in it")
	}
}

func TestParseWindowRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                  "",
		"one time":                 "8",
		"days alone":               "mon..fri",
		"midnight as 24":           "0-24",
		"a minute too many":        "8:60-9",
		"an end before the start":  "22-6",
		"an end a minute too soon": "8:30-8:29",
		"a missing end":            "8-",
		"a missing minute":         "8:-9",
		"seconds":                  "8:00:00-9",
		"garbage behind":           "8-9 x",
		"a blank behind":           "8-9 ",
		"an unknown day":           "foo 8-9",
	} {
		t.Run(name, func(t *testing.T) {
			w, err := ParseWindow(text)
			if cause, ok := errors.AsType[*Error](err); !ok || cause.Hint() == "" {
				t.Errorf("ParseWindow(%q) = %v, %v, want an *Error with a hint", text, w, err)
			}
		})
	}
}

func FuzzParseWindow(f *testing.F) {
	for _, text := range []string{"8-17:30", "mon..fri 22:00-23:59", "sat..sun,mon 0 - 0:01", "8-8", "24-25"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ParseWindow(text)
		if err != nil {
			return
		}
		if again, err := ParseWindow(w.String()); err != nil || again != w {
			t.Fatalf("%q is written %q and read %+v, %v, want %+v", text, w, again, err, w)
		}
	})
}
