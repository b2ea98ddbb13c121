package join_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/mesh/host"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/mesh/join"
	"github.com/holdfast-mesh/holdfast/mesh/record"
	"github.com/holdfast-mesh/holdfast/mesh/roster"
)

// Nodes as the daemon puts them together, at loopback: host, join and roster,
// with the authority chain of consensus.

const patience = 20 * time.Second

var cluster = [16]byte{7}

func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }
func id(n byte) string              { return record.KeyOf(key(n)).NodeID() }

var operator = key(200)

type node struct {
	*host.Host
	t       testing.TB
	n       byte
	keeper  *authority.Keeper
	records *record.Store
	roster  *roster.Syncer
	invites *invites
	relay   host.Relaying
	hidden  bool // its record has no addresses
	stop    func()
}

// Member and Removed make a node the roster of its host.
func (x *node) Member(node string) bool { return x.keeper.Member(node) == nil }
func (x *node) Removed(node string) bool {
	for _, m := range x.keeper.Chain().Nodes() {
		if m.Removed && m.Key.NodeID() == node {
			return true
		}
	}
	return false
}

// An invites is what the ledger is to all members: it consumes tokens.
type invites struct {
	mu    sync.Mutex
	chain *authority.Chain // the newest
	left  map[[8]byte]invite.Token
}

func (x *node) Greet(context.Context, [8]byte) ([][]byte, error) {
	return x.keeper.Chain().Links(0), nil
}

func (x *node) Admit(_ context.Context, a join.Admission) (join.Admitted, error) {
	in := x.invites
	in.mu.Lock()
	token, is := in.left[a.Token]
	key, _ := token.Key().Public().(ed25519.PublicKey)
	if !is || !ed25519.Verify(key, a.Statement, a.Seed[:]) {
		in.mu.Unlock()
		return join.Admitted{}, &join.Error{Kind: join.ErrUsedUp}
	}
	delete(in.left, a.Token)
	body := authority.Node{Key: authority.Key(a.Joiner), Name: a.Joiner.NodeID()[40:], Site: "dc", Role: "replica"}
	next, err := in.chain.Next(in.chain.Sign(in.chain.Draft(authority.AddNode, body), operator))
	if err != nil {
		in.mu.Unlock()
		return join.Admitted{}, err
	}
	in.chain = next
	in.mu.Unlock()
	if err := errors.Join(x.keeper.Follow(next)); err != nil {
		return join.Admitted{}, err
	}
	if _, err := x.records.Put(a.Record); err != nil {
		return join.Admitted{}, err
	}
	x.changed()
	x.roster.Push()
	return join.Admitted{Links: next.Links(0), Records: x.records.All()}, nil
}

// changed is what a node does when its roster is not what it was.
func (x *node) changed() {
	all := map[string]host.Known{}
	for _, signed := range x.records.All() {
		if r, err := signed.Open(); err == nil && x.Member(r.Node.NodeID()) {
			all[r.Node.NodeID()] = host.Known{Addrs: r.Texts(), Relay: r.Relay}
		}
	}
	x.SetPeers(all)
}

func (x *node) connected() (ids []string) {
	for _, p := range x.Peers() {
		if p.Path != host.PathNone {
			ids = append(ids, p.Node)
		}
	}
	return ids
}

func (x *node) where(node string) string {
	for _, p := range x.Peers() {
		if p.Node == node && p.Path == host.PathDirect {
			return p.Addr
		}
	}
	return ""
}

