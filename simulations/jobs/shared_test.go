package jobs

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// With -seeds, as many hours of faults are simulated, from -seed on: a failure
// names its seed.
var (
	firstSeed = flag.Uint64("seed", 0, "the first seed of TestSharedJob")
	seedCount = flag.Uint64("seeds", 0, "how many seeds TestSharedJob runs; 0: 3, or 1,000 with HOLDFAST_SOAK")
)

// Whatever happens, each time of a job that sites share has one effect, or is
// told to be missed; a node that was cut off, hung or slept has none late.
func TestSharedJob(t *testing.T) {
	seeds, first := uint64(3), *firstSeed
	if *seedCount > 0 {
		seeds = *seedCount
	} else if os.Getenv("HOLDFAST_SOAK") != "" {
		seeds = 1000
	}
	refused, longest := 0, time.Duration(0)
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := hours(t, seed)
				refused += d.refused
				longest = max(longest, d.longest)
			})
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d seeds: %d late effects refused; the longest time to an effect was %s", seeds, refused, longest)
}

// hours are some hours of faults.
func hours(t *testing.T, seed uint64) *target {
	rng := rand.New(rand.NewPCG(seed, 8))
	w := newWorld(t, seed)
	defer w.close()
	w.net.Slow(150*time.Millisecond, 0.2, 0.01)
	begin := time.Now()
	for time.Since(begin) < time.Hour {
		time.Sleep(time.Duration(rng.Int64N(int64(4 * time.Minute))))
		w.fault(rng)
	}
	w.net.Heal()
	for _, s := range w.sites {
		s.mu.Lock()
		s.skew, s.hangs = 0, 0
		s.mu.Unlock()
		if s.stop == nil {
			s.live()
		}
	}
	time.Sleep(3*every + 4*time.Minute) // the faults are over: every time is kept
	end := time.Now()
	d := w.target
	d.mu.Lock()
	defer d.mu.Unlock()
	for slot := begin.Truncate(every).Add(every); slot.Before(end.Add(-4 * time.Minute)); slot = slot.Add(every) {
		_, done := d.done[slot.Unix()]
		told := false
		for _, m := range d.missed {
			told = told || !slot.Before(m.from) && !slot.After(m.to)
		}
		if !done && !told {
			t.Errorf("the slot %s was missed, and nobody was told", slot)
		}
		if !done && end.Sub(slot) < 2*every {
			t.Errorf("the slot %s was missed after all faults were over", slot)
		}
	}
	if t.Failed() {
		w.explain()
	}
	return d
}

// fault breaks something, or mends it.
func (w *world) fault(rng *rand.Rand) {
	s := w.sites[rng.IntN(3)]
	switch rng.IntN(7) {
	case 0:
		var others []string
		for _, o := range w.sites {
			if o != s {
				others = append(others, o.id)
			}
		}
		w.net.Split([]string{s.id}, others)
		s.mu.Lock()
		s.hangs = time.Duration(rng.IntN(2)) * 4 * time.Minute // it does not notice
		s.mu.Unlock()
	case 1, 2:
		w.net.Heal()
	case 3:
		if s.stop != nil {
			s.stop()
		} else {
			s.live()
		}
	case 4:
		if s.stop == nil {
			s.live()
		}
	case 5:
		s.mu.Lock()
		s.skew = time.Duration(rng.Int64N(int64(40*time.Minute))) - 20*time.Minute
		s.mu.Unlock()
	case 6:
		s.mu.Lock()
		s.hangs = time.Duration(rng.IntN(2)) * 4 * time.Minute
		s.takes = time.Duration(rng.Int64N(int64(3 * time.Minute)))
		s.mu.Unlock()
	}
}
