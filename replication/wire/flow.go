package wire

import (
	"net"
	"sync"
	"time"
)

// A flow decides how many bytes a peer may have on their way to us over all of
// its streams together. TCP by itself sends more until packets are lost, and the
// queue of a long line holds so many that afterwards it needs minutes to be fast
// again. A flow allows more only while more arrives for it; when the line is full
// the rest would wait in a queue, and delay what is urgent.
//
// It begins with what a usual line holds, and widens while all of that arrives in
// one round trip. After that it tries, now and then and for a second, whether a
// wider window brings more: round trips are longer than the shortest one for
// reasons of their own.
type flow struct {
	now func() time.Time

	mu      sync.Mutex
	streams map[*stream]bool // those that are open; true: it owes us something
	busy    int              // of streams
	rtt     time.Duration    // the shortest round trip seen
	window  int              // bytes for all streams; 0: nothing is known yet
	each    int              // bytes that a stream was allowed last

	since, last time.Time // of what follows: when it began, and when something came
	moved       int

	settled bool    // the first widening is over
	calm    int     // looks since it brought something
	before  int     // the window before the trial that goes on; 0: none does
	rate    float64 // bytes a second, at that time; at first: at the last look
	pause   int     // looks until the next trial
	rest    int     // that pause, after the last trial that brought nothing
}

// What a flow begins with, and what it allows at most.
const (
	firstRate  = 16 << 20 // bytes a second that any line is thought to carry
	leastRTT   = 10 * time.Millisecond
	minWindow  = 64 << 10 // of one stream
	maxWindow  = 2 << 20
	sendBuffer = maxWindow + 256<<10 // at the server, which has to keep what is on its way

	fullShare = 0.7  // of a window that arrives in a round trip, if it is the limit
	wide      = 1.6  // times what the line holds, as far as is known, is the next window then
	widen     = 1.3  // times, to try whether that brings more
	most      = 2.0  // times what the line holds: more would wait in its queue, or be lost there
	worth     = 1.05 // times as much must a trial bring
	grows     = 1.25 // times as much says that streams are beginning
	enough    = 2    // looks without that, and the first widening is over
	firstLook = 50 * time.Millisecond
	lookEvery = time.Second // after the first widening; or some round trips
	longRest  = 8
)

// opened takes a stream, which took so long to open for each round trip.
func (f *flow) opened(s *stream, rtt time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.streams == nil {
		f.streams = map[*stream]bool{}
	}
	rtt = max(rtt, leastRTT) // below it, what the machine does counts for more
	if f.rtt == 0 || rtt < f.rtt {
		f.rtt = rtt
	}
	if f.window == 0 {
		f.window = max(int(firstRate*f.rtt.Seconds()), 4*minWindow)
	}
	f.streams[s] = false
	allow(s.conn, f.share())
}

func (f *flow) closed(s *stream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.streams[s] {
		f.busy--
	}
	delete(f.streams, s)
	f.spread()
}

// owes notes whether a stream owes us something: the window is for those.
func (f *flow) owes(s *stream, yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if was, open := f.streams[s]; !open || was == yes {
		return
	}
	f.streams[s] = yes
	if yes {
		f.busy++
	} else {
		f.busy--
	}
	f.spread()
}

// arrived notes bytes of a stream, and looks at times how it goes.
func (f *flow) arrived(n int) {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.last) > max(4*f.rtt, lookEvery/2) { // nobody asked, or the line was down
		f.since, f.moved = now, 0
	}
	f.last = now
	if now.Before(f.since) {
		return
	}
	f.moved += n
	long := max(2*f.rtt, firstLook)
	if f.settled {
		long = max(8*f.rtt, lookEvery)
	}
	if took := now.Sub(f.since); took >= long && f.rtt > 0 {
		f.look(float64(f.moved) / took.Seconds())
		f.since, f.moved = now.Add(f.rtt), 0 // what changed can be seen after a round trip
	}
}

// look decides on the window, at which so many bytes a second arrived.
func (f *flow) look(rate float64) {
	holds := rate * f.rtt.Seconds()
	switch {
	case holds >= fullShare*float64(f.window): // it is the limit
		f.calm, f.before, f.rest, f.pause = 0, 0, 0, 0
		f.to(min(2*f.window, int(wide*holds)))
	case !f.settled:
		// A stream that has just begun is bound by its sender, which widens its own window
		// (RFC 5681 §3.1). While more arrives each time, less than all says nothing.
		if rate < grows*f.rate {
			f.calm++
		}
		f.settled = f.calm >= enough
	default:
		f.try(rate)
		return
	}
	f.rate = rate
}

// try widens now and then, and goes back when that brought nothing.
func (f *flow) try(rate float64) {
	switch {
	case f.before > 0 && rate < worth*f.rate:
		f.window, f.before = f.before, 0
		f.rest = min(2*f.rest+2, longRest)
		f.pause = f.rest
		f.spread()
		return
	case f.before > 0:
		f.rest, f.before = 0, 0
	case f.pause > 0:
		f.pause--
		return
	}
	if wider := int(widen * float64(f.window)); float64(wider) <= most*rate*f.rtt.Seconds() {
		before := f.window
		if f.to(wider); f.window > before {
			f.before, f.rate = before, rate
		}
	}
}

// to widens the window to so many bytes, if the streams can have more.
func (f *flow) to(wider int) {
	if wider > f.window && f.window/max(f.busy, 1) < maxWindow {
		f.window = wider
		f.spread()
	}
}

func (f *flow) share() int { return min(max(f.window/max(f.busy, 1), minWindow), maxWindow) }

// spread tells all streams what each of them may send.
func (f *flow) spread() {
	each := f.share()
	if d := each - f.each; d*16 < each && -d*16 < each {
		return
	}
	f.each = each
	for s := range f.streams {
		allow(s.conn, each)
	}
}

// allow sets how much may be on its way to a connection. Only a connection of
// the tunnel can do that in the midst of a stream: that of the kernel, which
// knows more, is left to it.
func allow(c net.Conn, bytes int) {
	if b, ok := under(c).(interface{ SetReadBuffer(int) error }); ok {
		_ = b.SetReadBuffer(bytes)
	}
}

// under returns the connection below those that only look at what passes.
func under(c net.Conn) net.Conn {
	for {
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = w.NetConn()
	}
	if _, kernel := c.(*net.TCPConn); kernel {
		return nil
	}
	return c
}
