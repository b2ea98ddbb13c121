// Package join lets a machine into a cluster with a token, and has a member
// answer it.
//
// The connection proves to the machine that it speaks with the member that the
// token names, and to the member who the machine is. The member shows the
// authority chain, and the machine believes nothing before it has found the
// cluster of its token in it. Then it signs what it wants with the seed of the
// token and with its own key, over fresh numbers of both sides, so that what it
// signs is of no use to anybody else, and the seed never leaves it.
package join

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/frame"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/mesh/record"
)

// Config says who joins, and with what.
type Config struct {
	Key    ed25519.PrivateKey // of the machine
	Token  invite.Token
	Record record.Signed // of the machine, for the cluster of the token
	Site   string        // "": that of the token
	Name   string

	// Open opens a stream to a member that the token names; it proves that it
	// is that member, or fails with an error that SomeoneElse tells.
	Open        func(ctx context.Context, m invite.Member) (Stream, error)
	SomeoneElse func(error) bool

	// Verify returns nil if links are an authority chain from the genesis of
	// the token on, with the head of the token in it, and the member in it as
	// a live one.
	Verify func(links [][]byte, t invite.Token, member record.Key) error

	Now func() time.Time // default: time.Now
}

// A Result is what a machine knows when it has joined.
type Result struct {
	Member  string // who let it in
	Pending bool   // an operator has yet to approve it
	Links   [][]byte
	Records []record.Signed // of the members: each is valid and of the cluster
	Seen    string          // the multiaddress at which the member sees the machine; may be ""
}

// stagger is how long a member has before the next one is asked beside it.
const stagger = 1500 * time.Millisecond

// Join asks the members of the token until one lets the machine in. Several
// are greeted at a time, so that one that cannot be reached costs little, but
// only one is asked to admit. It may be repeated: with the same key and record
// the cluster gives the same answer.
func Join(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.SomeoneElse == nil {
		cfg.SomeoneElse = func(error) bool { return false }
	}
	if cfg.Site == "" {
		cfg.Site = cfg.Token.Site
	}
	if err := cfg.Token.Check(cfg.Now()); err != nil {
		return Result{}, err
	}
	if cfg.Token.Site != "" && cfg.Site != cfg.Token.Site {
		return Result{}, &Error{Kind: ErrRole, Detail: fmt.Sprintf("the token is for site %q, not %q", cfg.Token.Site, cfg.Site)}
	}
	ctx, cancel := context.WithCancel(ctx)
	j := &joiner{cfg: cfg, greeted: make(chan *greeting)}
	defer func() {
		cancel()
		for ; j.open > 0; j.open-- {
			if g := <-j.greeted; g.conn != nil {
				g.conn.Close()
			}
		}
	}()
	return j.join(ctx)
}

type joiner struct {
	cfg     Config
	greeted chan *greeting
	open    int // greetings that are under way
	errs    []error
}

// A greeting is a member that was asked, and what came of it.
type greeting struct {
	member invite.Member
	key    record.Key
	conn   Stream
	hello  hello
	answer challenge
	err    error
}

func (j *joiner) join(ctx context.Context) (Result, error) {
	left := j.cfg.Token.Members
	next := time.NewTimer(0)
	defer next.Stop()
	for len(left) > 0 || j.open > 0 {
		select {
		case <-ctx.Done():
			if err := j.verdict(); errors.Is(err, ErrUndecided) {
				return Result{}, err
			}
			return Result{}, fmt.Errorf("join: %w", context.Cause(ctx))
		case <-next.C:
			if len(left) > 0 {
				m := left[0]
				left = left[1:]
				j.open++
				go func() { j.greeted <- j.greet(ctx, m) }()
				next.Reset(stagger)
			}
		case g := <-j.greeted:
			j.open--
			if g.err == nil {
				var r Result
				if r, g.err = j.request(ctx, g); g.err == nil {
					return r, nil
				}
			}
			if j.errs = append(j.errs, g.err); final(g.err) {
				return Result{}, g.err
			}
			next.Reset(0)
		}
	}
	return Result{}, j.verdict()
}

// verdict chooses which error to tell: the one that says most.
func (j *joiner) verdict() error {
	var details []string
	for _, err := range j.errs {
		var e *Error
		if errors.As(err, &e) && e.Kind == ErrUnreachable {
			details = append(details, e.Detail)
		}
	}
	for _, kind := range []error{ErrSomeoneElse, ErrChain, ErrCluster, ErrClock, ErrUndecided} { // danger first
		for _, err := range j.errs {
			if errors.Is(err, kind) {
				return err
			}
		}
	}
	for _, err := range j.errs {
		if !errors.Is(err, ErrUnreachable) {
			return err
		}
	}
	return &Error{Kind: ErrUnreachable, Detail: strings.Join(details, "; ")}
}

