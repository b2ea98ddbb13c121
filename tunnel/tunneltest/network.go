// Package tunneltest stands in for the network below a tunnel: hosts, links
// with delay, rate and faults, and NATs, all in memory and without privileges.
//
// A [Network] is made of hosts. Every ordered pair of them has a [Link], which
// may change at any time. Sockets of a [Host] are what a tunnel takes for its
// mesh port, so the whole tunnel runs above: WireGuard, probes, and the choice
// of paths. Which packets are lost is drawn from a seed; goroutines still run
// in any order, so a seed repeats a weather, not a run.
package tunneltest

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// A Link is one direction between two hosts. The zero value is perfect.
type Link struct {
	Delay     time.Duration
	Jitter    time.Duration // more delay, up to so much, without overtaking
	Rate      int64         // bits a second; 0: any
	Queue     int           // bytes that wait for their turn; 0: 50 ms of Rate
	Loss      float64       // share of packets lost
	Duplicate float64       // share of packets that come twice
	Reorder   float64       // share of packets that overtake: they have no Delay
	MTU       int           // larger packets (with 40+8 bytes of headers) vanish; 0: any
	Down      bool
}

const headers = 40 + 8 // of IPv6 and UDP, around a datagram

// A Network is hosts and the links between them.
type Network struct {
	packets sync.Pool
	done    chan struct{}
	running sync.WaitGroup

	mu       sync.Mutex
	rng      *rand.Rand
	hosts    []*Host
	usual    Link
	links    map[pair]*line
	isolated map[*Host]bool
	tap      func(from, to *Host, datagram []byte) bool
}

type pair struct{ from, to *Host }

// New returns a network of perfect links.
func New(seed uint64) *Network {
	return &Network{
		packets:  sync.Pool{New: func() any { return new(packet) }},
		done:     make(chan struct{}),
		rng:      rand.New(rand.NewPCG(seed, 0)),
		links:    map[pair]*line{},
		isolated: map[*Host]bool{},
	}
}

// Close stops the network and waits for its goroutines.
func (n *Network) Close() {
	n.mu.Lock()
	select {
	case <-n.done:
	default:
		close(n.done)
	}
	n.mu.Unlock()
	n.running.Wait()
}

// Usual sets all links, also those between hosts that are still to come.
func (n *Network) Usual(l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.usual = l
	for _, x := range n.links {
		x.link = l
	}
}

// OneWay sets the link from one host to another.
func (n *Network) OneWay(from, to *Host, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.line(from, to).link = l
}

// Between sets both links between two hosts.
func (n *Network) Between(a, b *Host, l Link) {
	n.OneWay(a, b, l)
	n.OneWay(b, a, l)
}

// Isolate cuts a host off, or ends that.
func (n *Network) Isolate(h *Host, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isolated[h] = cut
}

// Tap has every datagram shown to f before it is sent; it vanishes if f
// returns false. f must not keep or change it.
func (n *Network) Tap(f func(from, to *Host, datagram []byte) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tap = f
}

// line returns the link from one host to another; n.mu is held.
func (n *Network) line(from, to *Host) *line {
	l := n.links[pair{from, to}]
	if l == nil {
		l = &line{link: n.usual, wake: make(chan struct{}, 1)}
		n.links[pair{from, to}] = l
	}
	return l
}

// A packet is under way.
type packet struct {
	data     []byte
	from, to netip.AddrPort
	host     *Host // that it goes to
	at       time.Time
	order    uint64
}

// A line is a link and what is on it. The mutex of the network guards it.
type line struct {
	link    Link
	free    time.Time // when the last packet is sent
	last    time.Time // when the last packet arrives
	queue   schedule
	order   uint64
	wake    chan struct{}
	running bool
}

// send puts a datagram on the way, or drops it as the link says.
func (n *Network) send(from *Host, src, dst netip.AddrPort, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	src, to := n.route(from, src, dst)
	if to == nil || n.isolated[from] || n.isolated[to] {
		return
	}
	if n.tap != nil && !n.tap(from, to, data) {
		return
	}
	l := n.line(from, to)
	size := len(data) + headers
	if l.link.Down || l.link.MTU > 0 && size > l.link.MTU || n.chance(l.link.Loss) {
		return
	}
	times := 1
	if n.chance(l.link.Duplicate) {
		times = 2
	}
	for range times {
		now := time.Now()
		at, ok := l.schedule(now, size, n.rng)
		if !ok {
			return
		}
		if n.chance(l.link.Reorder) {
			at = now
		}
		p := n.packets.Get().(*packet)
		p.data = append(p.data[:0], data...)
		p.from, p.to, p.host, p.at = src, dst, to, at
		if at.After(now) || len(l.queue) > 0 {
			n.enqueue(l, p)
		} else {
			n.deliver(p)
		}
	}
}

func (n *Network) chance(share float64) bool { return share > 0 && n.rng.Float64() < share }

// schedule returns when a packet of size bytes arrives; false if the queue is
// full.
func (l *line) schedule(now time.Time, size int, rng *rand.Rand) (time.Time, bool) {
	at := now
	if l.link.Rate > 0 {
		limit := time.Duration(50 * time.Millisecond)
		if l.link.Queue > 0 {
			limit = time.Duration(int64(l.link.Queue) * 8 * int64(time.Second) / l.link.Rate)
		}
		if l.free.Before(now) {
			l.free = now
		}
		if l.free.Sub(now) > limit {
			return at, false
		}
		l.free = l.free.Add(time.Duration(int64(size) * 8 * int64(time.Second) / l.link.Rate))
		at = l.free
	}
	at = at.Add(l.link.Delay)
	if l.link.Jitter > 0 {
		at = at.Add(time.Duration(rng.Int64N(int64(l.link.Jitter))))
	}
	if at.Before(l.last) {
		at = l.last
	}
	l.last = at
	return at, true
}

func (n *Network) enqueue(l *line, p *packet) {
	l.order++
	p.order = l.order
	heap.Push(&l.queue, p)
	if !l.running {
		select {
		case <-n.done:
			return
		default:
		}
		l.running = true
		n.running.Add(1)
		go n.carry(l)
	}
	if l.queue[0] == p {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// carry delivers the packets of a line when they are due, until the network
// closes.
func (n *Network) carry(l *line) {
	defer n.running.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := n.deliverDue(l)
		timer.Reset(wait)
		select {
		case <-n.done:
			return
		case <-l.wake:
		case <-timer.C:
		}
	}
}

// deliverDue delivers what is due and returns the time until more is.
func (n *Network) deliverDue(l *line) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(l.queue) > 0 {
		if wait := time.Until(l.queue[0].at); wait > 0 {
			return wait
		}
		n.deliver(heap.Pop(&l.queue).(*packet))
	}
	return time.Hour
}

// schedule is packets by the time at which they arrive.
type schedule []*packet

func (s schedule) Len() int { return len(s) }
func (s schedule) Less(i, j int) bool {
	if s[i].at.Equal(s[j].at) {
		return s[i].order < s[j].order
	}
	return s[i].at.Before(s[j].at)
}
func (s schedule) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(x any)   { *s = append(*s, x.(*packet)) }
func (s *schedule) Pop() any {
	old := *s
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	return p
}
