package netns

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/simulations/wan"
)

// A NAT is a kind of router between a site and the network.
type NAT int

const (
	// Public has no NAT and no firewall: hosts have public addresses.
	Public NAT = iota

	// PortPreserving gives a connection the port that the host used, whoever it
	// goes to, and lets in only answers: two of these can punch a hole.
	PortPreserving

	// Symmetric gives each connection a random port, so that the address one peer
	// sees is of no use to another: hosts reach public ones only, and each other
	// through a relay.
	Symmetric

	// CarrierGrade is a PortPreserving router that has itself no public address:
	// the provider shares one of its own, behind a Symmetric NAT.
	CarrierGrade
)

func (k NAT) String() string {
	return [...]string{"public", "port-preserving NAT", "symmetric NAT", "carrier-grade NAT"}[k]
}

// A Site is a router and the hosts behind it. Its Up and Down lines are those
// of package wan.
type Site struct {
	*wan.Site
	Addr netip.Addr // what others see; for Public sites the router's own

	lab    *Lab
	nat    NAT
	ipv6   bool
	number int
	router *namespace
	edge   *namespace // where the TUN is: the provider's, or the same as router
	lan    []netip.Prefix
	hosts  []*Host
}

// An Option changes how a site is built.
type Option func(*Site)

// LAN sets the private network of a site with NAT, a /24, in place of one that
// no other site has. Two sites may have the same, as homes do.
func LAN(p netip.Prefix) Option { return func(s *Site) { s.lan[0] = p } }

// IPv6 gives hosts of the site a public IPv6 address too. The router of a site
// with NAT lets in only answers.
func IPv6() Option { return func(s *Site) { s.ipv6 = true } }

// Site adds a site to the lab. It has perfect lines to and from the network,
// and to each other site one as in Config.Path.
func (lab *Lab) Site(name string, nat NAT, options ...Option) *Site {
	lab.t.Helper()
	number := len(lab.sites) + 1
	s := &Site{lab: lab, nat: nat, number: number, lan: []netip.Prefix{inside4(number)}}
	for _, o := range options {
		o(s)
	}
	if nat == Public {
		s.lan[0] = outside4(number)
	}
	routes := []netip.Prefix{outside4(number)}
	if s.ipv6 {
		s.lan = append(s.lan, outside6(number))
		routes = append(routes, outside6(number))
	}
	s.Addr = nth(outside4(number), 1).Addr()
	s.router = lab.space()
	s.edge = s.router
	if nat == CarrierGrade {
		s.edge = lab.space()
	}
	if err := s.build(name, routes); err != nil {
		lab.t.Fatalf("build site %s: %v", name, err)
	}
	lab.sites = append(lab.sites, s)
	return s
}

// build sets up the router, and the provider's in front of it if there is one.
func (s *Site) build(name string, routes []netip.Prefix) error {
	dev, err := s.edge.tun("wan")
	if err != nil {
		return err
	}
	if s.Site, err = s.lab.Attach(name, dev, routes...); err != nil {
		dev.Close()
		return err
	}
	if err := s.router.set(routing...); err != nil {
		return err
	}
	setup := []string{"link add lan type bridge", "link set lan up"}
	for _, p := range s.lan {
		setup = append(setup, fmt.Sprintf("addr add %s dev lan%s", nth(p, 1), nodad(p)))
	}
	if s.nat == CarrierGrade {
		if err := s.buildCarrier(); err != nil {
			return err
		}
	} else {
		setup = append(setup, s.wanSetup()...)
	}
	if err := s.router.ip(setup...); err != nil {
		return err
	}
	return s.router.nft(s.nat.rules())
}

