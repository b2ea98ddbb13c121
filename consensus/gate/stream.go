package gate

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A Network connects nodes by name. The connections that a listener of it
// accepts are [Conn], as proof of who is at the other end.
type Network interface {
	Listen(service uint16) (net.Listener, error)
	Dial(ctx context.Context, node string, service uint16) (net.Conn, error)
}

// A Conn is a connection whose other end is authenticated.
type Conn interface {
	net.Conn
	RemoteNode() string
}

// A Stream is the network as raft sees it: connections that have passed the
// gate. It remembers all of them, since raft does not, so that they end with
// it or when their node is no longer welcome.
type Stream struct {
	net.Listener
	self    string
	network Network
	gate    *Gate
	service uint16
	log     *slog.Logger
	passed  chan net.Conn
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	tasks   sync.WaitGroup

	mu    sync.Mutex
	conns map[*Tracked]struct{}
}

// maxJudged bounds the connections that are being judged.
const maxJudged = 64

// Listen opens a service of a node, by its name, behind a gate.
func Listen(network Network, self string, service uint16, g *Gate, log *slog.Logger) (*Stream, error) {
	l, err := network.Listen(service)
	if err != nil {
		return nil, fmt.Errorf("listen for raft: %w", err)
	}
	s := &Stream{
		Listener: l, self: self, network: network, service: service, gate: g, log: log,
		passed: make(chan net.Conn), conns: map[*Tracked]struct{}{},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.tasks.Go(s.listen)
	return s, nil
}

func (s *Stream) listen() {
	slots := make(chan struct{}, maxJudged)
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
func (s *Stream) receive(conn net.Conn) {
	c, known := conn.(Conn)
	if !known {
		s.log.Error("a connection for raft has no authenticated node", "from", conn.RemoteAddr())
		conn.Close()
		return
	}
	t := s.Track(conn, c.RemoteNode(), s.gate.Roster.Voter)
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
func (s *Stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.passed:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Dial connects to a node, whose name is its address.
func (s *Stream) Dial(node raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	conn, err := s.network.Dial(ctx, string(node), s.service)
	if err != nil {
		return nil, err
	}
	t := s.Track(conn, string(node), s.gate.Roster.Member)
	err = s.gate.Dial(t)
	if s.Recheck(); err != nil {
		t.Close()
		return nil, fmt.Errorf("introduce this node to %s: %w", node, err)
	}
	return t, nil
}

// Close ends all connections and waits for whoever is being judged.
func (s *Stream) Close() error {
	s.stop()
	err := s.Listener.Close()
	s.closeIf(func(*Tracked) bool { return true })
	s.tasks.Wait()
	return err
}

// Recheck closes the connections of nodes that may not have them any more.
func (s *Stream) Recheck() {
	s.closeIf(func(t *Tracked) bool { return t.may(t.node) != nil })
}

func (s *Stream) closeIf(match func(*Tracked) bool) {
	s.mu.Lock()
	var all []*Tracked
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
func (s *Stream) Addr() net.Addr { return nodeAddr(s.self) }

type nodeAddr string

func (nodeAddr) Network() string  { return "holdfast" }
func (a nodeAddr) String() string { return string(a) }

// A Tracked connection is known to its stream until it is closed.
type Tracked struct {
	net.Conn
	node string
	may  func(node string) error // nil: have it
	s    *Stream
}

// Track begins to know a connection; one of a closed stream is closed at once.
func (s *Stream) Track(conn net.Conn, node string, may func(string) error) *Tracked {
	t := &Tracked{conn, node, may, s}
	s.mu.Lock()
	s.conns[t] = struct{}{}
	s.mu.Unlock()
	if s.ctx.Err() != nil {
		t.Close()
	}
	return t
}

func (t *Tracked) Close() error {
	t.s.mu.Lock()
	delete(t.s.conns, t)
	t.s.mu.Unlock()
	return t.Conn.Close()
}
