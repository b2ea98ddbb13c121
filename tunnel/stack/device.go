package stack

import (
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A Device is what one WireGuard reads packets from and writes packets to: a
// tun.Device. There is one for each key that we use, and packets to a node go
// through the newest that has heard from it.
type Device struct {
	owner  *Stack
	link   *link
	mark   Mark // of our key
	out    chan outgoing
	cut    cutter // what is left of a packet; the reader's alone
	events chan tun.Event

	done    chan struct{}
	closing sync.Once
}

// outgoing is a packet, and the keys that it goes by.
type outgoing struct {
	packet *stack.PacketBuffer
	lane   *lane
}

// NewDevice returns the device for a key of that mark, newer than all before.
// Nodes that packets go to already are reached as before, until they were
// heard through this one.
func (s *Stack) NewDevice(m Mark) *Device {
	d := &Device{
		owner:  s,
		link:   s.link,
		mark:   m,
		out:    make(chan outgoing, queued),
		events: make(chan tun.Event, 1),
		done:   make(chan struct{}),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices = append([]*Device{d}, s.devices...)
	s.rebuild()
	return d
}

func (s *Stack) removeDevice(d *Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices = slices.DeleteFunc(slices.Clone(s.devices), func(o *Device) bool { return o == d })
	s.rebuild()
}

func (d *Device) File() *os.File           { return nil }
func (d *Device) MTU() (int, error)        { return d.link.mtu, nil }
func (d *Device) Name() (string, error)    { return "holdfast", nil }
func (d *Device) Events() <-chan tun.Event { return d.events }
func (d *Device) BatchSize() int           { return Batch }

// Close ends Read, and packets go by the other devices; it is safe to repeat.
func (d *Device) Close() error {
	d.closing.Do(func() {
		d.owner.removeDevice(d)
		close(d.done)
		close(d.events)
		d.drain()
	})
	return nil
}

// Read waits for a packet and fills bufs with what there is, cut to size.
func (d *Device) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if d.cut.empty() {
		select {
		case o := <-d.out:
			d.begin(o)
		case <-d.done:
			return 0, os.ErrClosed
		}
	}
	for n := 0; ; {
		for !d.cut.empty() {
			if n == len(bufs) {
				return n, nil
			}
			sizes[n] = d.cut.next(bufs[n][offset:])
			n++
		}
		select {
		case o := <-d.out:
			d.begin(o)
		default:
			return n, nil
		}
	}
}

// begin makes o the packet to cut, unless it cannot be sent.
func (d *Device) begin(o outgoing) {
	if !d.cut.begin(o.packet) {
		return
	}
	if !d.cut.fit(o.lane.mtu) {
		d.cut.drop()
		return
	}
	d.cut.setMarks(d.mark, o.lane.mark)
}

// drain frees what nobody will read.
func (d *Device) drain() {
	for {
		select {
		case o := <-d.out:
			o.packet.DecRef()
		default:
			return
		}
	}
}

// Write hands packets from WireGuard to the stack, joined where they belong
// together. WireGuard has checked that each comes from the key of its source.
func (d *Device) Write(bufs [][]byte, offset int) (int, error) {
	dispatcher := d.link.attached()
	if dispatcher == nil {
		return len(bufs), nil
	}
	j := joiner{offset: offset, bufs: bufs}
	from := origin{device: d, table: *d.link.routes.Load()}
	for i := range bufs {
		if !from.admit(bufs[i][offset:], &d.link.address) {
			j.skip(i)
		}
	}
	for {
		view := j.next()
		if view == nil {
			return len(bufs), nil
		}
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(view)})
		p.RXChecksumValidated = true // Poly1305 vouches for it
		dispatcher.DeliverNetworkPacket(ipv6.ProtocolNumber, p)
		p.DecRef()
	}
}

// An origin knows the node that the last packet came from, as the next one
// most often comes from it too.
type origin struct {
	device *Device
	table  routes
	raw    [16]byte // source address with mark
	route  *route
	lane   *lane // by which answers would go
}

// admit restores the addresses of a packet. It reports whether the stack wants
// the packet: not what comes from no node of ours, and not announcements.
func (o *origin) admit(p []byte, self *[16]byte) bool {
	if len(p) < header.IPv6MinimumSize || p[0]>>4 != 6 {
		return false
	}
	src, dst := p[header.IPv6MinimumSize-32:header.IPv6MinimumSize-16], p[header.IPv6MinimumSize-16:header.IPv6MinimumSize]
	if o.route == nil || o.raw != [16]byte(src) {
		o.raw = [16]byte(src)
		key := o.raw
		copy(key[markAt:markEnd], self[markAt:markEnd])
		if o.route = o.table[key]; o.route == nil {
			return false
		}
		o.lane = o.route.lane(o.device, Mark(src[markAt])<<8|Mark(src[markAt+1]))
		if o.lane != nil {
			o.route.heard(o.lane, time.Now())
		}
	}
	copy(src[markAt:markEnd], self[markAt:markEnd])
	copy(dst, self[:])
	clampMSS(p, o.route.mtu)
	if p[6] != uint8(header.IPv6NoNextHeaderIdentifier) {
		return true
	}
	if o.lane != nil && p[7] == asks {
		announce(o.lane, *self, [16]byte(src), answers)
	}
	return false
}

// Announcements are empty packets; their hop limit tells them apart.
const (
	answers = 1
	asks    = 64
)

// Announce asks the node at addr, with our newest key, for an answer: that has
// WireGuard shake hands, shows the node which key we use, and once the answer
// is there packets go by that key. It reports whether the question was queued.
func (s *Stack) Announce(addr netip.Addr) bool {
	r := (*s.link.routes.Load())[addr.As16()]
	if r == nil {
		return false
	}
	l := r.newest()
	return l != nil && announce(l, s.link.address, addr.As16(), asks)
}

func announce(l *lane, from, to [16]byte, kind uint8) bool {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: header.IPv6MinimumSize})
	header.IPv6(p.NetworkHeader().Push(header.IPv6MinimumSize)).Encode(&header.IPv6Fields{
		TransportProtocol: tcpip.TransportProtocolNumber(header.IPv6NoNextHeaderIdentifier),
		HopLimit:          kind,
		SrcAddr:           tcpip.AddrFrom16(from),
		DstAddr:           tcpip.AddrFrom16(to),
	})
	select {
	case l.device.out <- outgoing{p, l}:
		return true
	default:
		p.DecRef()
		return false
	}
}
