package stack

import (
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// Batch is how many packets cross at a time. Twice as many are no faster
	// and cost WireGuard 64 KiB each.
	Batch = 64

	// queued packets, of up to 64 KiB each, wait between TCP and WireGuard;
	// when they are full TCP waits, so that nothing is dropped at home.
	queued = 64

	maxMTU = 65_000
)

// A link is where gVisor meets WireGuard. It is the interface that the stack
// sends through, and as a [device] the interface that WireGuard serves.
type link struct {
	address [16]byte
	mtu     int
	routes  atomic.Pointer[routes]
	mark    atomic.Uint32 // of our own key
	waits   atomic.Uint64
	out     chan *stack.PacketBuffer
	cut     cutter // what is left of a packet; the reader's alone

	hold sync.Mutex // held to keep WireGuard from reading

	done    chan struct{}
	closing sync.Once
	events  chan tun.Event

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher
}

func newLink(address netip.Addr, mtu int) *link {
	l := &link{
		address: address.As16(),
		mtu:     mtu,
		out:     make(chan *stack.PacketBuffer, queued),
		done:    make(chan struct{}),
		events:  make(chan tun.Event, 1),
	}
	l.routes.Store(&routes{})
	return l
}

func (l *link) MTU() uint32                             { return uint32(l.mtu) }
func (l *link) SetMTU(uint32)                           {}
func (l *link) MaxHeaderLength() uint16                 { return 0 }
func (l *link) LinkAddress() tcpip.LinkAddress          { return "" }
func (l *link) SetLinkAddress(tcpip.LinkAddress)        {}
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (l *link) AddHeader(*stack.PacketBuffer)           {}
func (l *link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (l *link) Wait()                                   {}
func (l *link) Close()                                  {}
func (l *link) SetOnCloseAction(func())                 {}
func (l *link) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }
func (l *link) GSOMaxSize() uint32                      { return 65535 }
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dispatcher = d
}

func (l *link) IsAttached() bool { return l.attached() != nil }

func (l *link) attached() stack.NetworkDispatcher {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dispatcher
}

// WritePackets queues packets for WireGuard, and waits while the queue is full.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for n, p := range pkts.AsSlice() {
		if !l.push(p.IncRef()) {
			return n, &tcpip.ErrClosedForSend{}
		}
	}
	return pkts.Len(), nil
}

func (l *link) push(p *stack.PacketBuffer) bool {
	select {
	case l.out <- p:
		return true
	default:
	}
	l.waits.Add(1)
	select {
	case l.out <- p:
		return true
	case <-l.done:
		p.DecRef()
		return false
	}
}

func (l *link) shut() {
	l.closing.Do(func() {
		close(l.done)
		close(l.events)
	})
}

// drain frees what nobody will read; there is no reader or writer any more.
func (l *link) drain() {
	for {
		select {
		case p := <-l.out:
			p.DecRef()
		default:
			return
		}
	}
}

// Announce sends an empty packet to the node at addr: it makes WireGuard shake
// hands, and shows the node which key we use. It reports whether it was queued.
func (s *Stack) Announce(addr netip.Addr) bool {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: header.IPv6MinimumSize})
	header.IPv6(p.NetworkHeader().Push(header.IPv6MinimumSize)).Encode(&header.IPv6Fields{
		TransportProtocol: tcpip.TransportProtocolNumber(header.IPv6NoNextHeaderIdentifier),
		HopLimit:          64,
		SrcAddr:           tcpip.AddrFrom16(s.cfg.Address.As16()),
		DstAddr:           tcpip.AddrFrom16(addr.As16()),
	})
	select {
	case s.link.out <- p:
		return true
	default:
		p.DecRef()
		return false
	}
}

// A device is a link as WireGuard sees it.
type device link

func (d *device) File() *os.File           { return nil }
func (d *device) MTU() (int, error)        { return d.mtu, nil }
func (d *device) Name() (string, error)    { return "holdfast", nil }
func (d *device) Events() <-chan tun.Event { return d.events }
func (d *device) BatchSize() int           { return Batch }

// Close ends Read and stops the stack from sending; it is safe to repeat.
func (d *device) Close() error {
	(*link)(d).shut()
	return nil
}

// Read waits for a packet and fills bufs with what there is, cut to size.
func (d *device) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if d.cut.empty() {
		select {
		case p := <-d.out:
			d.begin(p)
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
		case p := <-d.out:
			d.begin(p)
		default:
			return n, nil
		}
	}
}

// begin makes p the packet to cut, unless it leads nowhere.
func (d *device) begin(p *stack.PacketBuffer) {
	d.hold.Lock()
	defer d.hold.Unlock()
	if !d.cut.begin(p) {
		return
	}
	r := (*d.routes.Load())[d.cut.destination()]
	if r == nil || !d.cut.fit(r.mtu) {
		d.cut.drop()
		return
	}
	d.cut.setMarks(Mark(d.mark.Load()), r.marks[r.active.Load()])
}

// Write hands packets from WireGuard to the stack, joined where they belong
// together. WireGuard has checked that each comes from the key of its source.
func (d *device) Write(bufs [][]byte, offset int) (int, error) {
	dispatcher := (*link)(d).attached()
	if dispatcher == nil {
		return len(bufs), nil
	}
	j := joiner{offset: offset, bufs: bufs}
	from := origin{table: *d.routes.Load()}
	for i := range bufs {
		if !from.admit(bufs[i][offset:], &d.address) {
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
	table routes
	raw   [16]byte // source address with mark
	route *route
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
		o.route.sees(Mark(src[markAt])<<8 | Mark(src[markAt+1]))
	}
	copy(src[markAt:markEnd], self[markAt:markEnd])
	copy(dst, self[:])
	clampMSS(p, o.route.mtu)
	return p[6] != uint8(header.IPv6NoNextHeaderIdentifier)
}

func (r *route) sees(m Mark) {
	for i, known := range r.marks {
		if known == m {
			r.use(i)
			return
		}
	}
}
