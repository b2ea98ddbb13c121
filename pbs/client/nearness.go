package client

import (
	"runtime"
	"time"

	"github.com/holdfast-mesh/holdfast/pbs/client/wire"
)

const (
	// perProcessor is how many bytes of chunks keep a processor busy at either
	// end of a line that has no length.
	perProcessor = 8 << 20

	// lineSpeed is how many bytes the fastest line takes in a second. What is on
	// its way there hides how long it is.
	lineSpeed = 1 << 30
)

// A nearness says how much of a budget a byte takes that is on its way to a
// server. To a near one nothing is gained by many: they wait at its end, in
// memory that both sides would do better without.
type nearness struct{ budget, enough int64 }

// near returns what the way of a session is like.
func (c *Client) near(s *wire.Session) nearness {
	return nearnessOf(c.cfg.InFlight, s.RoundTrip(), runtime.GOMAXPROCS(0))
}

func nearnessOf(budget int64, trip time.Duration, processors int) nearness {
	onLine := int64(min(trip, time.Second) * lineSpeed / time.Second)
	enough := max(minInFlight, perProcessor*int64(processors)) + onLine
	return nearness{budget, min(enough, budget)}
}

// cost returns what n bytes take of the budget.
func (d nearness) cost(n int64) int64 {
	return min(int64(float64(n)*float64(d.budget)/float64(d.enough)), d.budget)
}
