package admin

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// mayEnter asks the kernel who is at the other end: the rights of the socket
// have let in whoever it is, and somebody may have loosened them.
func mayEnter(conn net.Conn) error {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("a %T is no unix socket", conn)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("ask who it is: %w", failed)
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d is neither root nor the user of the daemon, %d", peer.Uid, os.Geteuid())
	}
	return nil
}
