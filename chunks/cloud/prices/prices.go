// Package prices decides what is worth its money in a bucket.
package prices

import "time"

// A List is what a provider charges. Only their ratios matter.
type List struct {
	Storage float64       // per GB and month; default 1
	Put     float64       // per request
	Get     float64       // per request
	Egress  float64       // per GB that is read
	Minimum time.Duration // every object is billed for at least so long
}

// Pack is what decides whether a pack is rewritten.
type Pack struct {
	Age        time.Duration
	Live, Dead int64 // bytes
}

// horizon is how long dead bytes would be paid for otherwise: about as long as
// a chunk lives that has survived the local tier.
const horizon = 180 * 24 * time.Hour

const month = 30 * 24 * time.Hour

// Compact reports whether rewriting a pack without its dead chunks is cheaper
// than to keep paying for them. Before the provider's minimum is over it never
// is: the old object is billed to the end anyway.
func (p List) Compact(f Pack) bool {
	if f.Dead <= 0 || f.Age < p.Minimum {
		return false
	}
	storage := p.Storage
	if storage == 0 {
		storage = 1
	}
	const gb = 1e9
	save := float64(f.Dead) / gb * storage * float64(horizon) / float64(month)
	cost := p.Put + p.Get + float64(f.Live)/gb*p.Egress
	// What is rewritten begins a minimum of its own, and some of it dies within.
	cost += float64(f.Live) / gb * storage * float64(p.Minimum) / float64(month) * dieWithin
	// A rewrite takes the uplink's time as well: below a fifth it is not worth it.
	return save > cost && float64(f.Dead) >= leastDead*float64(f.Live+f.Dead)
}

const (
	leastDead = 0.2
	dieWithin = 0.05 // share of old chunks that die within a minimum
)

// Held returns until when an object of which nothing is needed stays: as long as it
// is locked, and as long as it is billed anyway, since that is an undo for nothing.
func (p List) Held(locked, created time.Time) time.Time {
	if until := created.Add(p.Minimum); p.Minimum > 0 && until.After(locked) {
		return until
	}
	return locked
}
