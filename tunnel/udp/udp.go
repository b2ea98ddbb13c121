// Package udp is the mesh port: one UDP socket that moves many datagrams in
// one system call where the kernel can (segmentation offload on Linux).
package udp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// bufferBytes is asked for in both directions; without privileges the
	// kernel grants at most net.core.rmem_max and wmem_max.
	bufferBytes = 7 << 20

	// maxSegments and maxTrain limit what one system call may send.
	maxSegments = 64
	maxTrain    = 65535 - 40 - 8
)

// A Socket is a bound UDP socket for both IPv4 and IPv6.
type Socket struct {
	conn    *net.UDPConn
	local   netip.AddrPort
	offload atomic.Bool // send trains of datagrams
	coalesc bool        // receive trains of datagrams
	trains  sync.Pool   // *[]byte of maxTrain, to put a train together in
	control sync.Pool   // *[]byte of controlBytes
	oob     []byte      // of the one goroutine that receives
}

// Listen binds addr; an unspecified address means all, of both families.
// Without offload every datagram is a system call.
func Listen(addr netip.AddrPort, offload bool) (*Socket, error) {
	network := "udp"
	if addr.Addr().Is4() && !addr.Addr().IsUnspecified() {
		network = "udp4"
	}
	where := addr.String()
	if addr.Addr().IsUnspecified() {
		where = fmt.Sprintf(":%d", addr.Port())
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return prepare(c, offload) }}
	pc, err := lc.ListenPacket(context.Background(), network, where)
	if err != nil {
		return nil, fmt.Errorf("open UDP port %v: %w", addr, err)
	}
	conn := pc.(*net.UDPConn)
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	s := &Socket{
		conn:    conn,
		local:   netip.AddrPortFrom(local.Addr().Unmap(), local.Port()),
		trains:  sync.Pool{New: func() any { b := make([]byte, 0, maxTrain); return &b }},
		control: sync.Pool{New: func() any { b := make([]byte, controlBytes); return &b }},
		oob:     make([]byte, 2*controlBytes),
	}
	if raw, err := conn.SyscallConn(); err == nil && offload {
		send, receive := offloads(raw)
		s.offload.Store(send)
		s.coalesc = receive
	}
	return s, nil
}

// LocalAddr returns the bound address and port.
func (s *Socket) LocalAddr() netip.AddrPort { return s.local }

// Close ends Receive with net.ErrClosed.
func (s *Socket) Close() error { return s.conn.Close() }

// ErrWoken is what Receive returns after Wake.
var ErrWoken = errors.New("woken")

// Wake makes the Receive that waits, or else the next one, return ErrWoken.
func (s *Socket) Wake() { s.conn.SetReadDeadline(time.Unix(1, 0)) }

// Receive waits for one datagram, or several of one sender that have the same
// size but the last: segment is that size, or n. It allocates nothing. One
// goroutine may call it.
func (s *Socket) Receive(buf []byte) (n, segment int, from netip.AddrPort, err error) {
	n, nn, _, from, err := s.conn.ReadMsgUDPAddrPort(buf, s.oob)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.conn.SetReadDeadline(time.Time{})
		return 0, 0, from, ErrWoken
	}
	if err != nil {
		return 0, 0, from, err
	}
	segment = n
	if s.coalesc {
		if size := segmentSize(s.oob[:nn]); size > 0 {
			segment = size
		}
	}
	return n, segment, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), nil
}

// Offload tells whether trains are sent; NoOffload ends that for good.
func (s *Socket) Offload() bool { return s.offload.Load() }
func (s *Socket) NoOffload()    { s.offload.Store(false) }

// Send sends the datagrams in bufs, all of them even if one fails, and returns
// the first error.
func (s *Socket) Send(bufs [][]byte, to netip.AddrPort) error {
	if !s.offload.Load() || len(bufs) == 1 {
		return s.sendEach(bufs, to)
	}
	var first error
	for len(bufs) > 0 {
		n := trainOf(bufs)
		if err := s.sendTrain(bufs[:n], to); err != nil && first == nil {
			first = err
		}
		bufs = bufs[n:]
	}
	return first
}

// trainOf returns how many of bufs may go as one train: as large as the first,
// and perhaps one smaller at the end.
func trainOf(bufs [][]byte) int {
	size, total := len(bufs[0]), 0
	for i, b := range bufs {
		if i == maxSegments || len(b) > size || total+len(b) > maxTrain {
			return max(i, 1)
		}
		if total += len(b); len(b) < size {
			return i + 1
		}
	}
	return len(bufs)
}

func (s *Socket) sendTrain(bufs [][]byte, to netip.AddrPort) error {
	if len(bufs) == 1 {
		return s.sendEach(bufs, to)
	}
	train, oob := s.trains.Get().(*[]byte), s.control.Get().(*[]byte)
	defer s.trains.Put(train)
	defer s.control.Put(oob)
	*train = (*train)[:0]
	for _, b := range bufs {
		*train = append(*train, b...)
	}
	setSegmentSize(*oob, uint16(len(bufs[0])))
	_, _, err := s.conn.WriteMsgUDPAddrPort(*train, *oob, to)
	if err == nil || !refused(err) {
		return err
	}
	// No checksum offload in the driver, or the path takes less than a segment.
	if cannot(err) {
		s.offload.Store(false)
	}
	return s.sendEach(bufs, to)
}

func (s *Socket) sendEach(bufs [][]byte, to netip.AddrPort) error {
	var first error
	for _, b := range bufs {
		if _, err := s.conn.WriteToUDPAddrPort(b, to); err != nil && first == nil {
			first = err
		}
	}
	return first
}
