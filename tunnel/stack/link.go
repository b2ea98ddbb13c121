package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
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

// A link is where gVisor meets WireGuard: the interface that the stack sends
// through. Every packet is for the [Device] of one of our keys.
type link struct {
	address [16]byte
	mtu     int
	routes  atomic.Pointer[routes]
	waits   atomic.Uint64

	done    chan struct{}
	closing sync.Once

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher
}

func newLink(address netip.Addr, mtu int) *link {
	l := &link{
		address: address.As16(),
		mtu:     mtu,
		done:    make(chan struct{}),
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
// What leads nowhere is dropped.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	table := *l.routes.Load()
	for n, p := range pkts.AsSlice() {
		h := p.NetworkHeader().Slice()
		if len(h) < header.IPv6MinimumSize {
			continue
		}
		r := table[[16]byte(h[header.IPv6MinimumSize-16:])]
		if r == nil {
			continue
		}
		if !l.push(outgoing{p.IncRef(), r.current.Load()}) {
			return n, &tcpip.ErrClosedForSend{}
		}
	}
	return pkts.Len(), nil
}

// push reports false if the stack is closed.
func (l *link) push(o outgoing) bool {
	d := o.lane.device
	select {
	case d.out <- o:
		return true
	default:
	}
	l.waits.Add(1)
	select {
	case d.out <- o:
		return true
	case <-d.done: // packets go by another one now; this is lost
		o.packet.DecRef()
		return true
	case <-l.done:
		o.packet.DecRef()
		return false
	}
}

func (l *link) shut() { l.closing.Do(func() { close(l.done) }) }
