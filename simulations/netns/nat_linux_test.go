package netns

import (
	"net/netip"
	"testing"
	"time"
)

// What a host behind each kind of NAT looks like to two others, and whether
// others can reach it unasked.
func TestMapping(t *testing.T) {
	t.Parallel()
	tests := []struct {
		nat      NAT
		keeps    bool // the port that the host used
		sameBoth bool // both see the same port
		open     bool // a stranger gets in
	}{
		{Public, true, true, true},
		{PortPreserving, true, true, false},
		{Symmetric, false, false, false},
		{CarrierGrade, false, false, false},
	}
	lab := New(t, Config{})
	one, two := newPeer(t, lab.Site("dc", Public).Host("one")), newPeer(t, lab.Site("cloud", Public).Host("two"))
	for _, tt := range tests {
		t.Run(tt.nat.String(), func(t *testing.T) {
			s := lab.Site(tt.nat.String(), tt.nat)
			p := newPeer(t, s.Host("inside"))
			first, second := one.sees(p), two.sees(p)
			want := s.Addr()
			if tt.nat == Public {
				want = p.h.Addr
			}
			if first.Addr() != want || second.Addr() != want {
				t.Errorf("others see %v and %v, want %v", first, second, want)
			}
			if (first.Port() == p.port()) != tt.keeps || (first.Port() == second.Port()) != tt.sameBoth {
				t.Errorf("port %d becomes %d for one and %d for the other", p.port(), first.Port(), second.Port())
			}
			if !one.reaches(p, first, soon) {
				t.Error("the answer of whom the host talked to does not get in")
			}
			stranger := newPeer(t, one.h)
			if got := stranger.reaches(p, first, never); got != tt.open {
				t.Errorf("another port of the same host gets in: %v, want %v", got, tt.open)
			}
			if tt.nat != Public {
				refuses(t, one.h, netip.AddrPortFrom(want, 22))
			}
		})
	}
}

// Who can connect to whom after both learned their address from a third and
// sent to each other at the same time.
func TestHolePunching(t *testing.T) {
	t.Parallel()
	tests := []struct {
		a, b NAT
		want bool
	}{
		{Public, Public, true},
		{Public, CarrierGrade, true},
		{PortPreserving, PortPreserving, true},
		{PortPreserving, Public, true},
		{PortPreserving, Symmetric, false},
		{PortPreserving, CarrierGrade, false},
		{Symmetric, Symmetric, false},
		{Symmetric, Public, true},
		{CarrierGrade, CarrierGrade, false},
	}
	lab := New(t, Config{})
	third := newPeer(t, lab.Site("third", Public).Host("third"))
	var hosts [2][]*Host
	for _, n := range []NAT{Public, PortPreserving, Symmetric, CarrierGrade} {
		hosts[0] = append(hosts[0], lab.Site("one "+n.String(), n).Host("a"))
		hosts[1] = append(hosts[1], lab.Site("two "+n.String(), n).Host("b"))
	}
	for _, tt := range tests {
		t.Run(tt.a.String()+" and "+tt.b.String(), func(t *testing.T) {
			a, b := newPeer(t, hosts[0][tt.a]), newPeer(t, hosts[1][tt.b])
			if got := punch(third, a, b); got != tt.want {
				t.Errorf("they connect: %v, want %v", got, tt.want)
			}
		})
	}
}

// punch lets two peers try to connect, and reports whether both hear the other.
func punch(third, a, b *peer) bool {
	aSeen, bSeen := third.sees(a), third.sees(b)
	for _, patience := range []time.Duration{never / 3, never / 3, never / 3} {
		a.send(bSeen, "a")
		b.send(aSeen, "b")
		fromA, aAt := b.receive(patience)
		fromB, bAt := a.receive(patience)
		if fromA == "a" {
			aSeen = aAt // a packet got through: answer to where it came from
		}
		if fromB == "b" {
			bSeen = bAt
		}
		if fromA == "a" && fromB == "b" {
			return true
		}
	}
	return false
}

