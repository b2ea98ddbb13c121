package guard

import (
	"strings"
	"testing"
	"time"
)

// A time in the form of all other times was refused with `extra text: "T00:00:00Z"`, and no
// word of the one that is wanted.
func TestLockUntil(t *testing.T) {
	for text, want := range map[string]time.Time{
		"2027-06-01": time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC), "2027-06-01T00:00:00Z": time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC),
		"2027-06-01T08:30:00+02:00": time.Date(2027, 6, 1, 6, 30, 0, 0, time.UTC),
	} {
		if at, err := parseTime(text); err != nil || !at.Equal(want) {
			t.Errorf("%s: %s, %v", text, at, err)
		}
	}
	for _, text := range []string{"2027-06-31", "tomorrow", "2027-06-01 08:00", "2027-06-01T08:00:00", "1.6.2027"} {
		_, err := (&floorFlags{lock: text}).params("main")
		if err == nil || !strings.Contains(err.Error(), "--lock-until") || !strings.Contains(err.Error(), "2027-01-31T08:00:00Z") || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
