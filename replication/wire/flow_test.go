package wire

import (
	"net"
	"testing"
	"time"
)

// room is a connection that notes how much may be on its way to it.
type room struct {
	net.Conn
	bytes int
}

func (r *room) SetReadBuffer(n int) error { r.bytes = n; return nil }

// wrapped hides it, as what limits rates or names the peer does.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

// A fluid is a line of a rate and a round trip, over which all that its streams
// may send is on its way.
type fluid struct {
	flow    flow
	now     time.Time
	rtt     time.Duration
	rate    float64 // bytes a second
	streams []*stream
	rooms   []*room
	begun   float64 // bytes that the senders send in a round trip; 0: as many as they may
}

func newFluid(rate float64, rtt time.Duration, streams int) *fluid {
	x := &fluid{now: time.Unix(1e9, 0), rtt: rtt, rate: rate}
	x.flow.now = func() time.Time { return x.now }
	for range streams {
		r := &room{}
		s := &stream{conn: wrapped{r}, flow: &x.flow}
		x.flow.opened(s, rtt)
		x.flow.owes(s, true)
		x.streams, x.rooms = append(x.streams, s), append(x.rooms, r)
	}
	return x
}

func (x *fluid) allowed() (sum float64) {
	for s, owes := range x.flow.streams {
		if owes {
			sum += float64(s.conn.(wrapped).Conn.(*room).bytes)
		}
	}
	return sum
}

// run lets time pass, and returns how many bytes came and how many were on
// their way at most.
func (x *fluid) run(d time.Duration) (bytes, most float64) {
	const step = 5 * time.Millisecond
	for end := x.now.Add(d); x.now.Before(end); {
		x.now = x.now.Add(step)
		perTrip := x.allowed()
		if x.begun > 0 {
			perTrip = min(perTrip, x.begun)
			x.begun += perTrip * step.Seconds() / x.rtt.Seconds() // as many again for each that arrives
		}
		n := min(x.rate, perTrip/x.rtt.Seconds()) * step.Seconds()
		bytes, most = bytes+n, max(most, x.allowed())
		x.flow.arrived(int(n))
	}
	return bytes, most
}

// A flow finds out what a line holds within seconds, and does not fill the queue
// before it much further.
func TestFlowFillsTheLine(t *testing.T) {
	for _, tt := range []struct {
		mbit    float64
		rtt     time.Duration
		streams int
	}{{200, 150 * time.Millisecond, 4}, {100, 40 * time.Millisecond, 4}, {1000, 30 * time.Millisecond, 8}, {600, 150 * time.Millisecond, 16}} {
		rate := tt.mbit / 8 * 1e6
		x := newFluid(rate, tt.rtt, tt.streams)
		holds := rate * tt.rtt.Seconds()
		x.run(4 * time.Second)
		bytes, most := x.run(20 * time.Second)
		if share := bytes / 20 / rate; share < 0.97 {
			t.Errorf("%.0f Mbit/s, %v: %.2f of the line", tt.mbit, tt.rtt, share)
		}
		if _, first := newFluid(rate, tt.rtt, tt.streams).run(4 * time.Second); max(most, first) > 2*holds {
			t.Errorf("%.0f Mbit/s, %v: %.0f bytes on their way, the line holds %.0f", tt.mbit, tt.rtt, max(most, first), holds)
		}
	}
}

// Senders begin slowly, and double what they send each round trip. What they are
// allowed then is no reason to look at the line as known, which would take
// seconds afterwards.
func TestFlowWaitsForSlowStart(t *testing.T) {
	const rate, rtt = 25e6, 150 * time.Millisecond
	x := newFluid(rate, rtt, 4)
	x.begun = 4 * 10 * 1208
	x.run(1500 * time.Millisecond)
	if bytes, _ := x.run(time.Second); bytes < 0.97*rate {
		t.Errorf("after 1.5 s it uses %.2f of the line", bytes/rate)
	}
}

// A line that gets faster is used, and one that is no faster for it is not given
// more and more.
func TestFlowFollowsTheLine(t *testing.T) {
	x := newFluid(2e6, 100*time.Millisecond, 4)
	x.run(time.Minute)
	if now := x.allowed(); now > firstRate/10*1.4 {
		t.Errorf("on a slow line it allows %.0f bytes", now)
	}
	x.rate = 50e6
	x.run(30 * time.Second)
	if bytes, _ := x.run(10 * time.Second); bytes < 9*50e6 {
		t.Errorf("of a line that got faster it uses %.2f", bytes/10/50e6)
	}
}

// What streams that owe nothing may send is for the others.
func TestFlowIsForThoseThatOwe(t *testing.T) {
	x := newFluid(25e6, 100*time.Millisecond, 8)
	x.run(5 * time.Second)
	before := x.rooms[7].bytes
	for _, s := range x.streams[:6] {
		x.flow.owes(s, false)
	}
	if now := x.rooms[7].bytes; now < 3*before || now > maxWindow {
		t.Errorf("with eight streams each may send %d, with two %d", before, now)
	}
	x.flow.closed(x.streams[6])
	x.flow.closed(x.streams[6])
	if x.flow.busy != 1 {
		t.Errorf("%d streams owe something, want one", x.flow.busy)
	}
}

// The kernel's own connections are left alone.
func TestKernelDecidesForItself(t *testing.T) {
	if under(wrapped{&net.TCPConn{}}) != nil {
		t.Error("a connection of the kernel would be changed")
	}
}

// A line whose rate goes up and down is not filled further at each rise: what is
// too much for its queue is lost.
func TestFlowIsNotMisledByNoise(t *testing.T) {
	const rate, rtt = 25e6, 150 * time.Millisecond
	x := newFluid(rate, rtt, 8)
	for i := range 120 {
		x.rate = rate * (1 - 0.3*float64(i*7%5)/4)
		if _, most := x.run(1400 * time.Millisecond); most > 2.3*rate*rtt.Seconds() {
			t.Fatalf("after %d looks %.1f times of what the line holds are allowed", i, most/(rate*rtt.Seconds()))
		}
	}
}
