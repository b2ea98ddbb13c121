package join

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/holdfast-mesh/holdfast/mesh/frame"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/mesh/record"
)

// An Admission is a request to join that a member has checked as far as it can
// by itself: it is made now, to this member, and signed by the machine.
// Whether the token allows it, the cluster decides.
type Admission struct {
	Token     [8]byte
	Joiner    record.Key
	Statement []byte        // see [invite.Statement]
	Seed      [64]byte      // signature of it by the seed of the token, not checked yet
	Node      [64]byte      // and by the machine, checked
	Record    record.Signed // checked
}

// Admitted is what a machine is told that was let in.
type Admitted struct {
	Pending bool            // an operator has yet to approve it
	Links   [][]byte        // the authority chain
	Records []record.Signed // of the members
}

// An Admitter is the cluster. Errors that are an [*Error] are told to the
// machine; of others it learns only that it was refused.
type Admitter interface {
	// Greet returns the authority chain for a machine that names a token, or
	// says why the token is of no use, as far as this member knows.
	Greet(ctx context.Context, token [8]byte) (links [][]byte, err error)

	// Admit consumes the token and adds the machine, in one entry of the
	// ledger, wherever the leader is. The same machine again, with the same
	// record, is told the same.
	Admit(ctx context.Context, a Admission) (Admitted, error)
}

// ServerConfig says what a [Server] is.
type ServerConfig struct {
	Key      ed25519.PrivateKey // of this member; required
	Cluster  [16]byte           // required
	Admitter Admitter           // required

	AtOnce    int // streams at a time; default 8
	PerMinute int // streams a minute, from all; default 60
	PerSource int // streams a minute, from one address; default 10
	Now       func() time.Time
	Log       *slog.Logger
}

// A Server is the member's side. It has no goroutines of its own.
type Server struct {
	cfg  ServerConfig
	self record.Key
	room chan struct{}
	all  *rate.Limiter

	mu      sync.Mutex
	sources map[netip.Prefix]*rate.Limiter
}

// maxSources is how many addresses are remembered; a flood from more than that
// meets the limit for all.
const maxSources = 1024

// NewServer returns a Server.
func NewServer(cfg ServerConfig) (*Server, error) {
	if len(cfg.Key) != ed25519.PrivateKeySize || cfg.Cluster == [16]byte{} || cfg.Admitter == nil {
		return nil, errors.New("join: a server needs a key, a cluster and an admitter")
	}
	defaults := func(n *int, to int) {
		if *n == 0 {
			*n = to
		}
	}
	defaults(&cfg.AtOnce, 8)
	defaults(&cfg.PerMinute, 60)
	defaults(&cfg.PerSource, 10)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		cfg: cfg, self: record.KeyOf(cfg.Key), room: make(chan struct{}, cfg.AtOnce),
		all: perMinute(cfg.PerMinute), sources: map[netip.Prefix]*rate.Limiter{},
	}, nil
}

func perMinute(n int) *rate.Limiter {
	return rate.NewLimiter(rate.Every(time.Minute/time.Duration(n)), n)
}

// allow counts a stream from an address, against one that asks too often and
// against a flood from many.
func (s *Server) allow(from netip.Addr) bool {
	bits := 32
	if from.Is6() {
		bits = 56
	}
	now := s.cfg.Now()
	if source, err := from.Prefix(bits); err == nil {
		s.mu.Lock()
		one := s.sources[source]
		if one == nil {
			if len(s.sources) >= maxSources {
				clear(s.sources)
			}
			one = perMinute(s.cfg.PerSource)
			s.sources[source] = one
		}
		s.mu.Unlock()
		if !one.AllowN(now, 1) {
			return false
		}
	}
	return s.all.AllowN(now, 1)
}

