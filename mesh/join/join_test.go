package join

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/mesh/frame"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/mesh/record"
)

var (
	now  = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	name = [16]byte{7}
)

func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }
func id(n byte) string              { return record.KeyOf(key(n)).NodeID() }

// chain is an authority chain by operator 1 of the members.
func chain(t testing.TB, cluster [16]byte, members ...byte) *authority.Chain {
	t.Helper()
	operator := key(200)
	c, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{
		Cluster: cluster, Operators: []authority.Key{authority.PublicKey(operator)}, Threshold: 1}, operator)})
	for _, n := range members {
		if err == nil {
			body := authority.Node{Key: authority.PublicKey(key(n)), Name: "node-" + string('a'+rune(n)), Site: "home", Role: "full", Votes: true}
			c, err = c.Next(c.Sign(c.Draft(authority.AddNode, body), operator))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// verify is what the node does: read the chain, and find in it what the token
// says.
func verify(links [][]byte, t invite.Token, member record.Key) error {
	c, err := authority.Read(links)
	if err != nil {
		return err
	}
	if c.Cluster() != t.Cluster || c.GenesisHash() != t.Genesis {
		return errors.New("it begins with another genesis")
	}
	for i := range links {
		if before, err := authority.Read(links[:i+1]); err == nil {
			if _, head := before.Head(); head == t.Head {
				if _, is := c.Node(authority.Key(member)); !is {
					return errors.New("the member is not in it")
				}
				return nil
			}
		}
	}
	return errors.New("what the operator saw is not in it")
}

// A cluster admits as the ledger does: it counts uses, checks the seed, and
// tells the same machine the same again.
type cluster struct {
	chain   *authority.Chain
	records []record.Signed

	mu        sync.Mutex
	key       ed25519.PublicKey // of the seed
	token     [8]byte
	uses      int
	failed    int
	expires   time.Time
	revoked   bool
	noQuorum  bool
	undecided bool // it admits, and its answer is lost
	joined    map[record.Key][]byte
	entries   int
	after     *authority.Chain // shown to who was admitted; nil: the same chain
}

func (c *cluster) Greet(_ context.Context, token [8]byte) ([][]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if token != c.token {
		return nil, &Error{Kind: ErrUnknown}
	}
	return c.chain.Links(0), nil
}

func (c *cluster) Admit(_ context.Context, a Admission) (Admitted, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := authority.ParseStatement(a.Statement)
	if err != nil || s.Joiner != authority.Key(a.Joiner) {
		return Admitted{}, err
	}
	if bytes.Equal(c.joined[a.Joiner], a.Record.Body) {
		return Admitted{Links: c.chain.Links(0), Records: c.records}, nil
	}
	switch {
	case c.noQuorum:
		return Admitted{}, &Error{Kind: ErrNoQuorum}
	case c.failed >= 5:
		return Admitted{}, &Error{Kind: ErrBurnt}
	case c.revoked:
		return Admitted{}, &Error{Kind: ErrRevoked}
	case c.uses < 1:
		return Admitted{}, &Error{Kind: ErrUsedUp}
	case !now.Before(c.expires):
		return Admitted{}, &Error{Kind: ErrExpired}
	case !ed25519.Verify(c.key, a.Statement, a.Seed[:]):
		c.failed++
		return Admitted{}, &Error{Kind: ErrSignature, Detail: "not with the seed of the token"}
	case s.Role != "replica":
		c.failed++
		return Admitted{}, &Error{Kind: ErrRole}
	}
	c.uses--
	c.entries++
	c.joined[a.Joiner] = a.Record.Body
	if c.undecided {
		return Admitted{}, &Error{Kind: ErrUndecided}
	}
	if c.after != nil {
		return Admitted{Links: c.after.Links(0)}, nil
	}
	return Admitted{Links: c.chain.Links(0), Records: append(c.records, a.Record)}, nil
}

// A world is a cluster with members 1 and 2, a token, and machine 50 that wants
// to join.
type world struct {
	*cluster
	t       *testing.T
	token   invite.Token
	servers map[string]*Server
	cfg     Config
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, servers: map[string]*Server{}}
	w.cluster = &cluster{chain: chain(t, name, 1, 2), token: [8]byte{5}, uses: 1, expires: now.Add(time.Hour), joined: map[record.Key][]byte{}}
	_, head := w.chain.Head()
	w.token = invite.Token{
		Cluster: name, ID: w.cluster.token, Seed: [32]byte{6}, Expires: w.expires.Unix(), Role: "replica", Genesis: w.chain.GenesisHash(), Head: head,
		Members: []invite.Member{{Node: id(1)}, {Node: id(2)}},
	}
	w.key = w.token.Key().Public().(ed25519.PublicKey)
	for _, n := range []byte{1, 2} {
		w.records = append(w.records, signed(t, name, n))
		w.serve(n, func(*ServerConfig) {})
	}
	w.cfg = Config{
		Key: key(50), Token: w.token, Record: signed(t, name, 50), Site: "dc", Name: "dc-1", Verify: verify,
		Open: w.open(50), SomeoneElse: func(err error) bool { return errors.Is(err, errOther) }, Now: func() time.Time { return now },
	}
	return w
}

func signed(t testing.TB, cluster [16]byte, n byte) record.Signed {
	t.Helper()
	s, err := record.Record{Cluster: cluster, Seq: 1, WireGuard: [][32]byte{{n, 1}}}.Sign(key(n))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) serve(n byte, change func(*ServerConfig)) {
	w.t.Helper()
	cfg := ServerConfig{Key: key(n), Cluster: name, Admitter: w.cluster, Now: func() time.Time { return now }}
	change(&cfg)
	s, err := NewServer(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.servers[id(n)] = s
}

var (
	errOther = errors.New("node x answers there")
	errDown  = errors.New("connection refused")
)

// open connects machine n with a member over a pipe; like a connection of the
// host it says who is at each end.
func (w *world) open(n byte) func(context.Context, invite.Member) (Stream, error) {
	return func(_ context.Context, m invite.Member) (Stream, error) {
		s := w.servers[m.Node]
		if s == nil {
			return nil, errDown
		}
		here, there := net.Pipe()
		go func() {
			s.Serve(w.t.Context(), id(n), netip.MustParseAddr("192.0.2.1"), "/ip4/192.0.2.1/udp/8009/quic-v1", there)
			there.Close()
		}()
		return here, nil
	}
}

// always opens the same stream.
func (w *world) always(s Stream) func(context.Context, invite.Member) (Stream, error) {
	return func(context.Context, invite.Member) (Stream, error) { return s, nil }
}

func (w *world) join() (Result, error) { return Join(w.t.Context(), w.cfg) }

// want joins and wants the kind of error, with a hint.
func (w *world) want(kind error) {
	w.t.Helper()
	entries := w.entries
	_, err := w.join()
	var hinted interface{ Hint() string }
	if !errors.Is(err, kind) || !errors.As(err, &hinted) || hinted.Hint() == "" && kind != ErrRefused {
		w.t.Errorf("%v, want %v with a hint", err, kind)
	}
	if w.entries != entries {
		w.t.Errorf("it was admitted nevertheless")
	}
}

func TestJoin(t *testing.T) {
	w := newWorld(t)
	r, err := w.join()
	if err != nil || r.Member != id(1) || r.Pending || len(r.Records) != 3 || len(r.Links) != 3 || r.Seen == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err := w.join(); err != nil || len(r.Records) != 2 || w.entries != 1 {
		t.Errorf("the same again: %+v, %v, %d entries", r, err, w.entries)
	}
	w.cfg.Key, w.cfg.Record, w.cfg.Open = key(51), signed(t, name, 51), w.open(51)
	w.want(ErrUsedUp)
}

func TestWhyAMachineCannotJoin(t *testing.T) {
	tests := []struct {
		name   string
		change func(*world)
		want   error
	}{
		{"an expired token, by its own clock", func(w *world) { w.cfg.Now = func() time.Time { return now.Add(2 * time.Hour) } }, invite.ErrExpired},
		{"an expired token, by the cluster's", func(w *world) { w.expires = now }, ErrExpired},
		{"a token that says it is good for longer", func(w *world) { w.expires, w.cfg.Token.Expires = now, now.Add(48*time.Hour).Unix() }, ErrExpired},
		{"a revoked token", func(w *world) { w.revoked = true }, ErrRevoked},
		{"a token that is used up", func(w *world) { w.uses = 0 }, ErrUsedUp},
		{"a token that nobody knows", func(w *world) { w.cfg.Token.ID[0]++ }, ErrUnknown},
		{"another seed", func(w *world) { w.cfg.Token.Seed[0]++ }, ErrSignature},
		{"another cluster in the token", func(w *world) { w.cfg.Token.Cluster[0]++ }, ErrCluster},
		{"another genesis in the token", func(w *world) { w.cfg.Token.Genesis[0]++ }, ErrChain},
		{"another head in the token", func(w *world) { w.cfg.Token.Head[0]++ }, ErrChain},
		{"another role in the token", func(w *world) { w.cfg.Token.Role = "full" }, ErrRole},
		{"another site than the token's", func(w *world) { w.cfg.Token.Site = "home" }, ErrRole},
		{"another member in the token", func(w *world) { w.cfg.Token.Members = []invite.Member{{Node: id(9)}} }, ErrUnreachable},
		{"a member that is no node ID", func(w *world) { w.cfg.Token.Members = []invite.Member{{Node: "x"}} }, ErrProtocol},
		{"a clock that is slow", func(w *world) { w.cfg.Now = func() time.Time { return now.Add(-time.Hour) } }, ErrClock},
		{"members that are off", func(w *world) { clear(w.servers) }, ErrUnreachable},
		{"no quorum", func(w *world) { w.noQuorum = true }, ErrNoQuorum},
		{"a record of another machine", func(w *world) { w.cfg.Record = signed(w.t, name, 51) }, ErrRecord},
		{"a forged record", func(w *world) { w.cfg.Record.Sig[0]++ }, ErrRecord},
		{"a record for another cluster", func(w *world) { w.cfg.Record = signed(w.t, [16]byte{8}, 50) }, ErrRecord},
		{"somebody in between", func(w *world) {
			w.cfg.Open = func(context.Context, invite.Member) (Stream, error) { return nil, errOther }
		}, ErrSomeoneElse},
		{"a name that is too long", func(w *world) { w.cfg.Name = strings.Repeat("x", 65) }, ErrRefused},
		{"a member that was removed", func(w *world) {
			operator := key(200)
			for _, n := range []byte{1, 2} {
				c, err := w.chain.Next(w.chain.Sign(w.chain.Draft(authority.RemoveNode, authority.Removal{Key: authority.PublicKey(key(n))}), operator))
				if err != nil {
					w.t.Fatal(err)
				}
				w.chain = c
			}
		}, ErrChain},
		{"a member that lost the last links", func(w *world) { w.chain = chain(w.t, name, 1) }, ErrChain},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.change(w)
			w.want(tt.want)
		})
	}
}

