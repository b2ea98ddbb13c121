package rate

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Timetable is limits for parts of the week: the first row whose In says yes
// counts, and Else if none does. A row never gives more than Else, if that is a
// limit: what is above is only ever lowered.
type Timetable struct {
	Rows []Row
	Else Limit
}

// A Row is a limit for some of the time. jobs.Window.Contains is an In.
type Row struct {
	In    func(now time.Time) bool
	Limit Limit
}

// At returns the limit at a time. It is what New takes.
func (t Timetable) At(now time.Time) Limit {
	for _, r := range t.Rows {
		if r.In(now) {
			return lower(r.Limit, t.Else)
		}
	}
	return t.Else
}

// lower returns the lower one of two limits.
func lower(a, b Limit) Limit {
	if a.Rate <= 0 || b.Rate > 0 && b.Rate < a.Rate {
		return b
	}
	return a
}

// GuardConfig says how a Guard works. The zero value of an optional field means
// its default.
type GuardConfig struct {
	// Ping asks the other end for nothing, over the path that the bulk of the
	// bytes takes, and returns how long that took. Required.
	Ping func(ctx context.Context) (time.Duration, error)

	Limit func(now time.Time) Limit // that holds in any case; default: none
	Delay time.Duration             // more than the usual round trip that is borne; default 100 ms
	After time.Duration             // how long it may be more; default 3 s
	Least int64                     // bytes a second that are left to the bulk; default 64 KiB
}

// A Guard keeps a line usable for others while bulk is sent over it. A full
// uplink queues seconds of packets, and what is small and urgent, as the
// heartbeats of a cluster, waits behind them. The guard measures the round trip
// while bytes move; when it is longer than usual for some seconds it lowers the
// limit by 15 % each second, and when it is not, raises it by 5 %. If round trips stay
// long though hardly anything is sent, they are usual from then on.
//
// It is the limit of a bucket: New(up, guard.Limit), with Guard.Run beside, and
// Guard.Count told of what passes. See consensus notes §6.3.
type Guard struct {
	cfg GuardConfig

	mu    sync.Mutex
	moved int64         // bytes since the last step
	usual time.Duration // the shortest round trip of late
	late  time.Time     // since when it is longer than it may be; zero: it is not
	least time.Time     // since when the bulk has the least that it is left; zero: it has more
	rate  float64       // bytes a second that may pass; 0: any
}

// NewGuard returns a guard that limits nothing yet.
func NewGuard(cfg GuardConfig) (*Guard, error) {
	if cfg.Ping == nil {
		return nil, errors.New("rate: a guard needs a way to measure the round trip")
	}
	if cfg.Limit == nil {
		cfg.Limit = Fixed(Limit{})
	}
	if cfg.Delay == 0 {
		cfg.Delay = 100 * time.Millisecond
	}
	if cfg.After == 0 {
		cfg.After = 3 * time.Second
	}
	if cfg.Least == 0 {
		cfg.Least = 64 << 10
	}
	return &Guard{cfg: cfg}, nil
}

// Count notes bytes that passed.
func (g *Guard) Count(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.moved += int64(n)
}

// Limit returns the limit at a time, for New.
func (g *Guard) Limit(now time.Time) Limit {
	l := g.cfg.Limit(now)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rate > 0 {
		return lower(Limit{Rate: int64(g.rate), Burst: max(int64(g.rate)/20, piece)}, l)
	}
	return l
}

// How a guard steps.
const (
	stepEvery = time.Second
	seldom    = 15              // steps between pings while nothing moves
	longPing  = 5 * time.Second // what takes longer did not come back at all
	down, up  = 0.85, 1.05
	forget    = 1.01 // the usual round trip grows by so much a step, as paths change

	// After so long with hardly any bulk it is not the bulk that makes round trips
	// long: the path is another one, or another machine is as slow as this.
	innocent = 30 * time.Second
)

// Run measures and adapts until ctx is done.
func (g *Guard) Run(ctx context.Context) error {
	tick := time.NewTicker(stepEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		g.mu.Lock()
		idle := g.moved == 0 && g.rate == 0
		g.mu.Unlock()
		if idle && n%seldom != 0 {
			continue // but what is usual has to be known before anything moves
		}
		pctx, cancel := context.WithTimeout(ctx, longPing)
		rtt, err := g.cfg.Ping(pctx)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			rtt = longPing
		}
		g.step(rtt, time.Now())
	}
}

// step adapts the limit to a round trip.
func (g *Guard) step(rtt time.Duration, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	moved := float64(g.moved) / stepEvery.Seconds()
	g.moved = 0
	if moved == 0 && rtt > g.usual+g.cfg.Delay && g.usual > 0 {
		g.late = time.Time{} // the other end is slow, or gone; there is no bulk that could be why
		return
	}
	if g.usual == 0 || rtt < g.usual {
		g.usual = rtt
	} else if g.late.IsZero() {
		g.usual = min(rtt, time.Duration(float64(g.usual)*forget))
	}
	if !g.least.IsZero() && now.Sub(g.least) >= innocent {
		g.usual, g.least = rtt, time.Time{}
	}
	if rtt <= g.usual+g.cfg.Delay {
		g.late, g.least = time.Time{}, time.Time{}
		if g.rate *= up; g.rate > 2*moved && moved > 0 {
			g.rate = max(2*moved, float64(g.cfg.Least)) // what is not used says nothing of the line
		}
		return
	}
	if g.late.IsZero() {
		g.late = now
	}
	if now.Sub(g.late) < g.cfg.After {
		return
	}
	if g.rate == 0 {
		g.rate = moved
	}
	if g.rate *= down; g.rate > float64(g.cfg.Least) {
		return
	}
	g.rate = float64(g.cfg.Least)
	if g.least.IsZero() {
		g.least = now
	}
}
