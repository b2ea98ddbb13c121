package gossip

import (
	"bufio"
	"bytes"
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
	maxParts    = 1 << 7 // of a packet to which something is added
	// What a stream may promise and carry: 1,000 nodes of 1 KiB.
	maxStreamNodes = 1 << 10
	maxStreamBytes = 1 << 20
	maxSaid        = 256 // of whom something may be said in the log within a minute
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
	good, same := make([][]byte, 0, len(parts)), true
	for _, p := range parts {
		if p[0] != msgUser {
			continue
		}
		if left := g.noteFarewell(p[1:]); left != nil && len(parts) < maxParts { // before what else is in the packet is judged
			good, same = append(good, left), false
		}
	}
	for _, p := range parts {
		screened, err := g.screenMessage(from, p)
		if err != nil {
			_ = g.refused.note(err, from)
			same = false
			continue
		}
		same = same && bytes.Equal(p, screened)
		good = append(good, screened)
	}
	switch {
	case same:
		return append([]byte{}, b...)
	case len(good) == 1:
		return bytes.Clone(good[0]) // memberlist keeps it, and b is used again
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

// A probe asks whether a node is there.
type probe struct {
	Node       string
	SourceNode string
}

// screenMessage returns what memberlist may see of a message.
func (g *Gossip) screenMessage(from string, b []byte) ([]byte, error) {
	decode := func(v any) error {
		if codec.NewDecoderBytes(b[1:], &codec.MsgpackHandle{}).Decode(v) != nil {
			return errForm
		}
		return nil
	}
	switch b[0] {
	case msgAck, msgNack, msgUser:
		return b, nil
	case msgPing, msgIndirectPing:
		var p probe
		err := decode(&p)
		switch {
		case err != nil:
			return nil, err
		case p.SourceNode != from:
			return nil, errForeign
		case !g.Member(p.Node):
			return nil, errStranger
		}
		return b, nil
	case msgAlive:
		var l life
		if err := decode(&l); err != nil {
			return nil, err
		}
		return b, g.screenLife(from, l)
	case msgSuspect, msgDead:
		var a accusation
		if err := decode(&a); err != nil {
			return nil, err
		}
		verdict, err := g.screenAccusation(from, b[0] == msgDead, &a)
		if b[0] == msgDead && a.Node == g.cfg.Self {
			_ = g.refused.note(errDown, from)
		}
		switch {
		case err != nil:
			return nil, err
		case verdict == departed:
			return pack(msgDead, a), nil
		}
		return pack(msgSuspect, a), nil
	}
	return nil, errForm
}

// A stream is a connection whose head is looked at before memberlist reads it,
// and that carries no more than it may.
type stream struct {
	net.Conn
	refused func(error) error
	states  func(io.Reader) ([]byte, error) // what memberlist may see of a push
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
	return s.more(b)
}

// more reads what comes behind the head.
func (s *stream) more(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if s.total += n; s.total > maxStreamBytes {
		return 0, s.refused(errFlood)
	}
	return n, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// check reads the head of the stream and refuses it if it is none of ours, and
// all of a push.
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
		case known && s.head[0] == msgPushPull:
			all := io.MultiReader(bytes.NewReader(s.head[1:]), readerFunc(s.more))
			s.head, err = s.states(bufio.NewReader(all))
			return err
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
	var head pushHead
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

// refusals counts what was refused, and says so once a minute for each reason and node.
type refusals struct {
	log *slog.Logger

	mu   sync.Mutex
	n    map[string]uint64
	said map[said]time.Time
}

// said is of whom something was said in the log.
type said struct{ reason, node string }

// note counts err, and returns it.
func (r *refusals) note(err error, node string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	reason := errForm
	for _, known := range []error{errStranger, errForeign, errSignature, errFlood, errNews, errReach, errDown, errAhead, errLater} {
		if errors.Is(err, known) {
			reason = known
		}
	}
	r.n[reason.Error()]++
	about, now := said{reason.Error(), node}, time.Now()
	if len(r.said) > maxSaid {
		maps.DeleteFunc(r.said, func(_ said, at time.Time) bool { return now.Sub(at) >= time.Minute })
	}
	if now.Sub(r.said[about]) >= time.Minute && reason != errAhead && reason != errLater && len(r.said) <= maxSaid {
		r.said[about] = now
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

// hasLeft tells the same, and goes on telling it.
func (h *heard) hasLeft(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok := h.left[node]
	return ok && time.Since(at) < time.Minute
}

// returned is for a node that is there again.
func (h *heard) returned(node string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.left, node)
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
