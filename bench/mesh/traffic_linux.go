package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// loopback is the address of the ith node, a different one for each, so that its
// packets can be told from those of others.
func loopback(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}) }

// traffic counts what goes through the loopback interface of this machine, by
// address: bytes of IP packets, headers among them, sent and received.
type traffic struct {
	fd   int
	done sync.WaitGroup

	mu    sync.Mutex
	bytes map[netip.Addr]int64
}

// listen counts until close is called. It needs the right to see packets
// (CAP_NET_RAW).
func listen() (*traffic, error) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, err
	}
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return nil, fmt.Errorf("see packets: %w", err)
	}
	wait := unix.Timeval{Usec: 100_000}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: lo.Index}); err != nil {
		return nil, err
	}
	return &traffic{fd: fd, bytes: map[netip.Addr]int64{}}, nil
}

// run counts until ctx ends.
func (t *traffic) run(ctx context.Context) {
	defer unix.Close(t.fd)
	buf := make([]byte, 128)
	for ctx.Err() == nil {
		n, from, err := unix.Recvfrom(t.fd, buf, unix.MSG_TRUNC)
		// The loopback interface shows each packet when it leaves and when it comes.
		link, _ := from.(*unix.SockaddrLinklayer)
		if err != nil || n < 20 || buf[0]>>4 != 4 || link == nil || link.Pkttype != unix.PACKET_OUTGOING {
			continue
		}
		t.mu.Lock()
		t.bytes[netip.AddrFrom4([4]byte(buf[12:16]))] += int64(n)
		t.bytes[netip.AddrFrom4([4]byte(buf[16:20]))] += int64(n)
		t.mu.Unlock()
	}
}

// of is how many bytes an address has sent and received until now.
func (t *traffic) of(a netip.Addr) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes[a]
}
