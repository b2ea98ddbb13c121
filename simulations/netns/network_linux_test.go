package netns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/simulations/wan"
)

// fastest returns the shortest of some round trips: what the network takes, not
// what a busy machine adds.
func fastest(trip func()) time.Duration {
	best := time.Hour
	for range 4 {
		start := time.Now()
		trip()
		best = min(best, time.Since(start))
	}
	return best
}

func TestRoundTrips(t *testing.T) {
	lab := New(t, Config{Path: wan.Link{Delay: 20 * ms}})
	dc := lab.Site("dc", Public)
	server := newPeer(t, dc.Host("server"))
	web := echo(t, server.h)
	far := map[*Site]time.Duration{}
	for _, nat := range []NAT{Public, PortPreserving, Symmetric, CarrierGrade} {
		far[lab.Site(nat.String(), nat)] = 40 * ms
	}
	slow := lab.Site("slow", PortPreserving)
	lab.Path(slow, dc).Change(func(l *wan.Link) { l.Delay = 5 * ms })
	slow.Down.Set(wan.Link{Delay: 50 * ms})
	far[slow] = 75 * ms
	for site, want := range far {
		t.Run(site.Name, func(t *testing.T) {
			p := newPeer(t, site.Host("p"))
			udp := fastest(func() { server.send(server.sees(p), "pong"); p.receive(soon) })
			c := dial(t, p.h, web)
			tcp := fastest(func() { there(t, c, 100, soon) })
			for kind, got := range map[string]time.Duration{"UDP": udp, "TCP": tcp} {
				if got < want || got > want+15*ms {
					t.Errorf("the fastest round trip of %s took %v, want %v to %v", kind, got, want, want+15*ms)
				}
			}
		})
	}
}

func TestRateOfTCP(t *testing.T) {
	const rate, size = 20e6, 1 << 20
	lab := New(t, Config{Path: wan.Link{Delay: 5 * ms, Rate: rate, Queue: 64 << 10}})
	dc, home := lab.Site("dc", Public), lab.Site("home", PortPreserving)
	c := dial(t, home.Host("h"), echo(t, dc.Host("server")))
	start := time.Now()
	if !there(t, c, size, 20*time.Second) {
		t.Fatal("1 MiB takes more than 20 s at 20 Mbit/s")
	}
	took := time.Since(start)
	t.Logf("1 MiB there and back took %v: %.1f of 20 Mbit/s in each direction", took.Round(ms), size*8/took.Seconds()/1e6)
	if least := time.Duration(size * 8 / rate * float64(time.Second)); took < least {
		t.Errorf("1 MiB took %v, less than the rate allows, %v", took, least)
	}
	if up := lab.Path(home, dc).Counters(); up.Bytes < size || up.Bytes > 2*size {
		t.Errorf("counters after 1 MiB: %s", up)
	}
}

// What a seed loses does not depend on the machine: the same packets arrive in
// each lab of that seed.
func TestLossFollowsSeed(t *testing.T) {
	t.Parallel()
	const n = 300
	arrive := func(seed uint64) (got string) {
		before := uint64(0)
		lab := New(t, Config{Seed: seed, Path: wan.Link{Loss: 0.2}})
		home, dc := lab.Site("home", Symmetric), lab.Site("dc", Public)
		p, q := newPeer(t, home.Host("p")), newPeer(t, dc.Host("q"))
		path := lab.Path(home, dc)
		for i := range n {
			p.send(q.addr(), fmt.Sprint(i, " "))
			for start := time.Now(); path.Counters().Packets+path.Counters().Lost <= uint64(i); {
				if time.Since(start) > soon {
					t.Fatalf("seed %d: packet %d neither passed nor was lost: %s", seed, i, path.Counters())
				}
				time.Sleep(ms / 20)
			}
			if lost := path.Counters().Lost; lost == before {
				text, _ := q.receive(soon)
				got += text
			} else {
				before = lost
			}
		}
		if before < n/5-35 || before > n/5+35 { // five sigma
			t.Errorf("seed %d: of %d packets sent: %s", seed, n, path.Counters())
		}
		return got
	}
	one := arrive(1)
	if again := arrive(1); again != one {
		t.Errorf("seed 1 let pass %q and then %q", one, again)
	}
	if two := arrive(2); two == one {
		t.Error("seed 2 let pass the same as seed 1")
	}
}

