package peers

import (
	"testing"
	"time"
)

// The clock of most counts if there are three at least, and ours is far from it.
func TestNow(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, c := range []struct {
		ahead time.Duration
		of    int
		want  time.Duration
	}{
		{0, 0, 0}, {-time.Hour, 1, 0}, {-time.Hour, 2, -time.Hour}, {time.Hour, 4, time.Hour}, {time.Minute, 4, 0}, {-10 * 24 * time.Hour, 2, -10 * 24 * time.Hour},
	} {
		if got := righted(now, func() (time.Duration, int) { return c.ahead, c.of }).Sub(now); got != c.want {
			t.Errorf("%v ahead of %d: %v, want %v", c.ahead, c.of, got, c.want)
		}
	}
	if d := time.Since(new(Link).Now()); d.Abs() > time.Minute {
		t.Errorf("before it is linked: %v", d)
	}
}
