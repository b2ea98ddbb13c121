package stall

import (
	"testing"
	"time"
)

func TestDeadline(t *testing.T) {
	long := []time.Duration{10 * time.Hour} // of a run that is too old to say anything
	for range 10 {
		long = append(long, 20*time.Minute)
	}
	for _, c := range []struct {
		took []time.Duration
		want time.Duration
	}{
		{nil, 30 * time.Minute},
		{[]time.Duration{time.Second}, 30 * time.Minute},
		{[]time.Duration{time.Hour, 2 * time.Hour, time.Minute}, 6 * time.Hour},
		{long, time.Hour},
	} {
		if got := Deadline(c.took); got != c.want {
			t.Errorf("after %v: %s, want %s", c.took, got, c.want)
		}
	}
}

// What is seen, and figures that change, are signs; one that stands still is none,
// and neither is the first look at it.
func TestQuiet(t *testing.T) {
	var s Signs
	bytes, still := int64(5), int64(7)
	at := time.Unix(1_700_000_000, 0)
	s.Seen(at)
	s.Watch(func() int64 { return bytes })
	s.Watch(func() int64 { return still })
	want := func(after, quiet time.Duration) {
		t.Helper()
		if got := s.Quiet(at.Add(after)); got != quiet {
			t.Errorf("after %s: quiet for %s, want %s", after, got, quiet)
		}
	}
	want(time.Minute, time.Minute)
	bytes++
	want(2*time.Minute, 0)
	want(5*time.Minute, 3*time.Minute)
	s.Seen(at.Add(6 * time.Minute))
	want(7*time.Minute, time.Minute)
}
