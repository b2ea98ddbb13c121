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

// A Site is a router and the hosts behind it. Sites of one provider share its
// address and its lines.
type Site struct {
	Name     string
	Up, Down *wan.Line // everything it sends, and receives

	lab    *Lab
	nat    NAT
	ipv6   bool
	number int
	router *namespace
	uplink *uplink
	lan    []netip.Prefix
	hosts  []*Host
}

// An uplink is where a site, or a provider for several, meets the network.
type uplink struct {
	space     *namespace // the router of the site, or of the provider
	port      *wan.Site
	number    int
	addr      netip.Addr
	routes    []netip.Prefix
	customers int // of a provider
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
	return lab.add(name, nat, nil, options)
}

// Neighbour adds a site that shares the carrier-grade NAT of this one. To the
// outside both have the same address, and neither reaches the other.
func (s *Site) Neighbour(name string, options ...Option) *Site {
	s.lab.t.Helper()
	if s.nat != CarrierGrade {
		s.lab.t.Fatalf("add %s as a neighbour of site %s: it has no provider to share, but %s", name, s.Name, s.nat)
	}
	return s.lab.add(name, CarrierGrade, s.uplink, options)
}

func (lab *Lab) add(name string, nat NAT, shared *uplink, options []Option) *Site {
	lab.t.Helper()
	number := len(lab.sites) + 1
	s := &Site{Name: name, lab: lab, nat: nat, number: number, uplink: shared, lan: []netip.Prefix{inside4(number)}}
	for _, o := range options {
		o(s)
	}
	if nat == Public {
		s.lan[0] = outside4(number)
	}
	if s.ipv6 {
		s.lan = append(s.lan, outside6(number))
	}
	if number > 250 {
		lab.t.Fatalf("build site %s: a lab has at most 250", name)
	}
	s.router = lab.space()
	if err := s.build(); err != nil {
		lab.t.Fatalf("build site %s: %v", name, err)
	}
	s.Up, s.Down = s.uplink.port.Up, s.uplink.port.Down
	lab.sites = append(lab.sites, s)
	return s
}

// Addr is the address that others see connections from the site come from. At
// a Public site that is the host's own; this is then the router's.
func (s *Site) Addr() netip.Addr { return s.uplink.addr }

// Access returns the two lines that join the site to the network: cut them and
// it is alone.
func (s *Site) Access() wan.Lines { return wan.Lines{s.Up, s.Down} }

// Renumber gives the router of a site with NAT another public address, as some
// providers do every night. Connections through the old one are lost. For a
// carrier-grade NAT it is the provider's address that changes.
func (s *Site) Renumber() {
	s.lab.t.Helper()
	if s.nat == Public {
		s.lab.t.Fatalf("renumber site %s: it is public, so its hosts would have to move", s.Name)
	}
	up, old := s.uplink, s.uplink.addr
	up.addr = nth(outside4(up.number), old.As4()[3]%250+1).Addr()
	err := up.space.ip(fmt.Sprintf("addr add %s/32 dev wan", up.addr), fmt.Sprintf("addr del %s/32 dev wan", old))
	if err == nil {
		err = up.space.forget()
	}
	if err != nil {
		s.lab.t.Fatalf("renumber site %s: %v", s.Name, err)
	}
}

// Reboot makes the site's router, and its provider's, forget every connection,
// as after a power cut that was over at once.
func (s *Site) Reboot() {
	s.lab.t.Helper()
	for _, r := range []*namespace{s.router, s.uplink.space} {
		if err := r.forget(); err != nil {
			s.lab.t.Fatalf("reboot the router of site %s: %v", s.Name, err)
		}
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
	for _, r := range []*namespace{s.router, s.uplink.space} {
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