// start runs node n; chain is nil for one that has not joined.
func start(t testing.TB, n byte, chain *authority.Chain, in *invites, change func(*node)) *node {
	t.Helper()
	x := &node{t: t, n: n, keeper: authority.NewKeeper(authority.KeeperConfig{Chain: chain}), invites: in, relay: host.RelayNever}
	change(x)
	var err error
	if x.records, err = record.Open("", cluster); err != nil {
		t.Fatal(err)
	}
	if x.Host, err = host.New(host.Config{Key: key(n), Roster: x, Version: "test", Relay: x.relay}); err != nil {
		t.Fatal(err)
	}
	if x.roster, err = roster.New(roster.Config{
		Chain: x.keeper, Records: x.records, Member: x.Member, Peers: x.connected, Where: x.where, Changed: x.changed, Seen: func(string, string) {}, Refused: func(error) {},
		Open: func(ctx context.Context, node string) (roster.Stream, error) {
			return x.Open(ctx, node, roster.Protocol)
		},
	}); err != nil {
		t.Fatal(err)
	}
	server, err := join.NewServer(join.ServerConfig{Key: key(n), Cluster: cluster, Admitter: x, PerSource: 1000, PerMinute: 1000})
	if err != nil {
		t.Fatal(err)
	}
	x.Handle(roster.Protocol, false, func(ctx context.Context, s host.Inbound) { x.roster.Serve(ctx, s.Node, s.Seen, s) })
	x.Handle(join.Protocol, true, func(ctx context.Context, s host.Inbound) { server.Serve(ctx, s.Node, s.From, s.Seen, s) })
	x.Handle("/echo", false, func(_ context.Context, s host.Inbound) { io.Copy(s, s) })
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := x.Run(ctx, netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() { x.roster.Run(ctx) })
	x.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(x.stop)
	<-x.Running()
	x.renew()
	return x
}

func (x *node) renew() record.Signed {
	x.t.Helper()
	r := record.Record{WireGuard: [][32]byte{{x.n, 1}}, Addrs: x.Addrs(), Relay: x.Relays()}
	if x.hidden {
		r.Addrs = nil
	}
	signed, err := x.records.Renew(r, key(x.n), time.Now())
	if err != nil {
		x.t.Fatal(err)
	}
	return signed
}

