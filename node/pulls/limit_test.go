package pulls_test

import (
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/replication/rate"
)

// The rate of a job follows the hour, and what an operator changes while it runs.
func TestRateFollowsTheHourAndTheSettings(t *testing.T) {
	t.Parallel()
	n := newMesh().node(t, "dc")
	j := settings.SyncJob{
		ID: "job", Store: "main", Remote: "home", RemoteStore: "main", RateIn: "20 MiB", BurstIn: "1 MiB",
		RateTimes: []string{"mon..fri 8-18=5MiB", "mon..fri 12-20=50MiB", "sun 0-23:59=1MiB"},
	}
	n.set(j)
	limit := n.LimitOf("job")
	at := func(day, hour int) time.Time { return time.Date(2026, 6, day, hour, 30, 0, 0, time.Local) } // the first is a Monday
	for _, tt := range []struct {
		name string
		now  time.Time
		want rate.Limit
	}{
		{"at work", at(1, 9), rate.Limit{Rate: 5 << 20}},
		{"the first that is now counts", at(1, 13), rate.Limit{Rate: 5 << 20}},
		{"a window gives no more than the rate", at(1, 19), rate.Limit{Rate: 20 << 20, Burst: 1 << 20}},
		{"at night", at(1, 22), rate.Limit{Rate: 20 << 20, Burst: 1 << 20}},
		{"on a Sunday", at(7, 9), rate.Limit{Rate: 1 << 20}},
	} {
		if got := limit(tt.now); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	j.RateTimes = nil
	n.set(j)
	if got := limit(at(1, 9)); got.Rate != 20<<20 {
		t.Errorf("a change while it runs: %+v", got)
	}
}
