package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"time"
)

// A Host is a machine at a site. It shares everything with this machine but the
// network.
type Host struct {
	Name  string
	Site  *Site
	Addr  netip.Addr // at Public sites a public one, elsewhere one of the LAN
	Addr6 netip.Addr // public; only with option IPv6

	space   *namespace
	noUDP   bool
	lab     *Lab
	address []netip.Addr
}

// Host adds a host to the site, on the same LAN as the others.
func (s *Site) Host(name string) *Host {
	s.lab.t.Helper()
	h := &Host{Name: name, Site: s, lab: s.lab, space: s.lab.space()}
	if err := h.build(len(s.hosts) + 10); err != nil {
		s.lab.t.Fatalf("build host %s at site %s: %v", name, s.Name, err)
	}
	s.hosts = append(s.hosts, h)
	return h
}

// build plugs the host into the LAN under the number that ends its addresses.
func (h *Host) build(number int) error {
	port := fmt.Sprint("host", number)
	err := h.Site.router.ip(
		fmt.Sprintf("link add %s type veth peer name eth0 netns %s", port, h.space.path()),
		fmt.Sprintf("link set %s master lan up", port))
	if err != nil {
		return err
	}
	setup := []string{"link set lo up", "link set eth0 up"}
	for _, lan := range h.Site.lan {
		mine := nth(lan, byte(number))
		h.address = append(h.address, mine.Addr())
		setup = append(setup,
			fmt.Sprintf("addr add %s dev eth0", mine),
			fmt.Sprintf("route add default via %s", nth(lan, 1).Addr()))
	}
	h.Addr = h.address[0]
	if h.Site.ipv6 {
		h.Addr6 = h.address[1]
	}
	return h.space.ip(setup...)
}

// Do runs f with the network of the host: sockets that it opens are the host's
// for as long as they live. Goroutines that f starts are not on the host.
func (h *Host) Do(f func() error) error { return h.space.do(f) }

// Listen is net.Listen on the host.
func (h *Host) Listen(network, address string) (ln net.Listener, err error) {
	err = h.Do(func() error {
		ln, err = net.Listen(network, address)
		return err
	})
	return ln, err
}

// ListenPacket is net.ListenPacket on the host.
func (h *Host) ListenPacket(network, address string) (conn net.PacketConn, err error) {
	err = h.Do(func() error {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, err
}

// Dial is net.Dialer.DialContext on the host; it fits http.Transport. The
// address is numeric: there is no DNS in a lab.
func (h *Host) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial %s from host %s: %w", address, h.Name, err)
	}
	err = h.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Run runs a program on the host and returns what it printed. It is killed
// when ctx is done.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	var out []byte
	err := h.Do(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		err = fmt.Errorf("run %s on host %s: %w: %s", name, h.Name, err, out)
	}
	return string(out), err
}

// BlockUDP makes the site's router drop all UDP from and to the host, silently,
// as strict firewalls do, or let it through again. Hosts of one LAN still reach
// each other.
func (h *Host) BlockUDP(block bool) {
	h.lab.t.Helper()
	if block == h.noUDP {
		return
	}
	verb := "add"
	if !block {
		verb = "delete"
	}
	if err := h.Site.blockUDP(verb, h.address); err != nil {
		h.lab.t.Fatalf("block UDP of host %s: %v", h.Name, err)
	}
	h.noUDP = block
}
