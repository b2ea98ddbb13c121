package consensus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/tail"
	"github.com/holdfast-mesh/holdfast/consensus/wire"
)

// What a member may ask of another on [ServiceLedger]: one request and one
// response, each a frame, on a connection of their own.
const (
	opSubmit = 1 // have a command applied
	opIndex  = 2 // a linear read
	opStats  = 3 // how far are you
	opAsk    = 4 // a question for [Config.Answer]
	opTail   = 6 // how does your log end
	opFollow = 5 // a stream, see package follow: no response, but updates until it ends

	opPassSubmit = 7 // opSubmit, for whoever does not lead to pass on
	opPassIndex  = 8 // opIndex, the same
)

type request struct {
	Op          uint8  `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint"`
	Command     []byte `cbor:"3,keyasint,omitempty"`
	Index       uint64 `cbor:"4,keyasint,omitempty"` // from which on
}

// The codes of a response.
const (
	codeDone      = 0
	codeNotLeader = 1 // and nothing was done
	codeUnknown   = 2 // it may have been done
	codeRefused   = 3
)

type response struct {
	Code  uint8      `cbor:"1,keyasint"`
	Text  string     `cbor:"2,keyasint,omitempty"`
	Index uint64     `cbor:"3,keyasint,omitempty"`
	Value []byte     `cbor:"4,keyasint,omitempty"`
	Stats *stats     `cbor:"5,keyasint,omitempty"`
	Tail  *tail.Tail `cbor:"6,keyasint,omitempty"`

	Passed bool `cbor:"7,keyasint,omitempty"` // the answer of who leads, passed on
}

// stats is what a leader has to know of a node to place voters.
type stats struct {
	Term     uint64 `cbor:"1,keyasint"`
	Last     uint64 `cbor:"2,keyasint"` // index of the newest entry of its log
	Applied  uint64 `cbor:"3,keyasint"`
	Version  string `cbor:"4,keyasint,omitempty"`
	Stopped  string `cbor:"5,keyasint,omitempty"` // why it does not take part
	LastTerm uint64 `cbor:"6,keyasint"`
}

const (
	requestTimeout = 5 * time.Second // to read a request, from its first byte on
	maxFrame       = 1 << 20
	atOnce         = 64 // connections that are being answered
)

// serve answers members until ctx is done.
func (g *Group) serve(ctx context.Context, l *life) error {
	listener, err := g.cfg.Network.Listen(ServiceLedger)
	if err != nil {
		return fmt.Errorf("consensus: listen for members: %w", err)
	}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	slots := make(chan struct{}, atOnce)
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			if conn != nil {
				conn.Close()
			}
			return ctx.Err()
		}
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		select {
		case slots <- struct{}{}:
			tasks.Go(func() {
				defer func() { <-slots }()
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				g.answer(ctx, l, conn)
			})
		default:
			conn.Close()
		}
	}
}

func (g *Group) answer(ctx context.Context, l *life, conn net.Conn) {
	c, known := conn.(Conn)
	if !known {
		g.cfg.Log.Error("a connection for the ledger has no authenticated node", "from", conn.RemoteAddr())
		return
	}
	if err := g.cfg.Roster.Member(c.RemoteNode()); err != nil {
		g.cfg.Log.Warn("a node was refused on the ledger port", "node", c.RemoteNode(), "err", err)
		return
	}
	defer l.stream.Track(conn, c.RemoteNode(), g.cfg.Roster.Member).Close()
	var req request
	if err := errors.Join(conn.SetReadDeadline(time.Now().Add(requestTimeout)), wire.Read(conn, &req, maxFrame)); err != nil {
		return
	}
	if req.Op == opFollow && l.Raft != nil && req.Incarnation == l.gate.Incarnation {
		err := g.lead(ctx, l, c.RemoteNode(), req.Index, conn)
		g.cfg.Log.Debug("a node does not follow this one any more", "node", c.RemoteNode(), "err", err)
		return
	}
	err := errors.Join(conn.SetWriteDeadline(time.Now().Add(g.cfg.Profile.Forward)), wire.Write(conn, g.do(ctx, l, c.RemoteNode(), req), maxFrame))
	if err != nil {
		g.cfg.Log.Debug("a node did not wait for its answer", "node", c.RemoteNode(), "err", err)
	}
}

