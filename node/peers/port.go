package peers

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
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
		return "`ss -lntup` shows by which: end that one, and this node goes on by itself; or set another port as " + set + ", and start the node again"
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		return "`ip address` shows which it has: this node goes on by itself when it has that one; or set one of these, or only a port, as " + set + ", and start the node again"
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

const portEvery = 2 * time.Second // between two looks whether the port can be opened by now

// AwaitPort waits until the mesh port can be opened, or ctx ends: a program that ends late,
// or an address that comes only with the network, leaves no node alone until somebody
// starts it again. It tells why it waits, each time that this is something else. What is
// on this node alone, such as the ledger of a cluster of one, works meanwhile. To be called
// before [Link.Run].
func (l *Link) AwaitPort(ctx context.Context, tell func(*PortError)) {
	at, err := parseListen(l.cfg.Listen)
	if err != nil || l.cfg.Simulated != nil {
		return // Run says so, or there is nothing to open
	}
	told := ""
	for ctx.Err() == nil {
		var port *PortError
		if !errors.As(portTrouble(probe(at), l.cfg.Listen), &port) {
			return
		}
		if text := port.Error(); text != told {
			told = text
			tell(port)
		}
		select {
		case <-ctx.Done():
		case <-time.After(portEvery):
		}
	}
}

// probe says why a port cannot be opened, which libp2p only tells in its own words.
func probe(at netip.AddrPort) error {
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	t, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return errors.Join(err, u.Close())
	}
	return errors.Join(u.Close(), t.Close())
}
