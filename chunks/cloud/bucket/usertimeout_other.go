//go:build !linux

package bucket

import (
	"net"
	"syscall"
)

// setUserTimeout does nothing where the system has no such option.
func setUserTimeout(_, _ string, _ syscall.RawConn) error { return nil }

// keepAliveOf knows nothing there.
func keepAliveOf(*net.TCPConn) KeepAlive { return KeepAlive{} }