// A member that has shown one cluster cannot put another one in its place, nor
// records that no member has signed.
func TestWhatIsNotTakenOver(t *testing.T) {
	w := newWorld(t)
	w.after = chain(t, [16]byte{8}, 1, 2)
	w.cfg.Token.Members = w.cfg.Token.Members[:1]
	if _, err := w.join(); !errors.Is(err, ErrChain) {
		t.Errorf("%v", err)
	}
	w = newWorld(t)
	forged := signed(t, name, 3)
	forged.Sig[0]++
	w.records = append(w.records, forged, signed(t, [16]byte{8}, 4))
	if r, err := w.join(); err != nil || len(r.Records) != 3 {
		t.Errorf("%d records, %v", len(r.Records), err)
	}
}

// A machine that was installed anew, and joined under its old name, was told to choose
// another one; nothing led to --replaces.
func TestNameIsTaken(t *testing.T) {
	e := &Error{Kind: ErrTaken}
	for _, want := range []string{"--name", "invite create --replaces NAME", "node join TOKEN --replaces NAME"} {
		if !strings.Contains(e.Hint(), want) {
			t.Errorf("no %q in %q", want, e.Hint())
		}
	}
}

// A member that lost its quorum in the moment of joining said "the token is not used up";
// the node was in the list afterwards, and with another data directory it was refused.
func TestUndecided(t *testing.T) {
	for name, cut := range map[string]bool{"the leader is lost": false, "the connection is lost": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cfg.Token.Members = w.cfg.Token.Members[:1]
			open := w.cfg.Open
			if w.cluster.undecided = !cut; cut {
				w.cfg.Open = func(ctx context.Context, m invite.Member) (Stream, error) {
					s, err := open(ctx, m)
					return &cutOff{Stream: s}, err
				}
			}
			_, err := w.join()
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, ErrUndecided) || !strings.Contains(e.Hint(), "same --data directory") {
				t.Errorf("%v", err)
			}
			w.cluster.undecided, w.cfg.Open = false, open
			if r, err := w.join(); err != nil || r.Member != id(1) || w.entries > 1 {
				t.Errorf("again: %+v, %v, %d entries", r, err, w.entries)
			}
		})
	}
}

