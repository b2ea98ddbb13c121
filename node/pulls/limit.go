package pulls

import (
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/settings"
	"github.com/holdfast-mesh/holdfast/pbs/traffic"
	"github.com/holdfast-mesh/holdfast/replication/rate"
)

// A Limit is a rate with its burst.
type Limit = rate.Limit

// ParseLimit reads a rate as an operator writes it, "20MiB" a second; "" is no
// limit.
func ParseLimit(text string) (Limit, error) {
	if text == "" {
		return Limit{}, nil
	}
	n, err := traffic.ParseBytes(text)
	if err == nil && n < 1 {
		err = fmt.Errorf("%q is no rate", text)
	}
	return Limit{Rate: n}, err
}

// limit returns the limit of a job as the settings have it at any time.
func (p *Pulls) limit(id string) func(time.Time) rate.Limit {
	var mu sync.Mutex
	var seen *settings.State
	var l rate.Timetable
	return func(now time.Time) rate.Limit {
		mu.Lock()
		defer mu.Unlock()
		if state := p.cfg.Settings.State(); state != seen {
			j, _ := state.SyncJob(id)
			seen, l = state, limitOf(j)
		}
		return l.At(now)
	}
}

// limitOf are the limits of a job, whose texts were checked.
func limitOf(j settings.SyncJob) (t rate.Timetable) {
	in, _ := ParseLimit(j.RateIn)
	burst, _ := ParseLimit(j.BurstIn)
	if j.Pushes() {
		in, _ = ParseLimit(j.RateOut)
		burst, _ = ParseLimit(j.BurstOut)
	}
	t.Else = rate.Limit{Rate: in.Rate, Burst: burst.Rate}
	for _, text := range j.RateTimes {
		if w, n, err := traffic.ParseTimed(text); err == nil {
			t.Rows = append(t.Rows, rate.Row{In: w.Contains, Limit: rate.Limit{Rate: n}})
		}
	}
	return t
}
