package wire

import (
	"net"
	"sync"
	"time"
)

// A flow decides how many bytes a peer may have on their way to us over all of
// its streams together. TCP by itself sends more until packets are lost, and the
// queue of a long line holds so many that afterwards it needs minutes to be fast
// again. A flow allows more only while that makes more arrive in a round trip;
// when the line is full the rest would wait in a queue, and delay what is urgent.
type flow struct {
	now func() time.Time

	mu      sync.Mutex
	streams map[*stream]bool // those that are open; true: it owes us something
	busy    int              // of streams
	rtt     time.Duration    // the shortest round trip seen
	window  int              // bytes for all streams; 0: nothing is known yet
	each    int              // bytes that a stream was allowed last

	since time.Time // of what follows
	moved int
}

// What a flow begins with, and what it allows at most.
const (
	firstRate  = 8 << 20 // bytes a second that any line is thought to carry
	leastRTT   = 10 * time.Millisecond
	minWindow  = 64 << 10 // of one stream
	maxWindow  = 2 << 20
	sendBuffer = maxWindow + 256<<10 // at the server, which has to keep what is on its way

	fullShare = 0.85 // of a window that arrives in a round trip, if it is the limit
	widen     = 1.4
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

// arrived notes bytes of a stream, and widens the window if it is the limit.
func (f *flow) arrived(n int) {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Before(f.since) {
		return
	}
	f.moved += n
	took := now.Sub(f.since)
	if took < 2*f.rtt {
		return
	}
	inTrip := float64(f.moved) * f.rtt.Seconds() / took.Seconds()
	f.since, f.moved = now, 0
	if took < 8*f.rtt && inTrip >= fullShare*float64(f.window) && f.share() < maxWindow {
		f.window = int(float64(f.window) * widen)
		f.since = now.Add(f.rtt) // until it can be seen
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
