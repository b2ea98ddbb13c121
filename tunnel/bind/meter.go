package bind

import (
	"sync/atomic"
	"time"
)

// A meter counts packets of one peer that arrived directly and that did not,
// by the counters that WireGuard gives them. One goroutine may note; any may
// read.
type meter struct {
	index     uint32 // of WireGuard's session
	highest   uint64
	got, lost uint32

	published atomic.Uint64 // got and lost
}

const (
	meterWindow = 20_000 // packets after which the past counts half
	maxGap      = 10_000 // a larger gap is a path that was away, not loss
)

// note counts a packet. Those over a relay fill gaps only.
func (m *meter) note(index uint32, counter uint64, direct bool) {
	switch {
	case index != m.index:
		m.index, m.highest = index, counter
	case counter > m.highest:
		if gap := counter - m.highest - 1; gap < maxGap && direct {
			m.lost += uint32(gap)
		}
		m.highest = counter
	case direct && m.lost > 0: // it was only late
		m.lost--
	}
	if !direct {
		return
	}
	if m.got++; m.got+m.lost > meterWindow {
		m.got, m.lost = m.got/2, m.lost/2
	}
}

func (m *meter) publish() { m.published.Store(uint64(m.got)<<32 | uint64(m.lost)) }

// counts returns what was published last.
func (m *meter) counts() (got, lost uint32) {
	v := m.published.Load()
	return uint32(v >> 32), uint32(v)
}

// share returns lost as a share of all, zero if there are too few to tell.
func share(got, lost uint32) float64 {
	const few = 100
	if got+lost < few {
		return 0
	}
	return float64(lost) / float64(got+lost)
}

// A limiter lets so many through in a second.
type limiter struct {
	second atomic.Int64
	count  atomic.Int32
}

func (l *limiter) allow(now time.Duration, most int32) bool {
	if s := int64(now / time.Second); l.second.Swap(s) != s {
		l.count.Store(0)
	}
	return l.count.Add(1) <= most
}
