package stack

import (
	"net"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// SetReadBuffer sets how many bytes the other end of a connection may have on
// their way to it, or waiting for it to read. They grow no more by themselves.
// What was allowed before is not taken back.
func (s *Stack) SetReadBuffer(c net.Conn, bytes int) {
	if o := s.options(c); o != nil {
		o.SetReceiveBufferSize(min(max(int64(bytes)*tcp.SegOverheadFactor, minBuffer), maxBuffer), true)
	}
}

// SetWriteBuffer sets how many bytes are kept that the other end has not
// acknowledged. They grow no more by themselves.
func (s *Stack) SetWriteBuffer(c net.Conn, bytes int) {
	if o := s.options(c); o != nil {
		o.SetSendBufferSize(min(max(int64(bytes), minBuffer), maxBuffer), true)
	}
}

// minBuffer is what a connection has in any case: some packets.
const minBuffer = 16 << 10

// options returns those of a connection; nil if it has ended.
func (s *Stack) options(c net.Conn) *tcpip.SocketOptions {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	remote, also := c.RemoteAddr().(*net.TCPAddr)
	if !ok || !also {
		return nil
	}
	ep, ok := s.net.FindTransportEndpoint(ipv6.ProtocolNumber, header.TCPProtocolNumber, stack.TransportEndpointID{
		LocalAddress: tcpip.AddrFromSlice(local.IP.To16()), LocalPort: uint16(local.Port),
		RemoteAddress: tcpip.AddrFromSlice(remote.IP.To16()), RemotePort: uint16(remote.Port),
	}, nic).(*tcp.Endpoint)
	if !ok || ep.EndpointState() == tcp.StateListen {
		return nil
	}
	return ep.SocketOptions()
}
