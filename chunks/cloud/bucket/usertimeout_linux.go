package bucket

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setUserTimeout lets a connection die whose data nobody acknowledges for a
// minute. Keep-alives do not notice that: they are not sent while data waits.
func setUserTimeout(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 60_000)
	})
}
