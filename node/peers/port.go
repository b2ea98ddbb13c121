package peers

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// A PortError says why the mesh port cannot be opened.
type PortError struct {
	Listen string
	Err    error
}

func (e *PortError) Error() string {
	switch {
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return "the mesh port " + e.Listen + " is in use by another program"
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		return "the mesh port " + e.Listen + " cannot be opened: this machine does not have that address"
	}
	return "the mesh port " + e.Listen + " cannot be opened: this user may not open it"
}

func (e *PortError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *PortError) Hint() string {
	const set = "mesh-listen in node.toml (--mesh-listen of `holdfast node join`)"
	switch {
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return "`ss -lntup` shows by which: end that one, or set another port as " + set + "; then start the node again"
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		return "`ip address` shows which it has: set one of these, or only a port, as " + set + "; then start the node again"
	}
	return "set a port from 1024 on as " + set + "; then start the node again"
}

// portTrouble says so if an error is one of the mesh port.
func portTrouble(err error, listen string) error {
	for _, cause := range []error{syscall.EADDRINUSE, syscall.EADDRNOTAVAIL, syscall.EACCES} {
		if errors.Is(err, cause) {
			return &PortError{listen, err}
		}
	}
	return err
}

// probe says why a port cannot be opened, which libp2p only tells in its own words.
func probe(at netip.AddrPort) error {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	return c.Close()
}