// Two customers of one provider share an address and do not reach each other,
// neither through it nor at home.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	lab := New(t, Config{})
	third := newPeer(t, lab.Site("dc", Public).Host("third"))
	home := lab.Site("home", CarrierGrade)
	flat := home.Neighbour("flat")
	a, b := newPeer(t, home.Host("a")), newPeer(t, flat.Host("b"))
	aSeen, bSeen := third.sees(a), third.sees(b)
	if aSeen.Addr() != bSeen.Addr() || home.Addr() != flat.Addr() {
		t.Errorf("the neighbours are seen as %v and %v", aSeen, bSeen)
	}
	if punch(third, a, b) {
		t.Error("they connect through the provider's address")
	}
	if a.reaches(b, b.addr(), never) {
		t.Error("one reaches the other's LAN")
	}
	lab.Path(home, lab.sites[0]).Cut()
	b.send(third.addr(), "cut off too")
	if text, _ := third.receive(never); text != "" {
		t.Error("they do not share their line")
	}
}

// Homes often use the same private network. Both are reached by their public
// addresses all the same.
func TestSameLAN(t *testing.T) {
	t.Parallel()
	lab := New(t, Config{})
	third := newPeer(t, lab.Site("dc", Public).Host("third"))
	lan := LAN(netip.MustParsePrefix("192.168.1.0/24"))
	a, b := newPeer(t, lab.Site("home", PortPreserving, lan).Host("a")), newPeer(t, lab.Site("flat", PortPreserving, lan).Host("b"))
	if a.h.Addr != b.h.Addr || a.h.Addr.String() != "192.168.1.10" {
		t.Errorf("hosts have the addresses %s and %s", a.h.Addr, b.h.Addr)
	}
	if !punch(third, a, b) {
		t.Error("they do not connect")
	}
}

func TestForward(t *testing.T) {
	t.Parallel()
	lab := New(t, Config{})
	out := lab.Site("dc", Public).Host("out")
	home := lab.Site("home", Symmetric)
	nas, other := home.Host("nas"), newPeer(t, home.Host("other"))
	p, web := newPeer(t, nas), echo(t, nas)
	home.Forward("udp", p.port(), nas)
	home.Forward("tcp", web.Port(), nas)
	stranger := newPeer(t, out)
	if !stranger.reaches(p, netip.AddrPortFrom(home.Addr(), p.port()), soon) {
		t.Error("UDP to the forwarded port does not arrive")
	}
	if !there(t, dial(t, out, netip.AddrPortFrom(home.Addr(), web.Port())), 1000, soon) {
		t.Error("TCP to the forwarded port does not arrive")
	}
	if stranger.reaches(other, netip.AddrPortFrom(home.Addr(), other.port()), never) {
		t.Error("a port that is not forwarded lets in too")
	}
}

// A provider that changes the address ends what went through the old one; the
// host is then seen under the new one.
func TestRenumber(t *testing.T) {
	t.Parallel()
	for _, nat := range []NAT{PortPreserving, CarrierGrade} {
		t.Run(nat.String(), func(t *testing.T) {
			lab := New(t, Config{})
			third := newPeer(t, lab.Site("dc", Public).Host("third"))
			home := lab.Site("home", nat)
			p := newPeer(t, home.Host("p"))
			before := third.sees(p)
			home.Renumber()
			if third.reaches(p, before, never) {
				t.Error("the old address still leads to the host")
			}
			after := third.sees(p)
			if after.Addr() == before.Addr() || after.Addr() != home.Addr() {
				t.Errorf("seen as %v before and as %v after; the address is %v", before, after, home.Addr())
			}
			if !third.reaches(p, after, soon) {
				t.Error("the new address does not lead to the host")
			}
		})
	}
}

