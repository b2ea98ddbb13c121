// Package portmap asks the router for a port, so that peers on the internet
// can reach the mesh port: by UPnP or NAT-PMP, whichever it speaks.
package portmap

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/libp2p/go-nat"
)

const (
	lifetime = 20 * time.Minute // of a mapping
	renew    = 8 * time.Minute  // routers forget when they restart
	search   = 30 * time.Second // for a router
	retry    = 10 * time.Minute // when there is none, or it refuses
	remove   = 3 * time.Second  // to take the mapping back at the end
)

// A Gateway is a router that maps ports.
type Gateway interface {
	AddPortMapping(ctx context.Context, protocol string, port int, description string, lifetime time.Duration) (int, error)
	DeletePortMapping(ctx context.Context, protocol string, port int) error
	GetExternalAddress() (net.IP, error)
}

// A Mapper keeps a UDP port mapped while [Mapper.Run] runs.
type Mapper struct {
	Port   uint16
	Log    *slog.Logger
	Mapped func([]netip.AddrPort) // called with the outer addresses when they change

	// Discover finds the router; default: on the host's network.
	Discover func(context.Context) (Gateway, error)
}

// Run maps the port, renews that, and takes it back when ctx ends.
func (m Mapper) Run(ctx context.Context) error {
	if m.Discover == nil {
		m.Discover = func(ctx context.Context) (Gateway, error) { return nat.DiscoverGateway(ctx) }
	}
	var gateway Gateway
	for {
		outer, g, err := m.once(ctx, gateway)
		wait := renew
		if err != nil {
			wait = retry
			if ctx.Err() == nil {
				m.Log.Info("the router maps no port", "port", m.Port, "err", err, "retry_in", retry)
			}
			m.Mapped(nil)
		} else {
			m.Mapped([]netip.AddrPort{outer})
		}
		gateway = g
		select {
		case <-ctx.Done():
			m.cleanUp(gateway)
			return nil
		case <-time.After(wait):
		}
	}
}

// once maps the port at the gateway, which it looks for first if it is nil.
func (m Mapper) once(ctx context.Context, g Gateway) (netip.AddrPort, Gateway, error) {
	if g == nil {
		ctx, cancel := context.WithTimeout(ctx, search)
		defer cancel()
		var err error
		if g, err = m.Discover(ctx); err != nil {
			return netip.AddrPort{}, nil, fmt.Errorf("find the router: %w", err)
		}
	}
	port, err := g.AddPortMapping(ctx, "udp", int(m.Port), "holdfast", lifetime)
	if err != nil {
		return netip.AddrPort{}, nil, fmt.Errorf("map UDP port %d: %w", m.Port, err)
	}
	ip, err := g.GetExternalAddress()
	if err != nil {
		return netip.AddrPort{}, g, fmt.Errorf("ask the router for its address: %w", err)
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok || port < 1 || port > 65535 {
		return netip.AddrPort{}, g, fmt.Errorf("map UDP port %d: the router answers %v port %d", m.Port, ip, port)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), g, nil
}

func (m Mapper) cleanUp(g Gateway) {
	if g == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), remove)
	defer cancel()
	if err := g.DeletePortMapping(ctx, "udp", int(m.Port)); err != nil {
		m.Log.Debug("take back the mapping of a port", "port", m.Port, "err", err)
	}
}