func (g *Group) do(ctx context.Context, l *life, node string, req request) response {
	switch req.Op {
	case opStats:
		return response{Stats: l.stats(g.cfg.Version)}
	case opTail:
		return response{Tail: l.tail()}
	}
	if l.Raft == nil {
		return response{Code: codeNotLeader, Text: errAwaits.Error()}
	}
	if req.Op == opAsk {
		value, err := g.reply(ctx, node, req.Command)
		return respond(Result{Value: value}, err)
	}
	if req.Incarnation != l.gate.Incarnation {
		return response{Code: codeRefused, Text: fmt.Sprintf("you are in incarnation %d of the cluster, this node is in %d", req.Incarnation, l.gate.Incarnation)}
	}
	switch req.Op {
	case opPassSubmit, opPassIndex:
		return g.pass(ctx, l, req)
	case opSubmit:
		if len(req.Command) > maxCommand {
			return response{Code: codeRefused, Text: "the command is too long"}
		}
		r, err := g.apply(ctx, l, req.Command)
		return respond(r, err)
	case opIndex:
		index, err := g.confirm(ctx, l)
		return respond(Result{Index: index}, err)
	}
	return response{Code: codeRefused, Text: fmt.Sprintf("a request of the kind %d is not known here", req.Op)}
}

// reply answers a question of a node, which may be this one.
func (g *Group) reply(ctx context.Context, node string, question []byte) ([]byte, error) {
	if g.cfg.Answer == nil {
		return nil, fmt.Errorf("%w: this node answers no questions", ErrRefused)
	}
	value, err := g.cfg.Answer(ctx, node, question)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return value, err
}

// Ask puts a question to a node's [Config.Answer]; "" is whoever leads, which
// may be this node, and is an error if nobody is known to. It asks once. The
// name that it returns is who answered.
func (g *Group) Ask(ctx context.Context, node string, question []byte) (answer []byte, by string, err error) {
	if by = node; by == "" {
		by = g.Status().Leader
	}
	switch by {
	case "":
		return nil, "", noLeader("none is known")
	case g.cfg.Self:
		answer, err = g.reply(ctx, by, question)
		return answer, by, err
	}
	r, err := g.ask(ctx, by, request{Op: opAsk, Command: question})
	return r.Value, by, err
}

func respond(r Result, err error) response {
	switch {
	case err == nil:
		return response{Index: r.Index, Value: r.Value}
	case errors.Is(err, ErrRefused):
		return response{Code: codeRefused, Text: fmt.Sprintf("%.500s", err.Error())}
	case errors.Is(err, errNotLeader):
		return response{Code: codeNotLeader, Text: fmt.Sprintf("%.500s", err.Error())}
	}
	return response{Code: codeUnknown, Text: fmt.Sprintf("%.500s", err.Error())}
}

// ask sends one request to a node. Nothing was done there if the error is
// errNotLeader.
func (g *Group) ask(ctx context.Context, node string, req request) (response, error) {
	if l := g.life.Load(); l != nil {
		req.Incarnation = l.gate.Incarnation
	}
	conn, err := g.cfg.Network.Dial(ctx, node, ServiceLedger)
	if err != nil {
		return response{}, fmt.Errorf("%w: connect to %s: %w", errNotLeader, node, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := wire.Write(conn, req, maxFrame); err != nil {
		return response{}, unknown(fmt.Errorf("ask %s: %w", node, err))
	}
	var r response
	if err := wire.Read(conn, &r, maxFrame); err != nil {
		return response{}, unknown(fmt.Errorf("hear from %s: %w", node, err))
	}
	switch r.Code {
	case codeDone:
		return r, nil
	case codeNotLeader:
		return r, fmt.Errorf("%w: %s: %s", errNotLeader, node, r.Text)
	case codeRefused:
		return r, fmt.Errorf("%w by %s: %s", ErrRefused, node, r.Text)
	}
	return r, unknown(fmt.Errorf("%s says: %s", node, r.Text))
}

func (l *life) stats(version string) *stats {
	applied, _, halted := l.fsm.progress()
	t := l.end()
	s := &stats{Term: t.Term, Last: t.Index, Applied: applied, Version: version, LastTerm: t.Term}
	if l.Raft == nil {
		halted = errAwaits
	} else {
		s.Term = l.CurrentTerm()
	}
	if halted != nil {
		s.Stopped = halted.Error()
	}
	return s
}
