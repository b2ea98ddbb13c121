package calendar

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Last is what one comes to by going from one time to the next.
func TestLastIsTheNewest(t *testing.T) {
	zones := []string{"UTC", "Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"}
	events := []string{"minutely", "hourly", "daily", "02:30", "mon..fri 8..17/3:30", "sat 18:15", "mon *-1..7 05:00", "*:0/7", "monthly", "02-29", "2:30 UTC"}
	rapid.Check(t, func(t *rapid.T) {
		e, err := Parse(rapid.SampledFrom(events).Draw(t, "event"))
		if err != nil {
			t.Fatal(err)
		}
		zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(rapid.Int64Range(1_700_000_000, 1_900_000_000).Draw(t, "at"), 0).In(zone)
		got, ok := e.Last(at)
		if !ok {
			t.Fatalf("none before %s", at)
		}
		if again, ok := e.Next(got.Add(-time.Second)); !ok || !again.Equal(got) {
			t.Fatalf("%s is none of its times", got)
		}
		if next, ok := e.Next(got); got.After(at) || ok && !next.After(at) {
			t.Fatalf("%s, and then %s, up to %s", got, next, at)
		}
	})
}

// An event that never happens, or will, has no last time.
func TestLastOfNone(t *testing.T) {
	at := time.Date(2026, 11, 29, 6, 0, 0, 0, time.UTC)
	for _, text := range []string{"2-30", "2030-1-1", "1990-1-1"} {
		e, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := e.Last(at); ok {
			t.Errorf("%s: %s", text, got)
		}
	}
	e, _ := Parse("daily")
	if got, ok := e.Last(time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)); !ok || got.Hour() != 0 || got.Day() != 29 {
		t.Errorf("a time that is now: %s", got)
	}
}
