package gossip

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/meshtest"
)

// A crowd is nodes on one network, in virtual time.
type crowd struct {
	t     *testing.T
	net   *meshtest.Network
	nodes []*node
}

type node struct {
	*Gossip
	name   string
	key    ed25519.PrivateKey
	told   sync.Mutex // protects events
	events []Event
	stop   context.CancelFunc
	done   chan error
}

func newCrowd(t *testing.T, n int) *crowd {
	t.Helper()
	c := &crowd{t: t, net: meshtest.New(uint64(n))}
	for i := range n {
		name := fmt.Sprintf("12D3KooWnode-%039d", i) // as long as a node ID
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, 32))
		c.nodes = append(c.nodes, &node{name: name, key: key})
	}
	for _, x := range c.nodes {
		c.start(x)
	}
	t.Cleanup(func() {
		for _, x := range c.nodes {
			c.halt(x)
		}
		time.Sleep(time.Minute) // memberlist's timers
	})
	return c
}

func (c *crowd) members(but ...*node) (all []Member) {
	for _, x := range c.nodes {
		if !slices.Contains(but, x) {
			all = append(all, Member{x.name, x.key.Public().(ed25519.PublicKey)})
		}
	}
	return all
}

func (c *crowd) start(x *node) {
	c.t.Helper()
	g, err := New(Config{Self: x.name, Key: x.key, Network: c.net.Node(x.name), Members: c.members()})
	if err != nil {
		c.t.Fatal(err)
	}
	x.Gossip = g
	g.Subscribe(func(e Event) {
		x.told.Lock()
		defer x.told.Unlock()
		x.events = append(x.events, e)
	})
	ctx, stop := context.WithCancel(context.Background())
	x.stop, x.done = stop, make(chan error, 1)
	go func() { x.done <- g.Run(ctx) }()
}

func (c *crowd) halt(x *node) {
	if x.stop != nil {
		x.stop()
		if err := <-x.done; err != nil {
			c.t.Errorf("%s: %v", x.name, err)
		}
		x.stop = nil
	}
}

// die is a power cut: the node says nothing more.
func (c *crowd) die(x *node) {
	c.net.Down(x.name)
	x.stop()
	<-x.done // with an error, since its network is gone
	x.stop = nil
}

// alive returns how many others x believes alive.
func (x *node) alive() (n int) {
	for _, p := range x.Peers() {
		if p.State == Alive {
			n++
		}
	}
	return n
}

func (x *node) state(of *node) State {
	for _, p := range x.Members() {
		if p.Node == of.name {
			return p.State
		}
	}
	return 99
}

// within waits until ok holds, and returns how long that took.
func (c *crowd) within(limit time.Duration, what string, ok func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > limit {
			c.t.Errorf("%s: not after %v", what, limit)
			return limit
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(began)
}

// together tells whether each of nodes sees all others of them.
func together(nodes []*node) bool {
	for _, x := range nodes {
		if x.alive() != len(nodes)-1 {
			return false
		}
	}
	return true
}

func (x *node) heardOf(kind EventKind, of *node) (n int) {
	x.told.Lock()
	defer x.told.Unlock()
	for _, e := range x.events {
		if e.Kind == kind && e.Node == of.name {
			n++
		}
	}
	return n
}
