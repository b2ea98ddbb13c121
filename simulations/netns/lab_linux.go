package netns

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/holdfast-mesh/holdfast/simulations/wan"
)

// A TB is the part of testing.TB that a lab needs.
type TB interface {
	Helper()
	Name() string
	Failed() bool
	Cleanup(func())
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// A Config says what a lab begins as.
type Config struct {
	Seed uint64   // decides what the network loses, delays and reorders
	Path wan.Link // what lines between sites are like until changed
}

// A Lab is a set of sites and the network between them. Its methods, and those
// of its sites and hosts, end the test if they cannot do what they say, so they
// belong to the goroutine of the test. Lines may be changed from anywhere, and
// Do, Listen, ListenPacket, Dial and Run return errors and may be used anywhere.
type Lab struct {
	*wan.Network
	t     TB
	sites []*Site

	starter  starter
	stop     context.CancelFunc
	stopped  chan error
	closings sync.Once

	mu        sync.Mutex
	processes []*Process
	spaces    []*namespace
}

// New starts a lab without sites, for as long as the test runs. It skips the
// test if this machine cannot have one.
func New(t TB, cfg Config) *Lab {
	t.Helper()
	if missing := Missing(); missing != "" {
		if os.Getenv("HOLDFAST_NETNS") == "required" {
			t.Fatalf("%s needs network namespaces, and HOLDFAST_NETNS says they are required: %s", t.Name(), missing)
		}
		t.Skipf("%s is skipped, it needs network namespaces: %s", t.Name(), missing)
	}
	sweep()
	ctx, stop := context.WithCancel(context.Background())
	lab := &Lab{
		Network: wan.New(cfg.Seed, cfg.Path),
		t:       t,
		starter: newStarter(),
		stop:    stop,
		stopped: make(chan error, 1),
	}
	go func() { lab.stopped <- lab.Network.Run(ctx) }()
	t.Cleanup(lab.close)
	return lab
}

// close ends every process on the hosts, the network, and the namespaces.
func (lab *Lab) close() {
	lab.closings.Do(func() {
		lab.t.Helper()
		if lab.t.Failed() {
			for _, l := range lab.Network.Paths() {
				lab.t.Logf("%s: %s", l.Name(), l.Counters())
			}
		}
		lab.mu.Lock()
		processes, spaces := lab.processes, lab.spaces
		lab.mu.Unlock()
		for _, p := range processes {
			p.Kill()
		}
		killInside(spaces)
		lab.stop()
		if err := <-lab.stopped; err != nil {
			lab.t.Errorf("run the network of the lab: %v", err)
		}
		for _, s := range spaces {
			s.close()
		}
		lab.starter.close()
	})
}

// space returns a new namespace that the lab will close.
func (lab *Lab) space() *namespace {
	lab.t.Helper()
	s, err := newNamespace()
	if err != nil {
		lab.t.Fatalf("make network namespace: %v", err)
	}
	lab.mu.Lock()
	lab.spaces = append(lab.spaces, s)
	lab.mu.Unlock()
	return s
}

// Path returns the line from one site to another, in that direction only.
func (lab *Lab) Path(from, to *Site) *wan.Line {
	return lab.Network.Path(from.uplink.port, to.uplink.port)
}

// Between returns the lines between two sites, both directions.
func (lab *Lab) Between(a, b *Site) wan.Lines {
	return lab.Network.Between(a.uplink.port, b.uplink.port)
}

// Partition cuts every line between a site of one side and a site not of it.
// Undo it with Heal of what it returns.
func (lab *Lab) Partition(side ...*Site) wan.Lines {
	in := map[*Site]bool{}
	for _, s := range side {
		in[s] = true
	}
	var lines wan.Lines
	for _, a := range side {
		for _, b := range lab.sites {
			if !in[b] && a.uplink != b.uplink {
				lines = append(lines, lab.Between(a, b)...)
			}
		}
	}
	lines.Cut()
	return lines
}

// String lists every router and host with the command that opens a shell there.
func (lab *Lab) String() string {
	var b strings.Builder
	for _, s := range lab.sites {
		fmt.Fprintf(&b, "site %s, %s, seen as %s: nsenter --net=%s\n", s.Name, s.nat, s.Addr(), s.router.path())
		for _, h := range s.hosts {
			fmt.Fprintf(&b, "  host %s, %s: nsenter --net=%s\n", h.Name, h.Addr, h.space.path())
		}
	}
	return b.String()
}

// The addresses of a lab. Those for the outside pass for public ones with
// go-libp2p, which ranges for documentation do not.
func outside4(site int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{11, 0, byte(site), 0}), 24)
}

func outside6(site int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0x2b, 7: byte(site)}), 64)
}

func inside4(site int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 213, byte(site), 0}), 24)
}

func carrier4(site int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(site), 0}), 24)
}

func carrier6(site int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0x2b, 5: 1, 7: byte(site)}), 64)
}

// nth returns the address of p that ends in n, with the length of p.
func nth(p netip.Prefix, n byte) netip.Prefix {
	b := p.Addr().AsSlice()
	b[len(b)-1] = n
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits())
}
