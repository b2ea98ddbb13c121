package stack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
)

// The mark of a key stands in bytes 6 and 7 of an address, the subnet field.
const markAt, markEnd = 6, 8

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
// use, newest first. Packets to it go to the newest key that it was seen to
// use; before it was seen at all, to the newest.
type Route struct {
	Address netip.Addr
	MTU     int // largest packet to and from it
	Marks   []Mark
}

// routes is a table of nodes by address; it does not change.
type routes map[[16]byte]*route

type route struct {
	mtu    int
	marks  []Mark
	active atomic.Uint32 // index in marks
	seen   atomic.Bool
}

// use makes marks[i] the one that packets go to, unless a newer one was seen.
func (r *route) use(i int) {
	for {
		now := r.active.Load()
		if r.seen.Load() && int(now) <= i {
			return
		}
		if r.active.CompareAndSwap(now, uint32(i)) {
			r.seen.Store(true)
			return
		}
	}
}

// SetRoutes replaces the table of nodes. All others are unreachable, and
// packets from them are dropped.
func (s *Stack) SetRoutes(table []Route) error {
	old := *s.link.routes.Load()
	next := make(routes, len(table))
	for _, r := range table {
		switch {
		case len(r.Marks) == 0:
			return fmt.Errorf("tunnel stack: route to %v has no key", r.Address)
		case r.MTU > s.cfg.MTU:
			return fmt.Errorf("tunnel stack: MTU of %v is %d, want at most %d", r.Address, r.MTU, s.cfg.MTU)
		case Marked(r.Address, 0) == Marked(s.cfg.Address, 0):
			return fmt.Errorf("tunnel stack: %v is our own address", r.Address)
		}
		key := r.Address.As16()
		n := &route{mtu: r.MTU, marks: slices.Clone(r.Marks)}
		if o := old[key]; o != nil {
			if i := slices.Index(n.marks, o.marks[o.active.Load()]); i >= 0 {
				n.active.Store(uint32(i))
				n.seen.Store(true)
			}
		}
		next[key] = n
	}
	s.link.routes.Store(&next)
	return nil
}

// Use tells that the node at addr was seen to use the key of mark m.
func (s *Stack) Use(addr netip.Addr, m Mark) {
	if r := (*s.link.routes.Load())[addr.As16()]; r != nil {
		if i := slices.Index(r.marks, m); i >= 0 {
			r.use(i)
		}
	}
}

// Using returns the mark that packets to addr carry.
func (s *Stack) Using(addr netip.Addr) (Mark, bool) {
	r := (*s.link.routes.Load())[addr.As16()]
	if r == nil {
		return 0, false
	}
	return r.marks[r.active.Load()], true
}

// SetMark sets the mark of our own key.
func (s *Stack) SetMark(m Mark) { s.link.mark.Store(uint32(m)) }

// Hold keeps packets from WireGuard until release is called: while our key
// changes, none must carry the mark of one and be sealed with the other.
func (s *Stack) Hold() (release func()) {
	s.link.hold.Lock()
	return s.link.hold.Unlock
}
