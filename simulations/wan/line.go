package wan

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// A Link says how a line treats packets. The zero Link is a perfect one.
type Link struct {
	Delay     time.Duration // from one end to the other
	Jitter    time.Duration // up to so much more, at random; order is kept
	Rate      int64         // bits a second, IP headers included; 0 is no limit
	Queue     int           // bytes that may wait for Rate; 0 is 50 ms of it, at least ten full packets
	Loss      float64       // share of packets lost, 0 to 1
	Reorder   float64       // share held back by ReorderBy, so that others overtake
	ReorderBy time.Duration // 0 is 5 ms
	MTU       int           // packets larger than so many bytes do not pass; 0 is no limit
	Blackhole bool          // senders of larger packets are not told (ICMP)
}

// A Line is one direction of one stretch of the network. Its methods may be
// called at any time, and act on every packet that enters from then on.
type Line struct {
	net  *Network
	name string

	// Guarded by net.mu.
	link     Link
	cut      bool
	rng      *rand.Rand
	queue    []*packet // waiting for Rate; the first one is being sent
	queued   int       // bytes in queue
	last     time.Time // when the last packet arrives that keeps its place
	counters Counters
}

// Lines are several lines, to be treated alike.
type Lines []*Line

// Counters count since the start. Those of an uplink or downlink cover that
// line alone; those of a path cover the way from site to site, all three lines.
type Counters struct {
	Packets, Bytes uint64 // that passed
	Lost           uint64 // packets dropped by Loss
	Overflowed     uint64 // because the queue was full
	TooBig         uint64 // because they exceeded MTU
	Cut            uint64 // because the line was cut
}

// Dropped returns the packets that did not pass, for whatever reason.
func (c Counters) Dropped() uint64 { return c.Lost + c.Overflowed + c.TooBig + c.Cut }

func (c Counters) String() string {
	return fmt.Sprintf("%d packets, %d bytes; %d lost, %d overflowed, %d too big, %d cut off",
		c.Packets, c.Bytes, c.Lost, c.Overflowed, c.TooBig, c.Cut)
}

func (n *Network) newLine(name string, link Link) *Line {
	h := fnv.New64a()
	h.Write([]byte(name))
	return &Line{net: n, name: name, link: link, rng: rand.New(rand.NewPCG(n.seed, h.Sum64()))}
}

// check panics on a link that cannot be: a mistake in a test.
func (l Link) check() {
	if l.Delay < 0 || l.Jitter < 0 || l.Rate < 0 || l.Queue < 0 || l.MTU < 0 || l.ReorderBy < 0 ||
		l.Loss < 0 || l.Loss > 1 || l.Reorder < 0 || l.Reorder > 1 {
		panic(fmt.Sprintf("wan: no line is like this: %+v", l))
	}
}

// limit returns how many bytes may wait.
func (l Link) limit() int {
	if l.Queue > 0 {
		return l.Queue
	}
	return max(int(l.Rate/8/20), 15000)
}

// Name tells the line from others: "home up", "home to dc".
func (l *Line) Name() string { return l.name }

// Link returns how the line treats packets now.
func (l *Line) Link() Link {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	return l.link
}

// Set changes how the line treats packets. Those in its queue are sent at the
// new rate; those already on the line arrive when they would have. Packets that
// enter a line whose delay shrank may overtake them. A cut stays a cut.
func (l *Line) Set(link Link) { l.Change(func(old *Link) { *old = link }) }

// Change changes some of how the line treats packets, as Set does.
func (l *Line) Change(edit func(*Link)) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	link := l.link
	edit(&link)
	link.check()
	l.link, l.last = link, time.Time{}
}

// Cut stops the line: from when it returns nothing arrives, not even what was
// on its way.
func (l *Line) Cut() { l.setCut(true) }

// Heal undoes Cut.
func (l *Line) Heal() { l.setCut(false) }

func (l *Line) setCut(cut bool) {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.cut = cut
}

// Counters returns what passed and what was dropped so far.
func (l *Line) Counters() Counters {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	return l.counters
}

// Set does Line.Set on each.
func (ls Lines) Set(link Link) {
	for _, l := range ls {
		l.Set(link)
	}
}

// Change does Line.Change on each.
func (ls Lines) Change(edit func(*Link)) {
	for _, l := range ls {
		l.Change(edit)
	}
}

// Cut does Line.Cut on each.
func (ls Lines) Cut() {
	for _, l := range ls {
		l.Cut()
	}
}

// Heal does Line.Heal on each.
func (ls Lines) Heal() {
	for _, l := range ls {
		l.Heal()
	}
}

// enter puts a packet at the beginning of the line at time now.
func (l *Line) enter(p *packet, now time.Time) {
	switch {
	case l.cut:
		l.drop(p, func(c *Counters) *uint64 { return &c.Cut })
	case l.link.MTU > 0 && len(p.data) > l.link.MTU:
		l.tooBig(p, now)
	case l.link.Loss > 0 && l.rng.Float64() < l.link.Loss:
		l.drop(p, func(c *Counters) *uint64 { return &c.Lost })
	case l.link.Rate == 0 && len(l.queue) == 0:
		l.fly(p, now)
	case len(l.queue) > 0 && l.queued+len(p.data) > l.link.limit():
		l.drop(p, func(c *Counters) *uint64 { return &c.Overflowed })
	default:
		l.queue = append(l.queue, p)
		l.queued += len(p.data)
		if len(l.queue) == 1 {
			l.transmit(now)
		}
	}
}

// transmit begins to send the first packet of the queue.
func (l *Line) transmit(now time.Time) {
	p := l.queue[0]
	p.queued = true
	if l.link.Rate > 0 {
		now = now.Add(time.Duration(float64(len(p.data)*8) / float64(l.link.Rate) * float64(time.Second)))
	}
	l.net.schedule(p, now)
}

// sent takes the first packet from the queue, and begins with the next one.
func (l *Line) sent(now time.Time) {
	p := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	l.queued -= len(p.data)
	p.queued = false
	l.fly(p, now)
	if len(l.queue) > 0 {
		l.transmit(now)
	}
}

// fly lets a packet travel to the end of the line.
func (l *Line) fly(p *packet, now time.Time) {
	at := now.Add(l.link.Delay)
	if l.link.Jitter > 0 {
		at = at.Add(time.Duration(l.rng.Int64N(int64(l.link.Jitter) + 1)))
	}
	if l.link.Reorder > 0 && l.rng.Float64() < l.link.Reorder {
		at = at.Add(cmp.Or(l.link.ReorderBy, 5*time.Millisecond))
	} else {
		if at.Before(l.last) {
			at = l.last
		}
		l.last = at
	}
	l.net.schedule(p, at)
}

// drop ends a packet here, and counts it for the line and for the whole path.
func (l *Line) drop(p *packet, reason func(*Counters) *uint64) {
	*reason(&l.counters)++
	if path := p.way[1]; path != nil && path != l {
		*reason(&path.counters)++
	}
	l.net.free(p)
}

// tooBig drops a packet and tells its sender, unless the line is a black hole.
// The message takes as long to come back as the line takes to cross.
func (l *Line) tooBig(p *packet, now time.Time) {
	if answer := packetTooBig(p.data, l.link.MTU); answer != nil && !l.link.Blackhole {
		back := l.net.newPacket(answer)
		back.to, back.hop = p.from, len(back.way)
		l.net.schedule(back, now.Add(l.link.Delay))
	}
	l.drop(p, func(c *Counters) *uint64 { return &c.TooBig })
}
