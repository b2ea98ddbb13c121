package guard

import "time"

// A sample is what the machine's clock said at a time of the guard's; both in
// seconds.
type sample struct{ clock, wall int64 }

// A run is a time in which the machine's clock went as the guard's did.
type run struct{ from, to sample }

// slack is how far the two may be apart in a run. No clock drifts so far between
// two entries; less than that counts for nothing in an age.
const slack = 60

// holds tells whether the machine's clock did not jump between r and s.
func (r run) holds(s sample) bool {
	off := (s.wall - r.from.wall) - (s.clock - r.from.clock)
	return -slack <= off && off <= slack
}

// A pace is all runs since the guard was made, the oldest first. Between two of them
// the machine's clock jumped, or the node was off.
type pace []run

// note takes a sample in, and tells whether the machine's clock has jumped.
func (p *pace) note(s sample) bool {
	if n := len(*p); n > 0 && (*p)[n-1].holds(s) {
		(*p)[n-1].to = s
		return false
	}
	*p = append(*p, run{s, s})
	return len(*p) > 1
}

// showed is when, by the guard's clock, that of the machine showed a time in a run, or
// between that and the one before, when nobody looked; the latest of what may be.
func (p pace) showed(i int, wall int64) (clock int64, is bool) {
	r := p[i]
	if r.from.wall <= wall && wall <= r.to.wall {
		return max(r.from.clock, r.to.clock-(r.to.wall-wall)), true
	}
	if i == 0 {
		return 0, false
	}
	last := p[i-1].to
	unseen := r.from.clock - last.clock
	before := last.wall < wall && wall <= last.wall+unseen // it jumped at the end
	after := r.from.wall-unseen <= wall && wall < r.from.wall
	return r.from.clock, before || after
}

// age is for how long at least, by the guard's clock, there is what bears a time of
// the machine's.
func (p pace) age(of int64) int64 {
	now := p[len(p)-1].to
	for i := len(p) - 1; i >= 0; i-- {
		if at, is := p.showed(i, of); is {
			return now.clock - at // it was made when the clock showed that, as far as its name is believed
		}
	}
	// The clock never showed that: it is from before the guard, or from elsewhere.
	// Of all that the clock said afterwards, what makes it youngest counts.
	age, seen := now.wall-of, false
	for i, r := range p {
		if r.from.wall < of || i > 0 && !seen && now.wall < of {
			continue
		}
		ran := now.clock - r.from.clock
		switch {
		case seen:
			age = min(age, ran+r.from.wall-of)
		case i == 0:
			age = ran + r.from.wall - of
		default:
			age = ran // that the clock jumped over it proves nothing
		}
		seen = true
	}
	return age
}

// Age is how old at least a thing is that bears a time of the machine's clock. It
// grows as the guard's clock goes, and no jump of the machine's changes it. What is
// from before the guard, or from another machine, is believed as far as the machine's
// clock never made it younger.
func (g *Guard) Age(of time.Time) time.Duration {
	const most = 200 * 365 * 24 * 3600 // more seconds would overflow
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.look() // what could not be written counts until the node stops
	return time.Duration(max(-most, min(g.pace.age(of.Unix()), most))) * time.Second
}

// Look makes it durable if the machine's clock has jumped, for [Guard.Age]. It is to
// be called every few seconds: of a jump that nobody saw nothing can be known.
func (g *Guard) Look() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.look()
}

func (g *Guard) look() error {
	if g.pace.note(sample{g.clock(), g.now().Unix()}) {
		g.jumped = true
	}
	if !g.jumped {
		return nil
	}
	return g.write("", kindClock, nil)
}