// Serve answers a machine that opened a stream and that the connection proved
// to be node; from is where it is, if that is known, and seen the address to
// tell it that we see it at.
func (s *Server) Serve(ctx context.Context, node string, from netip.Addr, seen string, conn Stream) error {
	joiner, err := record.ParseNodeID(node)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := s.serve(ctx, joiner, from, seen, conn); err != nil {
		s.cfg.Log.Warn("a machine could not join", "node", node, "from", from, "err", err)
		return fmt.Errorf("join of %s: %w", node, err)
	}
	return nil
}

func (s *Server) serve(ctx context.Context, joiner record.Key, from netip.Addr, seen string, conn Stream) error {
	conn.SetDeadline(time.Now().Add(helloTime))
	var h hello
	if err := frame.Read(conn, maxSmall, &h); err != nil {
		return err
	}
	select {
	case s.room <- struct{}{}:
		defer func() { <-s.room }()
	default:
		return s.deny(conn, &Error{Kind: ErrBusy})
	}
	if !s.allow(from) {
		return s.deny(conn, &Error{Kind: ErrBusy})
	}
	c, err := s.greet(ctx, h)
	if err != nil {
		return s.deny(conn, err)
	}
	if err := frame.Write(conn, c); err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(admitTime))
	var r request
	if err := frame.Read(conn, maxSmall, &r); err != nil {
		return err
	}
	a, err := s.admission(joiner, h, c, r)
	if err == nil {
		var in Admitted
		admitting, cancel := context.WithTimeout(ctx, admitTime)
		in, err = s.cfg.Admitter.Admit(admitting, a)
		cancel()
		if err == nil {
			s.cfg.Log.Info("a machine joined", "node", joiner, "name", r.Name, "site", r.Site, "role", r.Role, "pending", in.Pending)
			return frame.Write(conn, accept{nil, in.Pending, in.Links, in.Records, seen})
		}
	}
	frame.Write(conn, accept{Refusal: refuse(err)})
	return err
}

// deny tells why there is no challenge.
func (s *Server) deny(conn Stream, err error) error {
	frame.Write(conn, challenge{Refusal: refuse(err)})
	return err
}

func (s *Server) greet(ctx context.Context, h hello) (c challenge, err error) {
	switch {
	case h.Version != version:
		return c, &Error{Kind: ErrProtocol, Detail: fmt.Sprintf("version %d of the protocol, and the member speaks %d", h.Version, version)}
	case h.Cluster != s.cfg.Cluster:
		return c, &Error{Kind: ErrCluster, Detail: fmt.Sprintf("it names cluster %x, and the member is in %x", h.Cluster[:4], s.cfg.Cluster[:4])}
	}
	greeting, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	if c.Links, err = s.cfg.Admitter.Greet(greeting, h.Token); err != nil {
		return c, err
	}
	rand.Read(c.Nonce[:])
	c.At = s.cfg.Now().Unix()
	return c, nil
}

// admission checks a request against what was said before on the stream, and
// against who the stream says is speaking. The statement is made here, of what
// this member knows: one that was signed for another stream does not match.
func (s *Server) admission(joiner record.Key, h hello, c challenge, r request) (Admission, error) {
	statement, err := invite.Statement{
		Cluster: h.Cluster, Token: h.Token, Joiner: joiner[:], Member: s.self[:],
		JoinerNonce: h.Nonce, MemberNonce: c.Nonce, Record: r.Record.Body, Role: r.Role, Site: r.Site, Name: r.Name,
	}.Bytes()
	if err != nil {
		return Admission{}, &Error{Kind: ErrProtocol, Detail: err.Error()}
	}
	if !ed25519.Verify(joiner[:], statement, r.Node[:]) {
		return Admission{}, &Error{Kind: ErrSignature, Detail: "it was signed by another machine, or for another connection"}
	}
	rec, err := r.Record.Open()
	switch {
	case err != nil:
		return Admission{}, &Error{Kind: ErrRecord, Detail: err.Error()}
	case rec.Node != joiner || rec.Cluster != s.cfg.Cluster:
		return Admission{}, &Error{Kind: ErrRecord, Detail: "it is of another node or cluster"}
	}
	return Admission{h.Token, joiner, statement, r.Seed, r.Node, r.Record}, nil
}
