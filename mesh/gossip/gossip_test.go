package gossip

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/network"
)

func TestFiftyNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 50)
		c.net.Slow(80*time.Millisecond, 0.2, 0.01)
		t.Logf("converged after %v", c.within(30*time.Second, "converge after start", func() bool { return together(c.nodes) }))

		time.Sleep(time.Minute)
		victim := c.nodes[7]
		c.die(victim)
		rest := append(append([]*node{}, c.nodes[:7]...), c.nodes[8:]...)
		t.Logf("a death is known after %v", c.within(20*time.Second, "a death is known", func() bool { return together(rest) }))
		for _, x := range rest {
			if x.state(victim) != Dead {
				t.Errorf("%s believes the dead node %v", x.name, x.state(victim))
			}
		}

		var a, b []string
		for i, x := range rest {
			if i < 25 {
				a = append(a, x.name)
			} else {
				b = append(b, x.name)
			}
		}
		c.net.Split(a, b)
		time.Sleep(5 * time.Minute)
		if !together(rest[:25]) || !together(rest[25:]) {
			t.Error("the halves do not see that they are alone")
		}
		c.net.Heal()
		t.Logf("healed after %v", c.within(30*time.Second, "converge after a partition", func() bool { return together(rest) }))

		c.net.Up(victim.name)
		c.start(victim)
		t.Logf("back after %v", c.within(30*time.Second, "a node comes back", func() bool { return together(c.nodes) }))
	})
}

// On a line that loses packets one death in some hundred takes longer: 24 s was
// the longest of 4,500.
func TestDeathOfOneOfFew(t *testing.T) {
	for n := 2; n <= 7; n++ {
		for _, line := range []struct {
			loss  float64
			limit time.Duration
		}{{0, 20 * time.Second}, {0.01, 40 * time.Second}} {
			deathOfOne(t, n, line.loss, line.limit)
		}
	}
}

func deathOfOne(t *testing.T, n int, loss float64, limit time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, n)
		c.net.Slow(150*time.Millisecond, 0.2, loss)
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		for range 3 {
			time.Sleep(17 * time.Second)
			last := c.nodes[n-1]
			c.die(last)
			c.within(limit, "a death is known", func() bool { return together(c.nodes[:n-1]) })
			c.net.Up(last.name)
			c.start(last)
			c.within(30*time.Second, "and that it is back", func() bool { return together(c.nodes) })
		}
	})
}

func TestFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 5)
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		c.halt(c.nodes[4])
		c.within(3*time.Second, "a farewell is known", func() bool { return together(c.nodes[:4]) })
		time.Sleep(time.Second)
		for _, x := range c.nodes[:4] {
			if x.state(c.nodes[4]) != Gone || x.heardOf(Left, c.nodes[4]) != 1 || x.heardOf(Failed, c.nodes[4]) != 0 {
				t.Errorf("%s: %v, %v", x.name, x.state(c.nodes[4]), x.events)
			}
		}
	})
}

// Who is removed is gone within two seconds, though it lives and talks on, and
// is there again when it is a member again.
func TestRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 5)
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		bad := c.nodes[2]
		rest := []*node{c.nodes[0], c.nodes[1], c.nodes[3], c.nodes[4]}
		for _, x := range rest {
			x.SetMembers(c.members(bad))
		}
		c.within(2*time.Second, "it is gone", func() bool { return together(rest) })
		time.Sleep(2 * time.Minute)
		for _, x := range rest {
			if x.alive() != 3 || x.heardOf(Removed, bad) != 1 || x.heardOf(Joined, bad) != 1 {
				t.Errorf("%s: %d alive, removed %d times, joined %d times", x.name, x.alive(), x.heardOf(Removed, bad), x.heardOf(Joined, bad))
			}
			if x.Refused()[errStranger.Error()] == 0 {
				t.Error("nothing of it was refused")
			}
		}
		if bad.alive() != 0 {
			t.Errorf("somebody still answers it: %d", bad.alive())
		}
		for _, x := range rest {
			x.SetMembers(c.members())
		}
		c.within(30*time.Second, "it is back", func() bool { return together(c.nodes) })
	})
}

func TestMetaAndNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 5)
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		c.nodes[0].Publish(Meta{Version: "1.2.3", Size: 1 << 40, Free: 1<<39 + 12345, Feed: Place{1, 7}, Running: []string{"backup vm/101"}})
		want := Meta{Version: "1.2.3", Feed: Place{1, 7}}
		c.within(3*time.Minute, "the meta is known", func() bool {
			for _, x := range c.nodes[1:] {
				for _, p := range x.Peers() {
					if p.Node == c.nodes[0].name && (p.Meta.Version != want.Version || p.Meta.Feed != want.Feed) {
						return false
					}
				}
			}
			return true
		})
		const news = 12
		for range news {
			if err := c.nodes[1].Announce(NewsSnapshot, "", []byte("vm/101")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second) // what is sent together is missed together
		}
		for i, x := range c.nodes {
			least, most := news-2, news // each node passes news on to some others: one in a hundred does not reach a node
			if i == 1 {
				least, most = 0, 0
			}
			if n := x.heardOf(Announced, c.nodes[1]); n < least || n > most {
				t.Errorf("%s hears %d times, want %d to %d", x.name, n, least, most)
			}
		}
		if c.nodes[1].Announce(NewsHead, "", make([]byte, maxNews+1)) == nil {
			t.Error("news of any length is sent")
		}
	})
}

// Five idle nodes: what gossip costs one of them, with the headers of UDP,
// IPv6, WireGuard and the packet around it.
func TestIdleTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 5)
		c.net.Slow(40*time.Millisecond, 0.2, 0)
		c.within(30*time.Second, "converge", func() bool { return together(c.nodes) })
		for _, x := range c.nodes {
			x.Publish(Meta{Version: "1.2.3", Size: 1 << 40, Free: 1 << 39, Addrs: []string{"/ip4/203.0.113.1/udp/7443/quic-v1", "/ip4/192.168.1.2/udp/7443/quic-v1"}})
		}
		time.Sleep(time.Minute)
		const seconds = 600
		name := c.nodes[0].name
		bytes, messages := c.net.Traffic(name), c.net.Messages(name)
		time.Sleep(seconds * time.Second)
		bytes, messages = c.net.Traffic(name)-bytes, c.net.Messages(name)-messages
		const overhead = 48 + 32 + 28
		rate := float64(bytes+messages*overhead) / seconds
		t.Logf("%.0f bytes/s, %.1f messages/s", rate, float64(messages)/seconds)
		if rate > 1024 {
			t.Errorf("an idle node of five costs %.0f bytes/s", rate)
		}
	})
}

// nowhere is the network of a node that ends.
type nowhere struct{ network.Network }

var errNowhere = errors.New("bad local address")

func (nowhere) ListenPacket(uint16) (network.PacketConn, error) { return nil, errNowhere }
func (nowhere) Listen(uint16) (net.Listener, error)             { return nil, errNowhere }

// A node that is stopped as it starts ends well. (Its tunnel had ended before its
// gossip began, and the daemon told to stop ended with an error.)
func TestStoppedAsItStarts(t *testing.T) {
	g, err := New(Config{Self: "x", Key: ed25519.NewKeyFromSeed(make([]byte, 32)), Network: nowhere{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := g.Run(ctx); !errors.Is(err, errNowhere) {
		t.Errorf("while it should run: %v", err)
	}
	cancel()
	if err := g.Run(ctx); err != nil {
		t.Errorf("when it should end: %v", err)
	}
}
