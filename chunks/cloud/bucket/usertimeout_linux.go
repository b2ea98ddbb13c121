package bucket

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout lets a connection die whose data nobody acknowledges for a
// minute. Keep-alives do not notice that: they are not sent while data waits.
func setUserTimeout(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 60_000)
	})
}

// keepAliveOf reads how a connection looks whether somebody is there.
func keepAliveOf(conn *net.TCPConn) (k KeepAlive) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return k
	}
	get := func(fd uintptr, level, opt int) int {
		n, gerr := unix.GetsockoptInt(int(fd), level, opt)
		if gerr != nil {
			err = gerr
		}
		return n
	}
	cerr := raw.Control(func(fd uintptr) {
		k.On = get(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0
		k.Idle = time.Duration(get(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)) * time.Second
		k.Interval = time.Duration(get(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)) * time.Second
		k.Count = get(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT)
	})
	k.Known = err == nil && cerr == nil
	return k
}
