// Package meshtest is a network in memory for nodes that live in one process
// and in virtual time: with delay, loss, cuts in one direction or both, and
// nodes that die. Everything waits in ways that testing/synctest understands,
// and all chances come from a seed.
package meshtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// A Network connects nodes by name.
type Network struct {
	mu        sync.Mutex
	rng       *rand.Rand
	listeners map[key]*listener
	conns     map[*conn]struct{}
	cut       map[[2]string]bool // from, to
	rtt       time.Duration
	jitter    float64 // of the delay, as a share
	loss      float64 // of messages, which then come a timeout later
	traffic   map[string]int64
	messages  map[string]int64
	packets   map[key]*packetConn
	down      map[string]bool
}

type key struct {
	node    string
	service uint16
}

// New returns a network without delay whose chances come from seed.
func New(seed uint64) *Network {
	return &Network{
		rng: rand.New(rand.NewPCG(seed, 1)), listeners: map[key]*listener{},
		conns: map[*conn]struct{}{}, cut: map[[2]string]bool{}, traffic: map[string]int64{},
		messages: map[string]int64{}, packets: map[key]*packetConn{}, down: map[string]bool{},
	}
}

// Traffic returns how many bytes a node has sent and received.
func (n *Network) Traffic(node string) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.traffic[node]
}

// Messages returns how many packets and writes to streams a node has sent and
// received: what headers are to be added for.
func (n *Network) Messages(node string) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.messages[node]
}

// Slow sets the round trip, by how much of itself it grows at most, and the
// share of messages that have to be sent again.
func (n *Network) Slow(rtt time.Duration, jitter, loss float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rtt, n.jitter, n.loss = rtt, jitter, loss
}

// Cut stops what goes from one node to another, until [Network.Heal].
func (n *Network) Cut(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{from, to}] = true
}

// Split cuts every connection between the nodes of a and the others.
func (n *Network) Split(a []string, others []string) {
	for _, x := range a {
		for _, y := range others {
			n.Cut(x, y)
			n.Cut(y, x)
		}
	}
}

// Heal ends every cut.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

// Down is the death of a node: what it has open ends, and nothing comes from it
// or to it until [Network.Up].
func (n *Network) Down(node string) {
	n.mu.Lock()
	n.down[node] = true
	n.mu.Unlock()
	n.Drop(node)
}

// Up ends [Network.Down]. The node has to listen and dial again.
func (n *Network) Up(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.down, node)
}

// Drop ends every connection and listener of a node, as its death does.
func (n *Network) Drop(node string) {
	n.mu.Lock()
	var conns []*conn
	for c := range n.conns {
		if c.local == node || c.remote == node {
			conns = append(conns, c)
		}
	}
	var listeners []*listener
	for k, l := range n.listeners {
		if k.node == node {
			listeners = append(listeners, l)
		}
	}
	var packets []*packetConn
	for k, c := range n.packets {
		if k.node == node {
			packets = append(packets, c)
		}
	}
	n.mu.Unlock()
	for _, c := range packets {
		c.Close()
	}
	for _, c := range conns {
		c.Close()
	}
	for _, l := range listeners {
		l.Close()
	}
}

// Node returns the network as one node sees it.
func (n *Network) Node(name string) *Node { return &Node{n, name} }

// A Node is one place in a [Network].
type Node struct {
	n    *Network
	name string
}

func (n *Network) isCut(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.isCutLocked(from, to)
}

func (n *Network) isCutLocked(from, to string) bool {
	return n.cut[[2]string{from, to}] || n.down[from] || n.down[to]
}

// send returns how long a message of some bytes takes.
func (n *Network) send(from, to string, bytes int) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.traffic[from] += int64(bytes)
	n.traffic[to] += int64(bytes)
	n.messages[from]++
	n.messages[to]++
	return n.delay()
}

// delay returns how long one message takes.
func (n *Network) delay() time.Duration {
	d := time.Duration(float64(n.rtt) / 2 * (1 + n.jitter*n.rng.Float64()))
	for again := n.rtt + 200*time.Millisecond; n.rng.Float64() < n.loss; again *= 2 {
		d += again
	}
	return d
}

// Listen takes connections to a service of this node.
func (p *Node) Listen(service uint16) (net.Listener, error) {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	k := key{p.name, service}
	if p.n.listeners[k] != nil {
		return nil, fmt.Errorf("%s listens on %d already", p.name, service)
	}
	l := &listener{n: p.n, key: k, accept: make(chan *conn), done: make(chan struct{})}
	p.n.listeners[k] = l
	return l, nil
}

// Dial connects to a service of another node.
func (p *Node) Dial(ctx context.Context, node string, service uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if p.n.isCut(p.name, node) || p.n.isCut(node, p.name) {
		<-ctx.Done()
		return nil, fmt.Errorf("connect to %s: %w", node, os.ErrDeadlineExceeded)
	}
	select {
	case <-time.After(2 * p.n.send(p.name, node, 0)):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.n.mu.Lock()
	l := p.n.listeners[key{node, service}]
	p.n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("connect to %s: connection refused", node)
	}
	a, b := newConns(p.n, p.name, node)
	select {
	case l.accept <- b:
		return a, nil
	case <-l.done:
	case <-ctx.Done():
	}
	a.Close()
	b.Close()
	return nil, fmt.Errorf("connect to %s: connection refused", node)
}

type listener struct {
	n      *Network
	key    key
	accept chan *conn
	done   chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.n.mu.Lock()
		defer l.n.mu.Unlock()
		if l.n.listeners[l.key] == l {
			delete(l.n.listeners, l.key)
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.key.node) }

type addr string

func (addr) Network() string  { return "memory" }
func (a addr) String() string { return string(a) }

var errReset = errors.New("connection reset")

// Peer returns the same network as another node sees it.
func (p *Node) Peer(name string) *Node { return p.n.Node(name) }
