package node

import (
	"testing"
	"time"
)

// A clock that was 95 seconds off was said to be off by "2m0s", and one by 85 not at all.
func TestHowWrongAClockIs(t *testing.T) {
	for _, c := range []struct {
		ahead time.Duration
		of    int
		want  string
	}{
		{95*time.Second + 7*time.Millisecond, 2, "its clock is 1m35s behind those of most others"},
		{85 * time.Second, 2, "its clock is 1m25s behind those of most others"},
		{-95 * time.Second, 1, "its clock is 1m35s ahead of that of the other node: one of the two is wrong"},
		{-9 * time.Minute, 2, "its clock is 9m0s ahead of those of most others"},
		{12*time.Minute + 20*time.Second, 2, "its clock is 12m behind those of most others"},
		{26280 * time.Hour, 2, "its clock is 3 years behind those of most others"},
		{time.Hour + time.Second, 2, "its clock is 1h0m behind those of most others"},
		{time.Minute, 2, ""}, {-time.Second, 2, ""}, {time.Hour, 0, ""},
	} {
		if got := wrongBy(c.ahead, c.of); got != c.want {
			t.Errorf("%s, of %d: %q, want %q", c.ahead, c.of, got, c.want)
		}
	}
}