// A cutOff is a stream that breaks off when the second message was said.
type cutOff struct {
	Stream
}

func (c *cutOff) Write(p []byte) (int, error) {
	n, err := c.Stream.Write(p)
	if bytes.Contains(p, []byte("replica")) {
		c.Stream.Close()
	}
	return n, err
}

// A member that is off costs nothing but a moment: the next is asked.
func TestNextMember(t *testing.T) {
	w := newWorld(t)
	delete(w.servers, id(1))
	if r, err := w.join(); err != nil || r.Member != id(2) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWrongSeedsBurnTheToken(t *testing.T) {
	w := newWorld(t)
	right := w.cfg.Token.Seed
	w.cfg.Token.Seed[0]++
	for range 5 {
		w.want(ErrSignature)
	}
	w.cfg.Token.Seed = right
	w.want(ErrBurnt)
}

// What one machine sent is of no use on another connection, not even to
// itself, and does not count against the token.
func TestReplay(t *testing.T) {
	w := newWorld(t)
	w.noQuorum = true
	var sent recorder
	open := w.cfg.Open
	w.cfg.Open = func(ctx context.Context, m invite.Member) (Stream, error) {
		s, err := open(ctx, m)
		return &recording{s, &sent}, err
	}
	w.cfg.Token.Members = w.cfg.Token.Members[:1]
	w.want(ErrNoQuorum)
	w.noQuorum = false
	for _, n := range []byte{50, 51} {
		answers := replay(t, w.servers[id(1)], n, sent.b.Bytes())
		if len(answers) != 2 || !strings.Contains(answers[1], "another connection") {
			t.Errorf("replayed by %d: %q", n, answers)
		}
	}
	if w.entries != 0 || w.failed != 0 {
		t.Errorf("%d entries, %d failures", w.entries, w.failed)
	}
}

// A member that was in between cannot use what a machine said to another: the
// statement names whom it was made to.
func TestStatementIsForOneMember(t *testing.T) {
	w := newWorld(t)
	thief := w.servers[id(2)]
	joiner, err := record.ParseNodeID(id(50))
	if err != nil {
		t.Fatal(err)
	}
	h, c := hello{Version: version, Cluster: name, Token: w.token.ID}, challenge{}
	s := invite.Statement{Cluster: name, Token: w.token.ID, Joiner: joiner[:], Member: w.servers[id(1)].self[:], Record: w.cfg.Record.Body, Role: "replica"}
	_, seed, node, err := s.Sign(w.token, key(50))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := thief.admission(joiner, h, c, request{"replica", "", "", seed, node, w.cfg.Record}); !errors.Is(err, ErrSignature) {
		t.Errorf("%v", err)
	}
	if _, err := w.servers[id(1)].admission(joiner, h, c, request{"replica", "", "", seed, node, w.cfg.Record}); err != nil {
		t.Errorf("the member it was made to: %v", err)
	}
}

func TestFloodOfJoins(t *testing.T) {
	w := newWorld(t)
	w.serve(1, func(c *ServerConfig) { c.PerSource, c.PerMinute = 3, 5 })
	w.cfg.Token.Members = w.cfg.Token.Members[:1]
	w.cfg.Token.ID[0]++
	for range 3 {
		w.want(ErrUnknown)
	}
	w.want(ErrBusy)
	s := w.servers[id(1)]
	for i := range 2 {
		if !s.allow(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})) {
			t.Errorf("source %d pays for another", i)
		}
	}
	if s.allow(netip.MustParseAddr("198.51.100.9")) {
		t.Error("many sources together are not counted")
	}
	for i := range 3 * maxSources {
		s.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if n := len(s.sources); n > maxSources {
		t.Errorf("%d sources are remembered", n)
	}
}

