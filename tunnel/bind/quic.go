package bind

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// quicQueue bounds the QUIC datagrams that wait for libp2p.
const quicQueue = 256

// quicConns are the two halves of the mesh port that speak QUIC, by family.
type quicConns struct {
	v4, v6 atomic.Pointer[quicConn]
}

func (q *quicConns) of(a netip.Addr) *atomic.Pointer[quicConn] {
	if a.Is4() {
		return &q.v4
	}
	return &q.v6
}

// deliver hands a datagram on, or drops it if nobody takes it.
func (q *quicConns) deliver(m []byte, from netip.AddrPort) {
	c := q.of(from.Addr()).Load()
	if c == nil {
		return
	}
	d := datagram{c.bind.packets.get(m), from}
	select {
	case c.queue <- d:
	default:
		c.bind.packets.put(d.data)
	}
}

type datagram struct {
	data *[]byte
	from netip.AddrPort
}

// A quicConn is a net.PacketConn for the QUIC datagrams of one family.
type quicConn struct {
	bind  *Bind
	slot  *atomic.Pointer[quicConn]
	any   netip.Addr // the unspecified address of the family
	queue chan datagram
	done  chan struct{}
	once  sync.Once

	mu       sync.Mutex
	deadline time.Time
	changed  chan struct{} // closed when deadline changes
}

// QUICConn returns the mesh port for QUIC over network, udp4 or udp6, for
// quicreuse.OverrideListenUDP. There is one of each; a new one replaces it.
func (b *Bind) QUICConn(network string) net.PacketConn {
	c := &quicConn{
		bind:    b,
		slot:    &b.quic.v4,
		any:     netip.IPv4Unspecified(),
		queue:   make(chan datagram, quicQueue),
		done:    make(chan struct{}),
		changed: make(chan struct{}),
	}
	if network == "udp6" {
		c.slot, c.any = &b.quic.v6, netip.IPv6Unspecified()
	}
	if before := c.slot.Swap(c); before != nil {
		before.Close()
	}
	return c
}

func (c *quicConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		c.mu.Lock()
		deadline, changed := c.deadline, c.changed
		c.mu.Unlock()
		var expired <-chan time.Time
		if !deadline.IsZero() {
			wait := time.Until(deadline)
			if wait <= 0 {
				return 0, nil, os.ErrDeadlineExceeded
			}
			timer := time.NewTimer(wait)
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case d := <-c.queue:
			n := copy(p, *d.data)
			c.bind.packets.put(d.data)
			return n, net.UDPAddrFromAddrPort(d.from), nil
		case <-c.done:
			return 0, nil, net.ErrClosed
		case <-expired:
			return 0, nil, os.ErrDeadlineExceeded
		case <-changed:
		}
	}
}

func (c *quicConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	to, ok := addr.(*net.UDPAddr)
	s := c.bind.socket.Load()
	if !ok || s == nil {
		return 0, net.ErrClosed
	}
	dst := to.AddrPort()
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	if err := (*s).Send([][]byte{p}, dst); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close leaves the mesh port open, for WireGuard.
func (c *quicConn) Close() error {
	c.once.Do(func() {
		c.slot.CompareAndSwap(c, nil)
		close(c.done)
	})
	return nil
}

func (c *quicConn) LocalAddr() net.Addr {
	local := c.bind.LocalAddr()
	if local.Addr().IsUnspecified() || !local.IsValid() {
		local = netip.AddrPortFrom(c.any, local.Port())
	}
	return net.UDPAddrFromAddrPort(local)
}

func (c *quicConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *quicConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

func (c *quicConn) SetWriteDeadline(time.Time) error { return nil }

// The socket has the largest buffers that it may have.

func (c *quicConn) SetReadBuffer(int) error  { return nil }
func (c *quicConn) SetWriteBuffer(int) error { return nil }