// TCP survives a partition; UDP passes before and after; one direction can be
// cut alone; a third site is not concerned.
func TestPartition(t *testing.T) {
	t.Parallel()
	lab := New(t, Config{})
	home, dc, cloud := lab.Site("home", PortPreserving), lab.Site("dc", Public), lab.Site("cloud", Public)
	p, q, r := newPeer(t, home.Host("p")), newPeer(t, dc.Host("q")), newPeer(t, cloud.Host("r"))
	c := dial(t, p.h, echo(t, q.h))
	seen := q.sees(p)

	lab.Between(home, dc).Cut()
	if p.reaches(q, q.addr(), never) || q.reaches(p, seen, never) {
		t.Error("UDP passes a partition")
	}
	if there(t, c, 10, never) {
		t.Error("TCP passes a partition")
	}
	r.sees(p)
	r.sees(q)
	lab.Between(home, dc).Heal()
	q.sees(p)
	if !there(t, c, 0, soon) { // what was sent in vain is sent again
		t.Error("TCP did not survive")
	}

	lab.Path(home, dc).Cut()
	if p.reaches(q, q.addr(), never) || !q.reaches(p, seen, soon) {
		t.Error("cutting one direction cut the wrong one, or both")
	}
	lab.Path(home, dc).Heal()

	lines := lab.Partition(home, cloud)
	if p.reaches(q, q.addr(), never) || r.reaches(q, q.addr(), never) || q.reaches(r, r.addr(), never) {
		t.Error("packets pass between the sides")
	}
	r.sees(p)
	lines.Heal()
	q.sees(p)
	q.sees(r)

	dc.Access().Cut()
	if p.reaches(q, q.addr(), never) || r.reaches(q, q.addr(), never) {
		t.Error("packets reach a site whose access is cut")
	}
	r.sees(p)
	dc.Access().Heal()
	q.sees(p)
}

// Where ICMP tells senders the MTU, TCP adapts. Where it does not, small things
// work and large ones hang, until somebody repairs the line.
func TestMTU(t *testing.T) {
	t.Parallel()
	for _, nat := range []NAT{Public, CarrierGrade} {
		t.Run(nat.String(), func(t *testing.T) {
			lab := New(t, Config{Path: wan.Link{MTU: 1300}})
			dc, home := lab.Site("dc", Public, IPv6()), lab.Site("home", nat, IPv6())
			server, h := dc.Host("server"), home.Host("h")
			at := echo(t, server)
			for _, to := range []netip.AddrPort{at, netip.AddrPortFrom(server.Addr6, at.Port())} {
				if !there(t, dial(t, h, to), 100_000, soon) {
					t.Errorf("TCP to %s does not adapt to the MTU", to)
				}
			}
			if lab.Path(home, dc).Counters().TooBig == 0 {
				t.Error("nothing was too big")
			}

			other := lab.Site("other", nat)
			lab.Between(other, dc).Change(func(l *wan.Link) { l.Blackhole = true })
			c := dial(t, other.Host("h"), at)
			if !there(t, c, 1000, soon) {
				t.Error("a black hole swallows what is small enough")
			}
			if there(t, c, 100_000, 2*never) {
				t.Error("a black hole lets large packets pass")
			}
			if got := lab.Path(other, dc).Counters(); got.TooBig == 0 {
				t.Errorf("counters: %s", got)
			}
			lab.Between(other, dc).Set(wan.Link{})
			if !there(t, dial(t, other.hosts[0], at), 100_000, soon) {
				t.Error("the repaired line does not pass large packets")
			}
		})
	}
}

// What fills an uplink with a large queue makes everybody behind it wait, but
// nobody else. A faster line drains it faster.
func TestBloatedUplink(t *testing.T) {
	lab := New(t, Config{})
	dc, home, office := lab.Site("dc", Public), lab.Site("home", PortPreserving), lab.Site("office", PortPreserving)
	q, sink := newPeer(t, dc.Host("q")), newPeer(t, dc.Host("sink"))
	p, bulk, r := newPeer(t, home.Host("p")), newPeer(t, home.Host("bulk")), newPeer(t, office.Host("r"))
	q.sees(p) // neighbours are known, so that only the queue takes time
	home.Up.Set(wan.Link{Rate: 4e6, Queue: 1 << 20})
	fill := func() {
		for range 300 {
			bulk.send(sink.addr(), strings.Repeat("x", 1000)) // 0.6 s in all
		}
	}
	fill()
	beside := fastest(func() { q.sees(r) })
	start := time.Now()
	q.sees(p)
	if behind := time.Since(start); behind < 300*ms || beside > behind/4 {
		t.Errorf("a packet behind 0.6 s of others took %v, one from another site %v", behind, beside)
	}
	fill()
	start = time.Now()
	home.Up.Change(func(l *wan.Link) { l.Rate = 1e9 })
	q.sees(p)
	if behind := time.Since(start); behind > 300*ms {
		t.Errorf("after the line became faster a packet took %v", behind)
	}
}
