// Package wan is a wide area network in user space: it carries IP packets
// between sites and treats them as badly as it is told to. It needs no kernel
// module, replays its decisions from a seed, and changes while it runs.
//
// A packet from one site to another crosses three lines: the uplink of the
// sender, the path between the two, and the downlink of the receiver. Each line
// has its own delay, rate, queue, loss and so on (Link), and can be cut. An
// uplink is shared by all that a site sends, so one bulk transfer delays
// everybody behind it, as at home.
//
// Times are kept to the nanosecond within: when the machine is late, what was
// due is delivered at once, in order, and rates stay exact over time. Only the
// moment of delivery is as coarse as the timers of the machine.
package wan

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Network connects sites. Make one with New, keep it running with Run, and
// attach sites and change lines whenever you like.
type Network struct {
	seed uint64
	path Link
	wake chan struct{} // there is something due before the loop's next look
	fail chan error    // the first device that broke

	spare sync.Pool // packets to use again

	mu      sync.Mutex
	sites   []*Site
	paths   map[[2]*Site]*Line
	due     schedule
	sent    uint64 // packets scheduled so far; breaks ties of time
	run     bool
	closed  bool
	readers sync.WaitGroup
}

// A Site is one attachment to the network: a device and the addresses behind it.
type Site struct {
	Name string
	Up   *Line // everything the site sends
	Down *Line // everything it receives

	net      *Network
	dev      io.ReadWriteCloser
	prefixes []netip.Prefix // guarded by net.mu
}

// New returns a network without sites. Random decisions follow seed, for each
// line on its own; path is what lines between two sites are like at first.
func New(seed uint64, path Link) *Network {
	path.check()
	return &Network{
		seed:  seed,
		path:  path,
		wake:  make(chan struct{}, 1),
		fail:  make(chan error, 1),
		paths: map[[2]*Site]*Line{},
	}
}

// Attach connects a site: packets to prefixes are written to dev, and packets
// read from dev are carried to whoever owns their destination. Each Read and
// Write of dev is one IP packet. The network closes dev when it stops.
func (n *Network) Attach(name string, dev io.ReadWriteCloser, prefixes ...netip.Prefix) (*Site, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, fmt.Errorf("attach %s: the network has stopped", name)
	}
	if slices.ContainsFunc(n.sites, func(s *Site) bool { return s.Name == name }) {
		return nil, fmt.Errorf("attach %s: there is a site of that name", name)
	}
	s := &Site{Name: name, net: n, dev: dev, prefixes: prefixes}
	s.Up, s.Down = n.newLine(name+" up", Link{}), n.newLine(name+" down", Link{})
	n.sites = append(n.sites, s)
	if n.run {
		n.readers.Go(func() { n.read(s) })
	}
	return s, nil
}

// Route makes prefixes the addresses of the site, in place of those before.
func (s *Site) Route(prefixes ...netip.Prefix) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.prefixes = prefixes
}

// Access returns the two lines that join the site to the rest: cut them and it
// is alone.
func (s *Site) Access() Lines { return Lines{s.Up, s.Down} }

// Path returns the line from one site to another, in that direction only.
func (n *Network) Path(from, to *Site) *Line {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pathLocked(from, to)
}

func (n *Network) pathLocked(from, to *Site) *Line {
	l := n.paths[[2]*Site{from, to}]
	if l == nil {
		l = n.newLine(from.Name+" to "+to.Name, n.path)
		n.paths[[2]*Site{from, to}] = l
	}
	return l
}

// Between returns the lines between two sites, both directions.
func (n *Network) Between(a, b *Site) Lines { return Lines{n.Path(a, b), n.Path(b, a)} }

// Paths returns every line between sites that was used or asked for, by name.
func (n *Network) Paths() Lines {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all Lines
	for _, l := range n.paths {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *Line) int { return strings.Compare(a.name, b.name) })
	return all
}

// Run carries packets until ctx is done or a device fails, and then closes all
// devices. A network runs once.
func (n *Network) Run(ctx context.Context) error {
	n.mu.Lock()
	if n.run {
		n.mu.Unlock()
		return errors.New("run network: it ran before")
	}
	n.run = true
	for _, s := range n.sites {
		n.readers.Go(func() { n.read(s) })
	}
	n.mu.Unlock()
	defer n.close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next, err := n.deliver(time.Now())
		if err != nil {
			return err
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return nil
		case err := <-n.fail:
			return err
		case <-n.wake:
		case <-timer.C:
		}
	}
}

// close closes every device and waits for their readers.
func (n *Network) close() {
	n.mu.Lock()
	n.closed = true
	for _, s := range n.sites {
		s.dev.Close()
	}
	n.mu.Unlock()
	n.readers.Wait()
}

// read takes packets from a site until its device is closed.
func (n *Network) read(s *Site) {
	buf := make([]byte, maxPacket)
	for {
		k, err := s.dev.Read(buf)
		if errors.Is(err, os.ErrClosed) || errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			n.broke(fmt.Errorf("read packet from site %s: %w", s.Name, err))
			return
		}
		n.send(s, buf[:k])
	}
}

func (n *Network) broke(err error) {
	select {
	case n.fail <- err:
	default: // the first one says enough
	}
}

// send puts a packet that a site sent on its way. What has no destination here
// (multicast, other people's addresses) goes nowhere, as on the Internet.
func (n *Network) send(from *Site, data []byte) {
	dst, ok := destination(data)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	to := n.owner(dst)
	if to == nil || to == from {
		return
	}
	p := n.newPacket(data)
	p.from, p.to = from, to
	p.way = [3]*Line{from.Up, n.pathLocked(from, to), to.Down}
	before := n.due.first()
	p.way[0].enter(p, time.Now())
	if n.due.first() != before {
		n.poke()
	}
}

// poke wakes the loop: something is due before what it waits for.
func (n *Network) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *Network) owner(dst netip.Addr) *Site {
	for _, s := range n.sites {
		for _, p := range s.prefixes {
			if p.Contains(dst) {
				return s
			}
		}
	}
	return nil
}

// deliver moves on all that is due, and returns how long nothing else will be.
func (n *Network) deliver(now time.Time) (time.Duration, error) {
	for {
		arrived, next := n.step(now)
		if len(arrived) == 0 {
			return next, nil
		}
		for _, p := range arrived {
			_, err := p.to.dev.Write(p.data)
			if err != nil && !errors.Is(err, os.ErrClosed) {
				return 0, fmt.Errorf("write packet to site %s: %w", p.to.Name, err)
			}
			n.free(p)
		}
		now = time.Now()
	}
}

// step moves packets along their lines as far as they are due, and returns
// those that have arrived, at most a batch of them.
func (n *Network) step(now time.Time) (arrived []*packet, next time.Duration) {
	const batch = 64
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.due) > 0 && len(arrived) < batch {
		if wait := n.due[0].at.Sub(now); wait > 0 {
			return arrived, wait
		}
		p := heap.Pop(&n.due).(*packet)
		if p.advance() {
			arrived = append(arrived, p)
		}
	}
	return arrived, time.Hour
}