// buildCarrier sets up the provider's router and its line to the site's.
func (s *Site) buildCarrier() error {
	if err := s.edge.set(routing...); err != nil {
		return err
	}
	c4, c6 := carrier4(s.number), carrier6(s.number)
	outer := append(s.wanSetup(),
		"link add lan type veth peer name wan netns "+s.router.path(),
		"link set lan up",
		fmt.Sprintf("addr add %s dev lan", nth(c4, 1)))
	inner := []string{
		"link set wan up",
		fmt.Sprintf("addr add %s dev wan", nth(c4, 2)),
		fmt.Sprintf("route add default via %s", nth(c4, 1).Addr()),
	}
	if s.ipv6 {
		outer = append(outer, fmt.Sprintf("addr add %s dev lan nodad", nth(c6, 1)),
			fmt.Sprintf("route add %s via %s", outside6(s.number), nth(c6, 2).Addr()))
		inner = append(inner, fmt.Sprintf("addr add %s dev wan nodad", nth(c6, 2)),
			fmt.Sprintf("route add default via %s", nth(c6, 1).Addr()))
	}
	if err := s.edge.ip(outer...); err != nil {
		return err
	}
	if err := s.router.ip(inner...); err != nil {
		return err
	}
	return s.edge.nft(carrierRules())
}

// wanSetup returns the commands that connect a router to its TUN device. The
// device may hold many packets, so that only lines of the network drop any.
func (s *Site) wanSetup() []string {
	setup := []string{"link set wan txqueuelen 10000 addrgenmode none up", "route add default dev wan"}
	if s.nat != Public {
		setup = append(setup, fmt.Sprintf("addr add %s/32 dev wan", s.Addr))
	}
	if s.ipv6 {
		setup = append(setup, "-6 route add default dev wan")
	}
	return setup
}

func nodad(p netip.Prefix) string {
	if p.Addr().Is6() {
		return " nodad" // no second of waiting to see if somebody else has it
	}
	return ""
}

// Renumber gives the router of a site with NAT another public address, as some
// providers do every night. Connections through the old one are lost.
func (s *Site) Renumber() {
	s.lab.t.Helper()
	if s.nat == Public {
		s.lab.t.Fatalf("renumber site %s: it is public, so its hosts would have to move", s.Name)
	}
	old := s.Addr
	s.Addr = nth(outside4(s.number), old.As4()[3]%250+1).Addr()
	err := s.edge.ip(fmt.Sprintf("addr add %s/32 dev wan", s.Addr), fmt.Sprintf("addr del %s/32 dev wan", old))
	if err != nil {
		s.lab.t.Fatalf("renumber site %s: %v", s.Name, err)
	}
}

// Forward sends what arrives at a port of the site's public address to the same
// port of a host, as people set up on their routers. Protocol is "tcp" or "udp".
func (s *Site) Forward(protocol string, port uint16, to *Host) {
	s.lab.t.Helper()
	if s.nat != PortPreserving && s.nat != Symmetric {
		s.lab.t.Fatalf("forward %s port %d at site %s: not with %s", protocol, port, s.Name, s.nat)
	}
	rule := fmt.Sprintf("add rule inet lab arriving iifname wan %s dport %d dnat ip to %s\n", protocol, port, to.Addr)
	if err := s.router.nft(rule); err != nil {
		s.lab.t.Fatalf("forward %s port %d at site %s: %v", protocol, port, s.Name, err)
	}
}

// ForgetAfter sets how long the routers of the site remember a UDP connection
// without traffic, in whole seconds. Linux does for 30 s, and for 120 s once
// there were several packets in both directions.
func (s *Site) ForgetAfter(d time.Duration) {
	s.lab.t.Helper()
	seconds := fmt.Sprint(max(1, int(d.Round(time.Second).Seconds())))
	for _, r := range []*namespace{s.router, s.edge} {
		err := r.set("net/netfilter/nf_conntrack_udp_timeout="+seconds, "net/netfilter/nf_conntrack_udp_timeout_stream="+seconds)
		if err != nil {
			s.lab.t.Fatalf("change what site %s remembers: %v", s.Name, err)
		}
	}
}

// blockUDP begins or ends to drop UDP from and to addresses.
func (s *Site) blockUDP(verb string, addrs []netip.Addr) error {
	var b strings.Builder
	for _, a := range addrs {
		set := "noudp4"
		if a.Is6() {
			set = "noudp6"
		}
		fmt.Fprintf(&b, "%s element inet lab %s { %s }\n", verb, set, a)
	}
	return s.router.nft(b.String())
}
