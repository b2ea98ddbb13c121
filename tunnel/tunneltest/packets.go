package tunneltest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/tunnel/udp"
)

// Packets opens a socket for who is no tunnel.
func (h *Host) Packets(at netip.AddrPort) (net.PacketConn, error) {
	s, err := h.Listen(at)
	if err != nil {
		return nil, err
	}
	return &packets{socket: s.(*socket)}, nil
}

// packets is a socket as the standard library has them.
type packets struct {
	*socket

	mu   sync.Mutex
	read time.Time // deadline; zero: none
	wake *time.Timer
	rest []byte // of a train, behind what was read
	size int    // of its datagrams
	from netip.AddrPort
	buf  [1 << 16]byte
}

var _ net.PacketConn = (*packets)(nil)

func (p *packets) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.local) }

// ReadFrom waits for a datagram. It is not to be called by two at once.
func (p *packets) ReadFrom(b []byte) (int, net.Addr, error) {
	for len(p.rest) == 0 {
		if p.late() {
			return 0, nil, os.ErrDeadlineExceeded
		}
		n, size, from, err := p.Receive(p.buf[:])
		if err != nil && !errors.Is(err, udp.ErrWoken) {
			return 0, nil, err
		}
		p.rest, p.size, p.from = p.buf[:n], size, from
	}
	one := p.rest[:min(p.size, len(p.rest))]
	p.rest = p.rest[len(one):]
	return copy(b, one), net.UDPAddrFromAddrPort(p.from), nil
}

func (p *packets) late() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.read.IsZero() && !time.Now().Before(p.read)
}

func (p *packets) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, errors.New("that is no address of UDP")
	}
	at := u.AddrPort()
	return len(b), p.Send([][]byte{b}, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
}

func (p *packets) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wake != nil {
		p.wake.Stop()
		p.wake = nil
	}
	if p.read = t; !t.IsZero() {
		p.wake = time.AfterFunc(time.Until(t), p.Wake)
	}
	return nil
}

func (p *packets) SetWriteDeadline(time.Time) error { return nil }
func (p *packets) SetDeadline(t time.Time) error    { return p.SetReadDeadline(t) }

func (p *packets) Close() error {
	return errors.Join(p.SetReadDeadline(time.Time{}), p.socket.Close())
}
