package stack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// The mark of a key stands in bytes 6 and 7 of an address, the subnet field.
const markAt, markEnd = 6, 8

// silence is how long nothing came by the keys that packets to a node go by,
// before older ones that are heard are good enough again: it lost the new ones.
const silence = 5 * time.Second

// A Mark tells the keys of one node apart inside the tunnel.
type Mark uint16

// Marked returns addr as it looks inside WireGuard when its node uses the key
// of that mark; WireGuard's allowed IP for the key.
func Marked(addr netip.Addr, m Mark) netip.Addr {
	b := addr.As16()
	binary.BigEndian.PutUint16(b[markAt:markEnd], uint16(m))
	return netip.AddrFrom16(b)
}

// A Route is another node: where it is, and the marks of the keys that it may
// use, newest first. Packets to it go by the newest of our keys and of its own
// between which something came from it; before it was heard at all, by the
// newest.
type Route struct {
	Address netip.Addr
	MTU     int // largest packet to and from it
	Marks   []Mark
}

// routes is a table of nodes by address; it does not change.
type routes map[[16]byte]*route

type route struct {
	mtu     int
	lanes   []*lane // newest first
	current atomic.Pointer[lane]
}

// A lane is one of our keys and one of a node's. What came by it shows that
// both ends have a session, so that packets need not wait for one.
type lane struct {
	device *Device
	mark   Mark // of the node's key
	mtu    int
	rank   int          // in the lanes of its route
	last   atomic.Int64 // Unix nanoseconds of what came last; zero: nothing
}

// lane returns the one between a device and a mark, or nil.
func (r *route) lane(d *Device, m Mark) *lane {
	for _, l := range r.lanes {
		if l.device == d && l.mark == m {
			return l
		}
	}
	return nil
}

// newest returns the lane to try: between our newest key and the newest that
// the node was heard with.
func (r *route) newest() *lane {
	mark := r.current.Load().mark
	rank := func(m Mark) int { return slices.IndexFunc(r.lanes, func(l *lane) bool { return l.mark == m }) }
	for _, l := range r.lanes {
		if l.last.Load() > 0 && rank(l.mark) < rank(mark) {
			mark = l.mark
		}
	}
	return r.lane(r.lanes[0].device, mark)
}

// heard notes that something came by l, and has packets go there if that is
// newer, or if nothing came for long by the one where they go now.
func (r *route) heard(l *lane, now time.Time) {
	l.last.Store(now.UnixNano())
	for {
		c := r.current.Load()
		if c == l || c.rank < l.rank && now.UnixNano()-c.last.Load() < int64(silence) {
			return
		}
		if r.current.CompareAndSwap(c, l) {
			return
		}
	}
}

// SetRoutes replaces the table of nodes. All others are unreachable, and
// packets from them are dropped.
func (s *Stack) SetRoutes(table []Route) error {
	for _, r := range table {
		switch {
		case len(r.Marks) == 0:
			return fmt.Errorf("tunnel stack: route to %v has no key", r.Address)
		case r.MTU > s.cfg.MTU:
			return fmt.Errorf("tunnel stack: MTU of %v is %d, want at most %d", r.Address, r.MTU, s.cfg.MTU)
		case Marked(r.Address, 0) == Marked(s.cfg.Address, 0):
			return fmt.Errorf("tunnel stack: %v is our own address", r.Address)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table = slices.Clone(table)
	s.rebuild()
	return nil
}

// rebuild makes the routes from the table and the devices. What is known of
// lanes that stay is kept. s.mu is held.
func (s *Stack) rebuild() {
	old := *s.link.routes.Load()
	next := make(routes, len(s.table))
	if len(s.devices) > 0 {
		for _, r := range s.table {
			key := r.Address.As16()
			next[key] = newRoute(r, s.devices, old[key])
		}
	}
	s.link.routes.Store(&next)
}

func newRoute(t Route, devices []*Device, old *route) *route {
	r := &route{mtu: t.MTU}
	for _, d := range devices {
		for _, m := range t.Marks {
			l := &lane{device: d, mark: m, mtu: t.MTU, rank: len(r.lanes)}
			if old != nil {
				if o := old.lane(d, m); o != nil {
					l.last.Store(o.last.Load())
				}
			}
			r.lanes = append(r.lanes, l)
		}
	}
	r.current.Store(r.best(old))
	return r
}

// best returns the lane for packets now that the table changed: the one of
// before if it is there, then the newest that was heard, then the newest.
func (r *route) best(old *route) *lane {
	if old == nil {
		return r.lanes[0]
	}
	before := old.current.Load()
	if l := r.lane(before.device, before.mark); l != nil {
		return l
	}
	for _, l := range r.lanes {
		if l.last.Load() > 0 {
			return l
		}
	}
	if l := r.lane(r.lanes[0].device, before.mark); l != nil {
		return l
	}
	return r.lanes[0]
}

// Use tells that the node at addr was seen to use the key of mark m only.
func (s *Stack) Use(addr netip.Addr, m Mark) {
	r := (*s.link.routes.Load())[addr.As16()]
	if r == nil {
		return
	}
	if l := r.lane(r.current.Load().device, m); l != nil {
		r.current.Store(l)
	}
}

// Using returns the device and the mark that packets to addr go by.
func (s *Stack) Using(addr netip.Addr) (*Device, Mark, bool) {
	r := (*s.link.routes.Load())[addr.As16()]
	if r == nil {
		return nil, 0, false
	}
	l := r.current.Load()
	return l.device, l.mark, true
}

// Settled reports whether packets to addr go by our newest key, and by the
// newest of the node's that was heard.
func (s *Stack) Settled(addr netip.Addr) bool {
	r := (*s.link.routes.Load())[addr.As16()]
	return r == nil || r.newest() == r.current.Load()
}