func founded(t testing.TB, members ...byte) *authority.Chain {
	t.Helper()
	c, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{
		Cluster: cluster, Operators: []authority.Key{authority.PublicKey(operator)}, Threshold: 1}, operator)})
	for _, n := range members {
		if err == nil {
			body := authority.Node{Key: authority.PublicKey(key(n)), Name: fmt.Sprint("node-", n), Site: "home", Role: "full", Votes: true}
			c, err = c.Next(c.Sign(c.Draft(authority.AddNode, body), operator))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// token makes an invite of members at their addresses.
func (in *invites) token(n byte, members ...invite.Member) invite.Token {
	in.mu.Lock()
	defer in.mu.Unlock()
	_, head := in.chain.Head()
	t := invite.Token{Cluster: cluster, ID: [8]byte{n}, Seed: [32]byte{n}, Expires: time.Now().Add(time.Hour).Unix(), Role: "replica",
		Genesis: in.chain.GenesisHash(), Head: head, Members: members}
	in.left[t.ID] = t
	return t
}

func (x *node) member() invite.Member {
	m := invite.Member{Node: x.ID()}
	for _, a := range x.Addrs() {
		m.Addrs = append(m.Addrs, a.Text)
	}
	return m
}

// join has a node that knows nobody join, and take over what it is told.
func (x *node) join(token invite.Token) (join.Result, error) {
	ctx, cancel := context.WithTimeout(x.t.Context(), patience)
	defer cancel()
	r, err := join.Join(ctx, join.Config{
		Key: key(x.n), Token: token, Record: x.renew(), Site: "dc", Name: "n",
		Open: func(ctx context.Context, m invite.Member) (join.Stream, error) {
			return x.OpenTo(ctx, m.Node, m.Addrs, join.Protocol)
		},
		SomeoneElse: func(err error) bool { return errors.Is(err, host.ErrSomeoneElse) },
		Verify: func(links [][]byte, t invite.Token, member record.Key) error {
			c, err := authority.Read(links)
			if err == nil && c.GenesisHash() != t.Genesis {
				err = errors.New("another genesis")
			}
			return err
		},
	})
	if err != nil {
		return r, err
	}
	c, err := authority.Read(r.Links)
	if err == nil {
		err = x.keeper.Follow(c)
	}
	for _, signed := range r.Records {
		x.records.Put(signed)
	}
	x.changed()
	return r, err
}

func (x *node) talks(to *node) bool {
	ctx, cancel := context.WithTimeout(x.t.Context(), 5*time.Second)
	defer cancel()
	s, err := x.Open(ctx, to.ID(), "/echo")
	if err != nil {
		return false
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(s, "ping")
	b := make([]byte, 4)
	_, err = io.ReadFull(s, b)
	return err == nil
}

func eventually(t testing.TB, what string, holds func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !holds() {
		if time.Since(begin) > patience {
			t.Fatalf("after %s: not %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(begin)
}

// meet tells nodes of each other, and waits until they are connected.
func meet(t testing.TB, all []*node) {
	t.Helper()
	for _, x := range all {
		for _, y := range all {
			signed, _ := y.records.Signed(record.KeyOf(key(y.n)))
			x.records.Put(signed)
		}
		x.changed()
	}
	eventually(t, "connected", func() bool {
		for _, x := range all {
			if len(x.connected()) != len(all)-1 {
				return false
			}
		}
		return true
	})
}

// A machine joins by one member and is known to all, and reaches them; one that
// is ejected by one is cut off by all within two seconds.
func TestJoinAndEjectOverTheNetwork(t *testing.T) {
	chain := founded(t, 1, 2, 3)
	in := &invites{chain: chain, left: map[[8]byte]invite.Token{}}
	var members []*node
	for n := range byte(3) {
		members = append(members, start(t, 1+n, chain, in, func(*node) {}))
	}
	meet(t, members)
	joiner := start(t, 50, nil, in, func(*node) {})
	token := in.token(1, members[0].member(), members[1].member())
	begin := time.Now()
	r, err := joiner.join(token)
	if err != nil || r.Member != members[0].ID() || len(r.Records) != 4 || !strings.Contains(r.Seen, "127.0.0.1") {
		t.Fatalf("%+v, %v", r, err)
	}
	took := time.Since(begin)
	spread := eventually(t, "known to all, and connected to all", func() bool {
		return len(joiner.connected()) == 3 && members[1].Member(joiner.ID()) && members[2].Member(joiner.ID())
	})
	t.Logf("joined in %s, known to and connected to all %s later", took, spread)
	if took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	for _, x := range members {
		if !x.talks(joiner) || !joiner.talks(x) {
			t.Errorf("node %d and the new one do not talk", x.n)
		}
	}
	// The same token again is of no use to another machine.
	thief := start(t, 51, nil, in, func(*node) {})
	if _, err := thief.join(token); !errors.Is(err, join.ErrUsedUp) {
		t.Errorf("%v", err)
	}
	if thief.talks(members[0]) || thief.talks(joiner) {
		t.Error("a machine that was refused talks with members")
	}
	chain, err = in.chain.Next(in.chain.Sign(in.chain.Draft(authority.RemoveNode, authority.Removal{Key: authority.PublicKey(key(50))}), operator))
	if err != nil {
		t.Fatal(err)
	}
	if err := members[1].keeper.Follow(chain); err != nil {
		t.Fatal(err)
	}
	members[1].changed()
	members[1].roster.Push()
	cut := eventually(t, "cut off by all", func() bool { return len(joiner.connected()) == 0 })
	t.Logf("cut off by all after %s", cut)
	if cut > 4*time.Second { // two on a machine that is not loaded
		t.Errorf("it took %s", cut)
	}
	if joiner.talks(members[0]) || joiner.talks(members[2]) {
		t.Error("an ejected node talks with members")
	}
}

// delayed forwards connections of TCP to an address, half of a round trip late
// in each direction.
func delayed(t *testing.T, to string, rtt time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	type part struct {
		at time.Time
		b  []byte
	}
	forward := func(from, to net.Conn) {
		parts := make(chan part, 1000)
		go func() {
			defer close(parts)
			for {
				b := make([]byte, 4096)
				n, err := from.Read(b)
				if err != nil {
					return
				}
				parts <- part{time.Now().Add(rtt / 2), b[:n]}
			}
		}()
		for p := range parts {
			time.Sleep(time.Until(p.at))
			to.Write(p.b)
		}
		to.Close()
	}
	go func() {
		for {
			here, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				time.Sleep(rtt) // of opening
				there, err := net.Dial("tcp", to)
				if err != nil {
					here.Close()
					return
				}
				go forward(here, there)
				forward(there, here)
			}()
		}
	}()
	return l.Addr().String()
}

// At 150 ms, and over TCP, which asks more often than QUIC, joining takes some
// round trips.
func TestJoinFromFarAway(t *testing.T) {
	const rtt = 150 * time.Millisecond
	chain := founded(t, 1)
	in := &invites{chain: chain, left: map[[8]byte]invite.Token{}}
	far := start(t, 1, chain, in, func(*node) {})
	m := invite.Member{Node: far.ID()}
	for _, a := range far.Addrs() {
		if _, port, is := strings.Cut(a.Text, "/tcp/"); is {
			_, port, _ = net.SplitHostPort(delayed(t, "127.0.0.1:"+port, rtt))
			m.Addrs = append(m.Addrs, "/ip4/127.0.0.1/tcp/"+port)
		}
	}
	joiner := start(t, 50, nil, in, func(*node) {})
	begin := time.Now()
	if _, err := joiner.join(in.token(1, m)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	t.Logf("joined in %s, %.1f round trips", took, took.Seconds()/rtt.Seconds())
	if took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// A member that only another one can reach still lets machines in, and they
// reach it through that one.
func TestJoinThroughARelay(t *testing.T) {
	chain := founded(t, 1, 2)
	in := &invites{chain: chain, left: map[[8]byte]invite.Token{}}
	public := start(t, 1, chain, in, func(x *node) { x.relay = host.RelayYes })
	behind := start(t, 2, chain, in, func(x *node) { x.hidden = true })
	signed, _ := public.records.Signed(record.KeyOf(key(1)))
	behind.records.Put(signed)
	behind.changed()
	eventually(t, "a place at the relay", func() bool {
		p := behind.Peers()
		return len(p) > 0 && p[0].Node == id(1) && p[0].Reserved || len(p) > 1 && p[1].Reserved
	})
	m := invite.Member{Node: behind.ID()}
	for _, a := range public.Addrs() {
		m.Addrs = append(m.Addrs, a.Text+"/p2p/"+public.ID()+"/p2p-circuit")
	}
	joiner := start(t, 50, nil, in, func(x *node) { x.hidden = true })
	begin := time.Now()
	r, err := joiner.join(in.token(1, m))
	if err != nil || r.Member != behind.ID() || r.Seen != "" {
		t.Fatalf("%+v, %v", r, err)
	}
	t.Logf("joined through a relay in %s", time.Since(begin))
	eventually(t, "reached through the relay", func() bool { return joiner.talks(behind) && behind.talks(joiner) })
}

func TestSomeoneElseAtTheAddressOfAMember(t *testing.T) {
	chain := founded(t, 1, 2)
	in := &invites{chain: chain, left: map[[8]byte]invite.Token{}}
	between := start(t, 9, chain, in, func(*node) {})
	joiner := start(t, 50, nil, in, func(*node) {})
	m := between.member()
	m.Node = id(1)
	if _, err := joiner.join(in.token(1, m)); !errors.Is(err, join.ErrSomeoneElse) {
		t.Errorf("%v", err)
	}
}

// A node comes back after a long time, at another address, to a cluster that
// has grown: it finds out all from the first member that it reaches.
func TestComingBack(t *testing.T) {
	old := founded(t, 1, 2)
	now := founded(t, 1, 2, 3)
	in := &invites{chain: now, left: map[[8]byte]invite.Token{}}
	a, c := start(t, 1, now, in, func(*node) {}), start(t, 3, now, in, func(*node) {})
	signed, _ := c.records.Signed(record.KeyOf(key(3)))
	a.records.Put(signed)
	signed, _ = a.records.Signed(record.KeyOf(key(1)))
	c.records.Put(signed)
	a.changed()
	c.changed()
	b := start(t, 2, old, in, func(*node) {})
	b.records.Put(signed) // all it knows is where a was
	b.changed()
	eventually(t, "all know and reach each other", func() bool {
		return len(a.connected()) == 2 && len(b.connected()) == 2 && len(c.connected()) == 2
	})
	if !b.Member(id(3)) || !c.talks(b) || !b.talks(c) {
		t.Error("the one that came back and the new one do not talk")
	}
}
