package overview

import (
	"testing"
	"time"
)

// A clock that was three years wrong was said to be so by 26280h0m.
func TestLong(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		0: "0s", 95 * time.Second: "1m35s", -12*time.Minute - 20*time.Second: "12m", 47 * time.Hour: "47h0m", 48 * time.Hour: "2 days",
		239*time.Hour + 59*time.Minute: "10 days", 26280 * time.Hour: "3 years", 912 * day: "2.5 years", -1 << 63: "292.5 years",
	} {
		if got := Long(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