// After a reboot an answer to what was sent before does not get in, and a
// symmetric NAT picks another port.
func TestReboot(t *testing.T) {
	t.Parallel()
	lab := New(t, Config{})
	third := newPeer(t, lab.Site("dc", Public).Host("third"))
	for _, nat := range []NAT{PortPreserving, Symmetric, CarrierGrade} {
		s := lab.Site(nat.String(), nat)
		p := newPeer(t, s.Host("p"))
		before := third.sees(p)
		s.Reboot()
		if third.reaches(p, before, never) {
			t.Errorf("%s: an answer gets in", nat)
		}
		if after := third.sees(p); (after == before) != (nat == PortPreserving) {
			t.Errorf("%s: seen as %v before and as %v after", nat, before, after)
		}
	}
}

func TestForgetAfter(t *testing.T) {
	t.Parallel()
	lab := New(t, Config{})
	third := newPeer(t, lab.Site("dc", Public).Host("third"))
	home := lab.Site("home", PortPreserving)
	home.ForgetAfter(time.Second)
	p, q := newPeer(t, home.Host("p")), newPeer(t, home.hosts[0])
	seen, kept := third.sees(p), third.sees(q)
	for range 8 { // one keeps its mapping alive, the other does not
		time.Sleep(200 * ms)
		third.sees(q)
	}
	if third.reaches(p, seen, never) {
		t.Error("the router remembers a connection that was silent for longer")
	}
	if !third.reaches(q, kept, soon) {
		t.Error("the router forgot a connection that was in use")
	}
}

// IPv6 has no NAT, but routers of homes have a firewall.
func TestIPv6(t *testing.T) {
	t.Parallel()
	lab := New(t, Config{})
	dc := newPeer(t, lab.Site("dc", Public, IPv6()).Host("dc"))
	for _, nat := range []NAT{Public, PortPreserving, Symmetric, CarrierGrade} {
		t.Run(nat.String(), func(t *testing.T) {
			s := lab.Site(nat.String(), nat, IPv6())
			sites := []*Site{s}
			if nat == CarrierGrade {
				sites = append(sites, s.Neighbour("neighbour", IPv6()))
			}
			for _, s := range sites {
				p := newPeer(t, s.Host("p"))
				if got := dc.reaches(p, p.addr6(), never); got != (nat == Public) {
					t.Errorf("a stranger gets in: %v", got)
				}
				p.send(dc.addr6(), "hello")
				if text, from := dc.receive(soon); text != "hello" || from != p.addr6() {
					t.Errorf("dc got %q from %v, want hello from %v", text, from, p.addr6())
				}
				if !dc.reaches(p, p.addr6(), soon) {
					t.Error("an answer does not get in")
				}
			}
		})
	}
}

// A firewall that drops UDP drops all of it, also what flows already, and
// nothing else.
func TestBlockUDP(t *testing.T) {
	t.Parallel()
	for _, nat := range []NAT{Public, Symmetric} {
		t.Run(nat.String(), func(t *testing.T) {
			lab := New(t, Config{})
			dc := lab.Site("dc", Public, IPv6()).Host("dc")
			site := lab.Site("site", nat, IPv6())
			server, h := newPeer(t, dc), site.Host("h")
			p, mate := newPeer(t, h), newPeer(t, site.Host("mate"))
			tcp := dial(t, h, echo(t, dc))
			seen := server.sees(p)

			h.BlockUDP(true)
			h.BlockUDP(true) // twice is the same as once
			p.send(server.addr(), "out")
			p.send(server.addr6(), "out")
			if text, _ := server.receive(never); text != "" {
				t.Error("UDP gets out")
			}
			if server.reaches(p, seen, never) || server.reaches(p, p.addr6(), never) {
				t.Error("UDP gets in")
			}
			if !there(t, tcp, 1000, soon) {
				t.Error("TCP is blocked as well")
			}
			server.sees(mate)
			if !mate.reaches(p, p.addr(), soon) {
				t.Error("UDP within the LAN is blocked as well")
			}

			h.BlockUDP(false)
			h.BlockUDP(false)
			server.sees(p)
			p.send(server.addr6(), "out")
			if text, _ := server.receive(soon); text != "out" {
				t.Error("UDP over IPv6 is still blocked")
			}
		})
	}
}
