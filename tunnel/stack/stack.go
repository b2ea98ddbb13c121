// Package stack is the end of the tunnel that programs hold: a TCP and UDP
// stack in the process, which no interface of the host and no route leads to.
//
// A [Stack] is a gVisor network stack with one address, and a [Device] for each
// WireGuard that reads its packets and writes packets to it. It is two to three times
// as fast as the stock one because it moves batches: TCP hands it up to 64 KiB
// at a time, which Read cuts into segments, and Write joins what arrives.
//
// A packet inside WireGuard carries a mark of the key that its sender uses, in
// the subnet field of the address, so that a peer's old and new key are both
// good while it changes them. Programs never see marks; see [Route].
package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	nic = 1 // the only interface of the stack

	// maxBacklog bounds the connections that wait to be accepted.
	maxBacklog = 4096

	// maxBuffer lets one stream fill 1 Gbit/s at 100 ms; 4 MiB give 160 Mbit/s.
	maxBuffer = 16 << 20
	// minRTO is what a stream waits for an acknowledgement at least. The 200 ms that
	// are usual expire on a line of 150 ms whenever a packet waits for 50 ms, behind
	// others or for a processor, and Reno needs minutes to forget that: 15 such
	// moments, with no packet lost, halved the rate of a pull.
	minRTO = 500 * time.Millisecond
	// maxRTO bounds the silence after a path was lost and found.
	maxRTO = 2 * time.Second
	// maxRetries times maxRTO is how long a connection outlives its path.
	maxRetries = 90
)

// Config says what a [Stack] is.
type Config struct {
	Address netip.Addr // required: IPv6, the only address
	MTU     int        // largest packet, at least 1280
}

// A Stack is one address with TCP and UDP. Its goroutines end with [Stack.Close].
type Stack struct {
	cfg  Config
	net  *stack.Stack
	link *link

	mu      sync.Mutex
	devices []*Device // newest first
	table   []Route

	closing sync.Once
}

// New returns a stack that is ready, though nobody reads its packets yet.
func New(cfg Config) (*Stack, error) {
	switch {
	case !cfg.Address.Is6() || cfg.Address.Is4In6():
		return nil, fmt.Errorf("tunnel stack: address is %v, want an IPv6 address", cfg.Address)
	case cfg.MTU < header.IPv6MinimumMTU || cfg.MTU > maxMTU:
		return nil, fmt.Errorf("tunnel stack: MTU is %d, want %d to %d", cfg.MTU, header.IPv6MinimumMTU, maxMTU)
	}
	s := &Stack{cfg: cfg, link: newLink(cfg.Address, cfg.MTU), net: stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol6},
		HandleLocal:        true,
	})}
	if err := s.configure(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stack) configure() error {
	sack := tcpip.TCPSACKEnabled(true)
	reno := tcpip.CongestionControlOption("reno") // cubic's window overflows in this version of gVisor
	rack := tcpip.TCPRecovery(0)                  // for the same reason
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	rto := tcpip.TCPMaxRTOOption(maxRTO)
	least := tcpip.TCPMinRTOOption(minRTO)
	retries := tcpip.TCPMaxRetriesOption(maxRetries)
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack, &reno, &rack, &moderate, &least, &rto, &retries,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: 1 << 20, Max: maxBuffer},
		&tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: 1 << 20, Max: maxBuffer},
	} {
		if err := s.net.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("tunnel stack: set TCP option %T: %v", o, err)
		}
	}
	if err := s.net.CreateNIC(nic, s.link); err != nil {
		return fmt.Errorf("tunnel stack: create interface: %v", err)
	}
	address := tcpip.ProtocolAddress{
		Protocol:          ipv6.ProtocolNumber,
		AddressWithPrefix: tcpip.AddrFrom16(s.cfg.Address.As16()).WithPrefix(),
	}
	if err := s.net.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("tunnel stack: add address %v: %v", s.cfg.Address, err)
	}
	s.net.AddRoute(tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: nic})
	return nil
}

// Waits returns how often a packet had to wait for WireGuard to take it.
func (s *Stack) Waits() uint64 { return s.link.waits.Load() }

// Close ends every connection and waits for the goroutines of the stack. The
// readers of devices must be gone before.
func (s *Stack) Close() {
	s.closing.Do(func() {
		s.link.shut()
		s.mu.Lock()
		devices := s.devices
		s.mu.Unlock()
		for _, d := range devices {
			d.Close()
		}
		s.net.Close()
		s.net.Wait()
	})
}

// Listen accepts TCP connections at port, also while connections of an earlier
// listener there come to their end, which takes a minute after their last byte.
func (s *Stack) Listen(port uint16) (net.Listener, error) {
	var queue waiter.Queue
	end, err := s.net.NewEndpoint(tcp.ProtocolNumber, ipv6.ProtocolNumber, &queue)
	if err != nil {
		return nil, fmt.Errorf("listen at port %d of the tunnel: %v", port, err)
	}
	end.SocketOptions().SetReuseAddress(true)
	if err = end.Bind(s.at(s.cfg.Address, port)); err == nil {
		err = end.Listen(maxBacklog)
	}
	if err != nil {
		end.Close()
		return nil, fmt.Errorf("listen at port %d of the tunnel: %v", port, err)
	}
	return gonet.NewTCPListener(s.net, &queue, end), nil
}

// Dial opens a TCP connection.
func (s *Stack) Dial(ctx context.Context, to netip.AddrPort) (*gonet.TCPConn, error) {
	return gonet.DialContextTCP(ctx, s.net, s.at(to.Addr(), to.Port()), ipv6.ProtocolNumber)
}

// ListenPacket receives UDP packets at port.
func (s *Stack) ListenPacket(port uint16) (net.PacketConn, error) {
	local := s.at(s.cfg.Address, port)
	c, err := gonet.DialUDP(s.net, &local, nil, ipv6.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("receive packets at port %d of the tunnel: %w", port, unwrap(err))
	}
	return c, nil
}

func (s *Stack) at(a netip.Addr, port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom16(a.As16()), Port: port}
}

// unwrap leaves out the addresses that net.OpError repeats.
func unwrap(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
