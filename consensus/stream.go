package consensus

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast-mesh/holdfast/consensus/gate"
)

// A stream is the network as raft sees it: connections that have passed the
// gate. It remembers all of them, since raft does not, so that they end with
// it or when their node is no longer welcome.
type stream struct {
	net.Listener
	self    string
	network Network
	gate    *gate.Gate
	log     *slog.Logger
	passed  chan net.Conn
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	tasks   sync.WaitGroup

	mu    sync.Mutex
	conns map[*tracked]struct{}
}

// atOnce bounds the connections that are being judged.
const atOnce = 64

func newStream(cfg Config, g *gate.Gate) (*stream, error) {
	l, err := cfg.Network.Listen(ServiceRaft)
	if err != nil {
		return nil, fmt.Errorf("listen for raft: %w", err)
	}
	s := &stream{
		Listener: l, self: cfg.Self, network: cfg.Network, gate: g, log: cfg.Log,
		passed: make(chan net.Conn), conns: map[*tracked]struct{}{},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.tasks.Go(s.listen)
	return s, nil
}

func (s *stream) listen() {
	slots := make(chan struct{}, atOnce)
	for {
		conn, err := s.Listener.Accept()
		if err != nil {
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
				continue
			}
		}
		select {
		case slots <- struct{}{}:
			s.tasks.Go(func() {
				s.receive(conn)
				<-slots
			})
		default: // a flood; who is honest comes again
			conn.Close()
		}
	}
}

// receive judges one connection and hands it to raft, or closes it.
func (s *stream) receive(conn net.Conn) {
	c, known := conn.(Conn)
	if !known {
		s.log.Error("a connection for raft has no authenticated node", "from", conn.RemoteAddr())
		conn.Close()
		return
	}
	t := s.track(conn, c.RemoteNode(), s.gate.Roster.Voter)
	err := s.gate.Accept(t, t.node)
	if s.Recheck(); err != nil { // it may have shown more of the chain
		s.log.Warn("a node was refused on the raft port", "node", t.node, "err", err)
		t.Close()
		return
	}
	select {
	case s.passed <- t:
	case <-s.ctx.Done():
		t.Close()
	}
}

// Accept returns the next connection that has passed the gate.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.passed:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Dial connects to a node, whose name is its address.
func (s *stream) Dial(node raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	conn, err := s.network.Dial(ctx, string(node), ServiceRaft)
	if err != nil {
		return nil, err
	}
	t := s.track(conn, string(node), s.gate.Roster.Member)
	err = s.gate.Dial(t)
	if s.Recheck(); err != nil {
		t.Close()
		return nil, fmt.Errorf("introduce this node to %s: %w", node, err)
	}
	return t, nil
}

// Close ends all connections and waits for whoever is being judged.
func (s *stream) Close() error {
	s.stop()
	err := s.Listener.Close()
	s.closeIf(func(*tracked) bool { return true })
	s.tasks.Wait()
	return err
}

// Recheck closes the connections of nodes that may not have them any more.
func (s *stream) Recheck() {
	s.closeIf(func(t *tracked) bool { return t.may(t.node) != nil })
}

func (s *stream) closeIf(match func(*tracked) bool) {
	s.mu.Lock()
	var all []*tracked
	for t := range s.conns {
		if match(t) {
			all = append(all, t)
		}
	}
	s.mu.Unlock()
	for _, t := range all {
		t.Close()
	}
}

// Addr is the name of this node.
func (s *stream) Addr() net.Addr { return nodeAddr(s.self) }

type nodeAddr string

func (nodeAddr) Network() string  { return "holdfast" }
func (a nodeAddr) String() string { return string(a) }

// A tracked connection is known to its stream until it is closed.
type tracked struct {
	net.Conn
	node string
	may  func(node string) error // nil: have it
	s    *stream
}

// track begins to know a connection; one of a closed stream is closed at once.
func (s *stream) track(conn net.Conn, node string, may func(string) error) *tracked {
	t := &tracked{conn, node, may, s}
	s.mu.Lock()
	s.conns[t] = struct{}{}
	s.mu.Unlock()
	if s.ctx.Err() != nil {
		t.Close()
	}
	return t
}

func (t *tracked) Close() error {
	t.s.mu.Lock()
	delete(t.s.conns, t)
	t.s.mu.Unlock()
	return t.Conn.Close()
}

// Recheck closes the connections of nodes that the roster does not let have them
// any more. It is called by itself after every command, and when a node has shown
// a longer chain; call it when the roster changed in another way.
func (g *Group) Recheck() {
	if l := g.life.Load(); l != nil {
		l.stream.Recheck()
	}
}
