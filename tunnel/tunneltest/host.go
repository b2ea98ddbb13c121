package tunneltest

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/holdfast-mesh/holdfast/tunnel"
	"github.com/holdfast-mesh/holdfast/tunnel/udp"
)

// A Host has addresses and sockets. Behind a [NAT] its addresses are seen by
// hosts behind the same one only.
type Host struct {
	Name string

	net       *Network
	nat       *NAT
	addresses []netip.Addr // guarded by net.mu, like the rest
	sockets   map[uint16]*socket
	next      uint16
}

// Host adds a host with public addresses.
func (n *Network) Host(name string, addresses ...string) *Host {
	return n.Behind(nil, name, addresses...)
}

// Behind adds a host with private addresses behind a NAT.
func (n *Network) Behind(nat *NAT, name string, addresses ...string) *Host {
	h := &Host{Name: name, net: n, nat: nat, sockets: map[uint16]*socket{}, next: 40_000}
	h.Move(addresses...)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts = append(n.hosts, h)
	return h
}

// Move gives the host other addresses, as when it roams.
func (h *Host) Move(addresses ...string) {
	var all []netip.Addr
	for _, a := range addresses {
		all = append(all, netip.MustParseAddr(a))
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.addresses = all
}

// Addresses returns the addresses of the host, for tunnel.Config.
func (h *Host) Addresses() ([]netip.Addr, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return slices.Clone(h.addresses), nil
}

// Listen opens a socket, for tunnel.Config. The port 0 means any.
func (h *Host) Listen(at netip.AddrPort) (tunnel.Socket, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	port := at.Port()
	if port == 0 {
		h.next++
		port = h.next
	}
	if h.sockets[port] != nil {
		return nil, fmt.Errorf("open UDP port %d of %s: it is in use", port, h.Name)
	}
	s := &socket{
		host:  h,
		local: netip.AddrPortFrom(at.Addr(), port),
		queue: make(chan *packet, socketQueue),
		woken: make(chan struct{}, 1),
		done:  make(chan struct{}),
	}
	h.sockets[port] = s
	return s, nil
}

const (
	socketQueue = 1 << 15 // packets that a socket holds until they are received
	maxTrain    = 64      // datagrams in one Receive
)

// A socket is a tunnel.Socket of a host.
type socket struct {
	host   *Host
	local  netip.AddrPort
	queue  chan *packet
	woken  chan struct{}
	done   chan struct{}
	once   sync.Once
	held   *packet // received, but of another train
	single bool
}

func (s *socket) LocalAddr() netip.AddrPort { return s.local }
func (s *socket) Offload() bool             { return !s.single }
func (s *socket) NoOffload()                { s.single = true }

func (s *socket) Wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

func (s *socket) Close() error {
	s.once.Do(func() {
		s.host.net.mu.Lock()
		defer s.host.net.mu.Unlock()
		delete(s.host.sockets, s.local.Port())
		close(s.done)
	})
	return nil
}

// Send sends each datagram from the host's first address of to's family.
func (s *socket) Send(bufs [][]byte, to netip.AddrPort) error {
	select {
	case <-s.done:
		return net.ErrClosed
	default:
	}
	src := s.local
	if src.Addr().IsUnspecified() {
		addresses, _ := s.host.Addresses()
		i := slices.IndexFunc(addresses, func(a netip.Addr) bool { return a.Is4() == to.Addr().Is4() })
		if i < 0 {
			return fmt.Errorf("send to %v from %s: no address of that family", to, s.host.Name)
		}
		src = netip.AddrPortFrom(addresses[i], s.local.Port())
	}
	for _, b := range bufs {
		s.host.net.send(s.host, src, to, b)
	}
	return nil
}

// Receive waits for a datagram, and takes along those behind it that fit the
// same train.
func (s *socket) Receive(buf []byte) (n, segment int, from netip.AddrPort, err error) {
	p := s.held
	if s.held = nil; p == nil {
		select {
		case p = <-s.queue:
		case <-s.woken:
			return 0, 0, from, udp.ErrWoken
		case <-s.done:
			return 0, 0, from, net.ErrClosed
		}
	}
	segment, from = len(p.data), p.from
	for count := 0; ; {
		last := len(p.data) < segment
		n += copy(buf[n:], p.data)
		s.host.net.packets.Put(p)
		if count++; last || count == maxTrain {
			return n, segment, from, nil
		}
		select {
		case p = <-s.queue:
		default:
			return n, segment, from, nil
		}
		if p.from != from || len(p.data) > segment || len(p.data) == 0 || n+len(p.data) > len(buf) {
			s.held = p
			return n, segment, from, nil
		}
	}
}

// deliver hands a packet to the socket that it is for; n.mu is held.
func (n *Network) deliver(p *packet) {
	port := p.to.Port()
	if nat := p.host.nat; nat != nil && p.to.Addr() == nat.outer {
		inner, ok := nat.inward(p.to.Port(), p.from)
		if !ok || inner.host != p.host {
			n.packets.Put(p)
			return
		}
		port = inner.port
	}
	s := p.host.sockets[port]
	if s == nil {
		n.packets.Put(p)
		return
	}
	select {
	case s.queue <- p:
	default:
		n.packets.Put(p)
	}
}
