package gossip

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/holdfast-mesh/holdfast/mesh/network"
)

// maxStreams is how many streams of one node are served at the same time.
const maxStreams = 4

// A transport is the network of the mesh as memberlist sees it. Nodes have
// names there; the addresses that memberlist also wants are made up from them.
type transport struct {
	g        *Gossip
	packets  network.PacketConn
	listener net.Listener
	in       chan *memberlist.Packet
	streams  chan net.Conn
	life     context.Context
	end      context.CancelFunc
	broken   chan error
	done     sync.WaitGroup

	mu   sync.Mutex
	open map[string]map[*stream]struct{} // by node
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// newTransport listens for gossip. The transport lives until Shutdown.
func newTransport(ctx context.Context, g *Gossip) (*transport, error) {
	packets, err := g.cfg.Network.ListenPacket(network.ServiceGossip)
	if err != nil {
		return nil, err
	}
	listener, err := g.cfg.Network.Listen(network.ServiceGossip)
	if err != nil {
		return nil, errors.Join(err, packets.Close())
	}
	t := &transport{
		g: g, packets: packets, listener: listener, broken: make(chan error, 2),
		in: make(chan *memberlist.Packet), streams: make(chan net.Conn), open: map[string]map[*stream]struct{}{},
	}
	t.life, t.end = context.WithCancel(ctx)
	t.done.Go(func() { t.broken <- t.receive() })
	t.done.Go(func() { t.broken <- t.accept() })
	return t, nil
}

// failed waits until ctx ends or the network fails.
func (t *transport) failed(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-t.broken:
		if ctx.Err() != nil {
			return nil // it ends with the rest
		}
		return fmt.Errorf("gossip: the network failed: %w", err)
	}
}

// address is what memberlist takes for the address of a node.
func address(node string) net.IP {
	sum := sha256.Sum256([]byte("holdfast/gossip-address\x00" + node))
	return append(net.IP{0xfd}, sum[:15]...)
}

type addr string

func (addr) Network() string  { return "holdfast" }
func (a addr) String() string { return string(a) }

// receive hands screened packets to memberlist.
func (t *transport) receive() error {
	buf := make([]byte, 64<<10)
	for {
		n, node, err := t.packets.ReadFrom(buf)
		if err != nil {
			return err
		}
		if b := t.g.screen(node, buf[:n]); b != nil {
			t.g.heard.note(node)
			select {
			case t.in <- &memberlist.Packet{Buf: b, From: addr(joinAddress(node)), Timestamp: time.Now()}:
			case <-t.life.Done():
				return net.ErrClosed
			}
		}
	}
}

// accept hands streams of members to memberlist.
func (t *transport) accept() error {
	for {
		c, err := t.listener.Accept()
		if err != nil {
			return err
		}
		node := network.RemoteNode(c)
		if !t.g.Member(node) {
			_ = t.g.refused.note(errStranger, node)
			c.Close()
			continue
		}
		s, ok := t.track(node, c, maxStreams)
		if !ok {
			_ = t.g.refused.note(errFlood, node)
			continue
		}
		t.g.heard.note(node)
		select {
		case t.streams <- s:
		case <-t.life.Done():
			s.Close()
			return net.ErrClosed
		}
	}
}

// track makes c a stream that ends when node is no member any more.
func (t *transport) track(node string, c net.Conn, limit int) (*stream, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.open[node]
	if len(all) >= limit || t.life.Err() != nil {
		c.Close()
		return nil, false
	}
	if all == nil {
		all = map[*stream]struct{}{}
		t.open[node] = all
	}
	s := &stream{Conn: c, refused: func(err error) error { return t.g.refused.note(err, node) }}
	s.states = func(r io.Reader) ([]byte, error) { return t.g.screenPush(node, r) }
	s.closed = func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if delete(all, s); len(all) == 0 && len(t.open[node]) == 0 {
			delete(t.open, node)
		}
	}
	all[s] = struct{}{}
	return s, true
}

// hangUp ends the streams with a node.
func (t *transport) hangUp(node string) {
	t.mu.Lock()
	var all []*stream
	for s := range t.open[node] {
		all = append(all, s)
	}
	t.mu.Unlock()
	for _, s := range all {
		s.Close()
	}
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return address(t.g.cfg.Self), network.ServiceGossip, nil
}

// WriteToAddress sends a packet; to who is no member it goes nowhere, and so
// memberlist finds out that the node is dead.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	now := time.Now()
	if !t.g.Member(to.Name) {
		return now, nil
	}
	return now, t.packets.WriteTo(b, to.Name)
}

func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if !t.g.Member(to.Name) {
		return nil, fmt.Errorf("call %q: %w", to.Name, errStranger)
	}
	ctx, cancel := context.WithTimeout(t.life, timeout)
	defer cancel()
	c, err := t.g.cfg.Network.Dial(ctx, to.Name, network.ServiceGossip)
	if err != nil {
		return nil, err
	}
	s, ok := t.track(to.Name, c, 4*maxStreams)
	if !ok {
		return nil, fmt.Errorf("call %q: too many calls", to.Name)
	}
	return s, nil
}

// What is not addressed to a node by name is never sent.
var errNoName = errors.New("an address without the name of a node")

func (t *transport) WriteTo([]byte, string) (time.Time, error) { return time.Now(), errNoName }
func (t *transport) DialTimeout(string, time.Duration) (net.Conn, error) {
	return nil, errNoName
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.in }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

// Shutdown ends everything and waits for it.
func (t *transport) Shutdown() error {
	t.end()
	err := errors.Join(t.packets.Close(), t.listener.Close())
	t.mu.Lock()
	nodes := make([]string, 0, len(t.open))
	for node := range t.open {
		nodes = append(nodes, node)
	}
	t.mu.Unlock()
	for _, node := range nodes {
		t.hangUp(node)
	}
	t.done.Wait()
	return err
}
