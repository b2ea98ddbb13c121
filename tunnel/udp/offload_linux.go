package udp

import (
	"encoding/binary"
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlBytes is the room for one control message with a segment size.
var controlBytes = unix.CmsgSpace(4)

// prepare sets what must be set before the socket is bound. All of it is an
// improvement only, so failures are left to show in the figures.
func prepare(c syscall.RawConn, offload bool) error {
	return c.Control(func(fd uintptr) {
		for _, o := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o, bufferBytes)
		}
		// Routers may cut what is too large for them: slow, but better than
		// nothing, which is what a path with a black hole would let through.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
		if offload {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		}
	})
}

// offloads asks the kernel what it can. UDP_GRO can be read back from Linux
// 5.12 on; before that it is not trusted.
func offloads(c syscall.RawConn) (send, receive bool) {
	_ = c.Control(func(fd uintptr) {
		_, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		send = err == nil
		on, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO)
		receive = err == nil && on == 1
	})
	return send, receive
}

// setSegmentSize makes control a UDP_SEGMENT message.
func setSegmentSize(control []byte, size uint16) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(control[unix.CmsgLen(0):], size)
}

// segmentSize returns the size in the UDP_GRO message of control, 0 without.
func segmentSize(control []byte) int {
	for len(control) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return 0
		}
		if h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(data) >= 2 {
			return int(binary.NativeEndian.Uint16(data))
		}
		control = rest
	}
	return 0
}

// refused tells an error of a train that its datagrams alone may not meet.
func refused(err error) bool {
	return cannot(err) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE)
}

// cannot tells a driver without checksum offload, which trains need.
func cannot(err error) bool { return errors.Is(err, unix.EIO) }
