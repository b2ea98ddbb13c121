package netns

import (
	"fmt"
	"net/netip"
)

// build sets up the router of a site, and that of its provider if it needs one.
func (s *Site) build() error {
	setup := []string{"link set lo up", "link add lan type bridge", "link set lan up"}
	for _, p := range s.lan {
		setup = append(setup, fmt.Sprintf("addr add %s dev lan", nth(p, 1)))
	}
	var own []netip.Prefix
	if s.ipv6 {
		own = append(own, outside6(s.number))
	}
	if err := s.router.set(routing...); err != nil {
		return err
	}
	if s.nat == CarrierGrade {
		if s.uplink == nil {
			if err := s.addProvider(); err != nil {
				return err
			}
		}
		if err := s.subscribe(); err != nil {
			return err
		}
	} else {
		if err := s.attach(s.router); err != nil {
			return err
		}
		setup = append(setup, s.uplink.setup(s.nat != Public, s.ipv6)...)
	}
	s.uplink.route(own...)
	if err := s.router.ip(setup...); err != nil {
		return err
	}
	return s.router.nft(s.nat.rules())
}

// attach connects a router to the network, as the uplink of the site.
func (s *Site) attach(router *namespace) error {
	dev, err := router.tun("wan")
	if err != nil {
		return err
	}
	up := &uplink{space: router, number: s.number, addr: nth(outside4(s.number), 1).Addr()}
	if up.port, err = s.lab.Attach(s.Name, dev); err != nil {
		dev.Close()
		return err
	}
	up.route(outside4(s.number))
	s.uplink = up
	return nil
}

// route makes more addresses reachable through the uplink.
func (u *uplink) route(prefixes ...netip.Prefix) {
	u.routes = append(u.routes, prefixes...)
	u.port.Route(u.routes...)
}

// setup returns the commands that bring up the TUN device. It may hold many
// packets, so that only lines of the network drop any.
func (u *uplink) setup(address, ipv6 bool) []string {
	setup := []string{"link set wan txqueuelen 10000 addrgenmode none up", "route add default dev wan"}
	if address {
		setup = append(setup, fmt.Sprintf("addr add %s/32 dev wan", u.addr))
	}
	if ipv6 {
		setup = append(setup, "route add ::/0 dev wan")
	}
	return setup
}

// addProvider sets up a provider's router, with customers on its bridge "lan".
func (s *Site) addProvider() error {
	space := s.lab.space()
	if err := space.set(routing...); err != nil {
		return err
	}
	if err := s.attach(space); err != nil {
		return err
	}
	setup := append(s.uplink.setup(true, true), "link set lo up", "link add lan type bridge", "link set lan up")
	for _, p := range []netip.Prefix{carrier4(s.number), carrier6(s.number)} {
		setup = append(setup, fmt.Sprintf("addr add %s dev lan", nth(p, 1)))
	}
	if err := space.ip(setup...); err != nil {
		return err
	}
	return space.nft(carrierRules())
}

// subscribe makes the site a customer of the provider at its uplink.
func (s *Site) subscribe() error {
	up := s.uplink
	up.customers++
	port := fmt.Sprint("site", up.customers)
	outer := []string{
		fmt.Sprintf("link add %s type veth peer name wan netns %s", port, s.router.path()),
		fmt.Sprintf("link set %s master lan up", port),
	}
	inner := []string{"link set wan up"}
	for _, p := range []netip.Prefix{carrier4(up.number), carrier6(up.number)} {
		mine := nth(p, byte(up.customers+1))
		if p.Addr().Is6() {
			if !s.ipv6 {
				continue
			}
			outer = append(outer, fmt.Sprintf("route add %s via %s", outside6(s.number), mine.Addr()))
		}
		inner = append(inner,
			fmt.Sprintf("addr add %s dev wan", mine),
			fmt.Sprintf("route add default via %s", nth(p, 1).Addr()))
	}
	if err := up.space.ip(outer...); err != nil {
		return err
	}
	return s.router.ip(inner...)
}
