package bind

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.zx2c4.com/wireguard/conn"

	"github.com/holdfast-mesh/holdfast/tunnel/probe"
)

const (
	// relayQueue bounds the packets that wait on either side of a stream. What
	// is too much is dropped: to wait would stop the packets of all peers.
	relayQueue = 512

	relayIdle   = time.Minute      // after which we close a stream that we opened
	relayPing   = time.Second      // between pings of a stream in use
	relayDead   = 5 * time.Second  // without an answer
	firstRetry  = time.Second      // after a stream could not be opened
	latestRetry = 10 * time.Second // the same, after many times
)

// relayState is what a peer knows of its streams; its mutex guards it.
type relayState struct {
	out     *stream // the one to send on: the newest
	opening bool
	next    time.Duration // of the next attempt to open one
	retry   time.Duration
	all     []*stream
}

// A relayed is a message of WireGuard that came over a stream.
type relayed struct {
	peer *Peer
	data *[]byte
}

var errReplaced = errors.New("relay stream: the tunnel closed it")

// A stream carries messages as 2 bytes of length and the message.
type stream struct {
	peer    *Peer
	conn    io.ReadWriteCloser
	mine    bool // we opened it
	queue   chan *[]byte
	packets *packetPool
	done    chan struct{}
	once    sync.Once

	used atomic.Int64 // time of the last message of WireGuard

	mu      sync.Mutex
	asked   uint64        // ID of the ping that is not answered yet; zero: none
	askedAt time.Duration // of the last ping
	rtt     time.Duration
}

// Serve carries packets from and to a node over a stream that the node opened,
// until either closes it or the bind does. The caller vouches for the node.
func (b *Bind) Serve(ctx context.Context, node NodeID, conn io.ReadWriteCloser) error {
	b.serving.Add(1)
	defer b.serving.Done()
	p := b.peers.Load().byID[node]
	if p == nil {
		conn.Close()
		return fmt.Errorf("tunnel: relay stream from %s: it is no peer", node)
	}
	return b.serve(ctx, p, conn, false)
}

func (b *Bind) serve(ctx context.Context, p *Peer, conn io.ReadWriteCloser, mine bool) error {
	s := &stream{peer: p, conn: conn, mine: mine, packets: &b.packets, queue: make(chan *[]byte, relayQueue), done: make(chan struct{})}
	now := b.now()
	s.used.Store(int64(now))
	if !p.enlist(s) {
		conn.Close()
		return fmt.Errorf("tunnel: relay stream of %s: there are %d already", p.id, maxStreams)
	}
	defer p.delist(s)
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	var g errgroup.Group
	g.Go(func() error {
		defer s.close()
		return s.write()
	})
	g.Go(func() error {
		defer s.close()
		return b.read(s)
	})
	b.pingRelay(s, now)
	b.call(p)
	b.unstick(p)
	err := g.Wait()
	if errors.Is(err, errReplaced) || ctx.Err() != nil || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

const maxStreams = 4 // of one peer: it may open one while we do, and again after a loss

// enlist makes s the stream to send on, unless the peer has too many.
func (p *Peer) enlist(s *stream) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.relay.all) >= maxStreams {
		return false
	}
	p.relay.all = append(p.relay.all, s)
	p.relay.out = s
	return true
}

func (p *Peer) delist(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left []*stream
	p.relay.out = nil
	for _, o := range p.relay.all {
		if o != s {
			left = append(left, o)
			p.relay.out = o
		}
	}
	p.relay.all = left
}

// hangUp closes all streams of p.
func (p *Peer) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.relay.all {
		s.close()
	}
}

func (s *stream) close() {
	s.once.Do(func() {
		close(s.done)
		if r, ok := s.conn.(interface{ Reset() error }); ok {
			r.Reset() // Close of a libp2p stream waits for the other end
		}
		s.conn.Close()
	})
}

// push queues a message, and reports false if it had to be dropped.
func (s *stream) push(m []byte) bool {
	buf := s.packets.get(m)
	select {
	case s.queue <- buf:
		return true
	default:
		s.packets.put(buf)
		return false
	}
}

func (s *stream) write() error {
	w := bufio.NewWriterSize(s.conn, 1<<16)
	for {
		var m *[]byte
		select {
		case m = <-s.queue:
		case <-s.done:
			return errReplaced
		}
		var length [2]byte
		binary.BigEndian.PutUint16(length[:], uint16(len(*m)))
		w.Write(length[:])
		w.Write(*m) // bufio keeps the error for Flush
		s.packets.put(m)
		if len(s.queue) == 0 {
			if err := w.Flush(); err != nil {
				return fmt.Errorf("send to %s over relay stream: %w", s.peer.id, err)
			}
		}
	}
}

func (b *Bind) read(s *stream) error {
	r := bufio.NewReaderSize(s.conn, 1<<16)
	scratch := make([]byte, probe.ScratchBytes)
	m := make([]byte, 0, 1<<16)
	for {
		var length [2]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return fmt.Errorf("receive from %s over relay stream: %w", s.peer.id, err)
		}
		m = m[:binary.BigEndian.Uint16(length[:])]
		if _, err := io.ReadFull(r, m); err != nil {
			return fmt.Errorf("receive from %s over relay stream: %w", s.peer.id, err)
		}
		switch {
		case isWireGuard(m):
			s.used.Store(int64(b.now()))
			b.passOn(relayed{s.peer, b.packets.get(m)})
		case probe.Is(m):
			b.handleProbe(m, scratch, netip.AddrPort{}, s)
		}
	}
}

// passOn queues a message for WireGuard, whose receiver may be waiting at the
// socket.
func (b *Bind) passOn(m relayed) {
	select {
	case b.relayed <- m:
	default:
		m.peer.relayDropped.Add(1)
		b.packets.put(m.data)
		return
	}
	if b.sleeping.CompareAndSwap(true, false) {
		if s := b.socket.Load(); s != nil {
			(*s).Wake()
		}
	}
}

// takeRelayed gives WireGuard what came over streams.
func (r *receiver) takeRelayed(id *Identity, bufs [][]byte, sizes []int, eps []conn.Endpoint) int {
	n := 0
	now := time.Duration(-1)
	for n < len(bufs) {
		select {
		case m := <-r.bind.relayed:
			if now < 0 {
				now = r.bind.now()
			}
			m.peer.relayReceivedBytes.Add(uint64(len(*m.data)))
			switch to := r.received(m.peer, *m.data, now, false); to {
			case nil:
			case id:
				sizes[n] = copy(bufs[n], *m.data)
				eps[n] = m.peer
				n++
			default:
				to.pass(m.peer, *m.data)
			}
			r.bind.packets.put(m.data)
		default:
			return n
		}
	}
	return n
}

// sendRelayed queues packets on the stream of p, and reports false if there is
// none.
func (b *Bind) sendRelayed(p *Peer, bufs [][]byte) bool {
	p.mu.Lock()
	s := p.relay.out
	p.mu.Unlock()
	if s == nil {
		return false
	}
	s.used.Store(int64(b.now()))
	for _, buf := range bufs {
		if s.push(buf) {
			p.relaySentBytes.Add(uint64(len(buf)))
		} else {
			p.relayDropped.Add(1)
		}
	}
	return true
}

// A packetPool keeps buffers for messages.
type packetPool struct{ pool sync.Pool }

func (p *packetPool) get(m []byte) *[]byte {
	buf, ok := p.pool.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	*buf = append((*buf)[:0], m...)
	return buf
}

func (p *packetPool) put(buf *[]byte) { p.pool.Put(buf) }
