package gossip

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// The types of memberlist's messages, which are their first byte.
const (
	msgPing         = 0
	msgIndirectPing = 1
	msgAck          = 2
	msgSuspect      = 3
	msgAlive        = 4
	msgDead         = 5
	msgPushPull     = 6
	msgCompound     = 7
	msgUser         = 8
	msgNack         = 11
	msgChecked      = 12 // four bytes of checksum, and another
	msgError        = 13
)

const (
	checkedHead = 5
	// What a stream may promise and carry: 1,000 nodes of 1 KiB.
	maxStreamNodes = 1 << 10
	maxStreamBytes = 1 << 20
	streamHead     = 256 // more than the head of a push/pull takes
)

var (
	errForm  = errors.New("not a message that a node sends")
	errFlood = errors.New("too much at the same time")
)

// screen returns what of a packet memberlist may see: nothing of a stranger's,
// and else the messages that are in a form that we send ourselves, and that
// name members. What a message says of the sender must be true.
func (g *Gossip) screen(from string, b []byte) []byte {
	if !g.Member(from) || from == g.cfg.Self {
		_ = g.refused.note(errStranger, from)
		return nil
	}
	inner := b
	if len(b) > checkedHead && b[0] == msgChecked {
		inner = b[checkedHead:]
	}
	parts, err := split(inner)
	if err != nil {
		_ = g.refused.note(err, from)
		return nil
	}
	good := make([][]byte, 0, len(parts))
	for _, p := range parts {
		if err := g.screenMessage(from, p); err != nil {
			_ = g.refused.note(err, from)
			continue
		}
		good = append(good, p)
	}
	if len(good) == len(parts) {
		return append([]byte{}, b...)
	}
	return join(good)
}

// split returns the messages of a packet.
func split(b []byte) ([][]byte, error) {
	if len(b) == 0 {
		return nil, errForm
	}
	if b[0] != msgCompound {
		return [][]byte{b}, nil
	}
	if len(b) < 2 || len(b) < 2+2*int(b[1]) {
		return nil, errForm
	}
	n := int(b[1])
	lengths, rest := b[2:], b[2+2*n:]
	parts := make([][]byte, n)
	for i := range parts {
		size := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if size == 0 || size > len(rest) {
			return nil, errForm
		}
		parts[i], rest = rest[:size], rest[size:]
	}
	if len(rest) > 0 {
		return nil, errForm
	}
	return parts, nil
}

// join makes a packet of messages, nil of none.
func join(parts [][]byte) []byte {
	if len(parts) == 0 {
		return nil
	}
	b := []byte{msgCompound, byte(len(parts))}
	for _, p := range parts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// names are the fields of memberlist's messages that name nodes.
type names struct {
	Node       string
	From       string
	SourceNode string
}

func (g *Gossip) screenMessage(from string, b []byte) error {
	if b[0] == msgAck || b[0] == msgNack || b[0] == msgUser {
		return nil
	}
	var n names
	if err := codec.NewDecoderBytes(b[1:], &codec.MsgpackHandle{}).Decode(&n); err != nil {
		return errForm
	}
	switch b[0] {
	case msgPing, msgIndirectPing:
		if n.SourceNode != from {
			return errForeign
		}
		if !g.Member(n.Node) {
			return errStranger
		}
	case msgAlive:
		if !g.Member(n.Node) {
			return errStranger
		}
	case msgSuspect, msgDead:
		if !g.Member(n.Node) || !g.Member(n.From) {
			return errStranger
		}
		if b[0] == msgDead && n.Node == n.From {
			g.heard.farewell(n.Node)
		}
	default:
		return errForm
	}
	return nil
}

// A stream is a connection whose head is looked at before memberlist reads it,
// and that carries no more than it may.
type stream struct {
	net.Conn
	refused func(error) error
	closed  func()
	once    sync.Once

	head    []byte // read and not passed on
	checked bool
	total   int
}

func (s *stream) Read(b []byte) (int, error) {
	if !s.checked {
		if err := s.check(); err != nil {
			return 0, err
		}
		s.checked = true
	}
	if len(s.head) > 0 {
		n := copy(b, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	n, err := s.Conn.Read(b)
	if s.total += n; s.total > maxStreamBytes {
		return 0, s.refused(errFlood)
	}
	return n, err
}

// check reads the head of the stream and refuses it if it is none of ours.
func (s *stream) check() error {
	s.head = make([]byte, 0, streamHead)
	for {
		n, err := s.Conn.Read(s.head[len(s.head):cap(s.head)])
		s.head = s.head[:len(s.head)+n]
		s.total += n
		known, bad := screenHead(s.head)
		switch {
		case bad != nil:
			return s.refused(bad)
		case known:
			return nil
		case err != nil:
			return err
		case len(s.head) == cap(s.head):
			return s.refused(errForm)
		}
	}
}

// screenHead judges the first bytes of a stream; known says that there are
// enough of them.
func screenHead(b []byte) (known bool, err error) {
	if len(b) == 0 {
		return false, nil
	}
	switch b[0] {
	case msgPing, msgAck, msgError:
		return true, nil
	case msgPushPull:
	default:
		return true, errForm
	}
	var head struct {
		Nodes        int
		UserStateLen int
		Join         bool
	}
	err = codec.NewDecoderBytes(b[1:], &codec.MsgpackHandle{}).Decode(&head)
	switch {
	case err != nil && len(b) < streamHead:
		return false, nil
	case err != nil:
		return true, errForm
	case head.Nodes < 0 || head.Nodes > maxStreamNodes || head.UserStateLen != 0:
		return true, errFlood
	}
	return true, nil
}

func (s *stream) Close() error {
	s.once.Do(s.closed)
	return s.Conn.Close()
}

// RemoteNode returns who is at the other end.
func (s *stream) RemoteNode() string {
	c, _ := s.Conn.(interface{ RemoteNode() string })
	if c == nil {
		return ""
	}
	return c.RemoteNode()
}

var _ io.ReadWriteCloser = (*stream)(nil)

// refusals counts what was refused, and says so once a minute for each reason.
type refusals struct {
	log *slog.Logger

	mu   sync.Mutex
	n    map[string]uint64
	said map[string]time.Time
}

// note counts err, and returns it.
func (r *refusals) note(err error, node string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	reason := errForm
	for _, known := range []error{errStranger, errForeign, errSignature, errFlood, errNews} {
		if errors.Is(err, known) {
			reason = known
		}
	}
	r.n[reason.Error()]++
	if now := time.Now(); now.Sub(r.said[reason.Error()]) >= time.Minute {
		r.said[reason.Error()] = now
		r.log.Warn("gossip was refused", "node", node, "reason", reason, "times", r.n[reason.Error()])
	}
	return err
}

func (r *refusals) all() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.n)
}

// heard is when something came from each node itself, and who said farewell.
type heard struct {
	mu   sync.Mutex
	last map[string]time.Time
	left map[string]time.Time
}

func newHeard() *heard { return &heard{last: map[string]time.Time{}, left: map[string]time.Time{}} }

func (h *heard) note(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last[node] = time.Now()
}

func (h *heard) when(node string) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last[node]
}

func (h *heard) farewell(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left[node] = time.Now()
}

// saidFarewell tells whether node has just said that it leaves.
func (h *heard) saidFarewell(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok := h.left[node]
	delete(h.left, node)
	return ok && time.Since(at) < time.Minute
}

func (h *heard) forget(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.last, node)
	delete(h.left, node)
}