// greet does the first half with a member: afterwards the machine knows that
// it speaks with a member of the cluster of its token.
func (j *joiner) greet(ctx context.Context, m invite.Member) *greeting {
	g := &greeting{member: m}
	g.err = j.hello(ctx, g)
	if g.err != nil && g.conn != nil {
		g.conn.Close()
	}
	return g
}

func (j *joiner) hello(ctx context.Context, g *greeting) (err error) {
	if g.key, err = record.ParseNodeID(g.member.Node); err != nil {
		return &Error{Kind: ErrProtocol, Detail: err.Error()}
	}
	dialling, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	if g.conn, err = j.cfg.Open(dialling, g.member); err != nil {
		g.conn = nil
		if j.cfg.SomeoneElse(err) {
			return &Error{Kind: ErrSomeoneElse, Detail: err.Error()}
		}
		return &Error{Kind: ErrUnreachable, Detail: err.Error()}
	}
	stop := context.AfterFunc(ctx, func() { g.conn.Close() })
	defer stop()
	g.conn.SetDeadline(time.Now().Add(helloTime))
	g.hello = hello{Version: version, Cluster: j.cfg.Token.Cluster, Token: j.cfg.Token.ID}
	rand.Read(g.hello.Nonce[:])
	if err := frame.Write(g.conn, g.hello); err != nil {
		return j.lost(g, err)
	}
	if err := frame.Read(g.conn, maxLarge, &g.answer); err != nil {
		return j.lost(g, err)
	}
	if r := g.answer.Refusal; r != nil {
		return r.error(g.member.Node)
	}
	if now, at := j.cfg.Now(), time.Unix(g.answer.At, 0); at.Sub(now).Abs() > invite.Skew {
		return &Error{ErrClock, fmt.Sprintf("here it is %s, there %s", now.UTC().Format(time.DateTime), at.UTC().Format(time.DateTime)), g.member.Node}
	}
	if err := j.cfg.Verify(g.answer.Links, j.cfg.Token, g.key); err != nil {
		return &Error{ErrChain, err.Error(), g.member.Node}
	}
	return nil
}

// lost says what a stream that broke off means.
func (j *joiner) lost(g *greeting, err error) error {
	if errors.Is(err, frame.ErrForm) {
		return &Error{ErrProtocol, err.Error(), g.member.Node}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it hung up")
	}
	return &Error{ErrUnreachable, err.Error(), g.member.Node}
}

// undecided is err of a stream that broke off when all was said: what became of the
// request is not known.
func undecided(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Kind == ErrUnreachable {
		e.Kind = ErrUndecided
	}
	return err
}

// request does the second half.
func (j *joiner) request(ctx context.Context, g *greeting) (Result, error) {
	defer g.conn.Close()
	stop := context.AfterFunc(ctx, func() { g.conn.Close() })
	defer stop()
	t, self := j.cfg.Token, record.KeyOf(j.cfg.Key)
	s := invite.Statement{
		Cluster: t.Cluster, Token: t.ID, Joiner: self[:], Member: g.key[:],
		JoinerNonce: g.hello.Nonce, MemberNonce: g.answer.Nonce, Record: j.cfg.Record.Body, Role: t.Role, Site: j.cfg.Site, Name: j.cfg.Name,
	}
	_, seed, node, err := s.Sign(t, j.cfg.Key)
	if err != nil {
		return Result{}, &Error{Kind: ErrRefused, Detail: err.Error()}
	}
	g.conn.SetDeadline(time.Now().Add(admitTime))
	if err := frame.Write(g.conn, request{s.Role, s.Site, s.Name, seed, node, j.cfg.Record}); err != nil {
		return Result{}, j.lost(g, err)
	}
	var a accept
	if err := frame.Read(g.conn, maxLarge, &a); err != nil {
		return Result{}, undecided(j.lost(g, err))
	}
	if a.Refusal != nil {
		return Result{}, a.Refusal.error(g.member.Node)
	}
	if err := j.cfg.Verify(a.Links, t, g.key); err != nil {
		return Result{}, &Error{ErrChain, err.Error(), g.member.Node}
	}
	r := Result{Member: g.member.Node, Pending: a.Pending, Links: a.Links, Seen: printable(a.Seen)}
	for _, signed := range a.Records {
		if rec, err := signed.Open(); err == nil && rec.Cluster == t.Cluster {
			r.Records = append(r.Records, signed)
		}
	}
	return r, nil
}