// Streams on which nothing is said take the places of a few, for a while only.
func TestSilentStreamsTakeNoPlace(t *testing.T) {
	w := newWorld(t)
	w.serve(1, func(c *ServerConfig) { c.AtOnce = 1 })
	for range 5 {
		if _, err := w.open(60)(t.Context(), invite.Member{Node: id(1)}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := w.join(); err != nil || r.Member != id(1) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestPlacesOfAServer(t *testing.T) {
	w := newWorld(t)
	w.serve(1, func(c *ServerConfig) { c.AtOnce = 1 })
	w.cfg.Token.Members = w.cfg.Token.Members[:1]
	s, err := w.open(60)(t.Context(), invite.Member{Node: id(1)})
	if err != nil {
		t.Fatal(err)
	}
	var c challenge
	if err := errors.Join(frame.Write(s, hello{Version: version, Cluster: name, Token: w.token.ID}), frame.Read(s, maxLarge, &c)); err != nil {
		t.Fatal(err)
	}
	w.want(ErrBusy)
	s.Close()
	w.servers[id(1)].room <- struct{}{} // waits until the place is free again
	<-w.servers[id(1)].room
	if _, err := w.join(); err != nil {
		t.Error(err)
	}
}

func TestJoinEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.cfg.Open = func(ctx context.Context, _ invite.Member) (Stream, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if _, err := Join(ctx, w.cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestTextOfAMemberIsHarmless(t *testing.T) {
	err := (&refusal{15, "a\x1b[2Jb\nc\u0085d\xff"}).error(id(1))
	if strings.ContainsAny(err.Error(), "\x1b\n\u0085") || !strings.Contains(err.Error(), id(1)) {
		t.Errorf("%q", err)
	}
	if e := (&refusal{0, ""}).error(""); !errors.Is(e, ErrRefused) {
		t.Errorf("%v", e)
	}
}
