package strays

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/mesh/frame"
	"github.com/holdfast-mesh/holdfast/mesh/record"
)

func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }
func id(n byte) string              { return record.KeyOf(key(n)).NodeID() }

// chain is one of an operator, 200, and the nodes 1 to 6.
func chain(t testing.TB) *authority.Chain {
	c, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{
		Cluster: [16]byte{7}, Operators: []authority.Key{authority.PublicKey(key(200))}, Threshold: 1}, key(200))})
	if err != nil {
		t.Fatal(err)
	}
	for n := byte(1); n <= 6; n++ {
		c = add(t, c, n)
	}
	return c
}

func next(t testing.TB, c *authority.Chain, kind uint8, body any) *authority.Chain {
	t.Helper()
	c, err := c.Next(c.Sign(c.Draft(kind, body), key(200)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func add(t testing.TB, c *authority.Chain, n byte) *authority.Chain {
	return next(t, c, authority.AddNode, authority.Node{Key: authority.PublicKey(key(n)), Name: fmt.Sprint("node-", n), Site: "home", Role: "full", Votes: true})
}

func eject(t testing.TB, c *authority.Chain, n byte) *authority.Chain {
	return next(t, c, authority.RemoveNode, authority.Removal{Key: authority.PublicKey(key(n))})
}

// A store is what a node believes.
type store struct {
	mu       sync.Mutex
	chain    *authority.Chain
	branches []authority.Stray
	refused  int
}

func (s *store) Offered() (ids [][32]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.branches {
		ids = append(ids, b.ID)
	}
	return ids
}

func (s *store) Links(id [32]byte) [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.branches {
		if b.ID == id {
			return b.Links
		}
	}
	return nil
}

func (s *store) Knows(id [32]byte) bool { return slices.Contains(s.Offered(), id) }

func (s *store) Take(links [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.chain.Stray(links)
	if err != nil {
		s.refused++
		return err
	}
	s.branches = append(s.branches, b)
	return nil
}

func (s *store) out(n byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.branches, func(b authority.Stray) bool {
		return slices.ContainsFunc(b.Removed, func(r authority.Removed) bool { return r.Node == authority.PublicKey(key(n)) })
	})
}

// A mesh connects nodes in memory.
type mesh struct {
	t     testing.TB
	mu    sync.Mutex
	nodes map[string]*node
	sent  int // streams
	apart func(a, b *node) bool
}

type node struct {
	*Passer
	*store
	id  string
	in  *mesh
	off bool
	old bool // does not know the protocol
}

func (m *mesh) add(n byte, c *authority.Chain) *node {
	x := &node{id: id(n), in: m, store: &store{chain: c}}
	var err error
	if x.Passer, err = New(Config{Store: x.store, Peers: x.peers, Open: x.open}); err != nil {
		m.t.Fatal(err)
	}
	m.nodes[x.id] = x
	return x
}

func (x *node) peers() (ids []string) {
	x.in.mu.Lock()
	defer x.in.mu.Unlock()
	for id, other := range x.in.nodes {
		if other != x && !x.off && !other.off && (x.in.apart == nil || !x.in.apart(x, other)) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (x *node) open(_ context.Context, to string) (Stream, error) {
	if !slices.Contains(x.peers(), to) {
		return nil, errors.New("no way to it")
	}
	x.in.mu.Lock()
	other := x.in.nodes[to]
	x.in.sent++
	x.in.mu.Unlock()
	if other.old {
		return nil, errors.New("protocols not supported: [/holdfast/strays/1]")
	}
	here, there := net.Pipe()
	go func() {
		other.Serve(context.Background(), x.id, there)
		there.Close()
	}()
	return here, nil
}

func newMesh(t testing.TB) *mesh { return &mesh{t: t, nodes: map[string]*node{}} }

func (m *mesh) streams() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent
}

// Whom a side that was cut off has ejected is kept out by all within a minute, from one
// that has seen it to the next; by who was off half a minute after it is back; and by who
// could not check it at first. Only who saw the branch did, before: an ejected node was
// reached by all others until somebody heeded an alarm. An older program between them
// hinders nobody, and when there is nothing to tell nobody says anything.
func TestSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		line := []string{id(1), id(2), id(3), id(4)} // each reaches its neighbours; the old one reaches all
		m.apart = func(a, b *node) bool {
			d := slices.Index(line, a.id) - slices.Index(line, b.id)
			return d*d != 1 && !a.old && !b.old
		}
		c := chain(t)
		counts, loses := add(t, c, 7), eject(t, eject(t, c, 6), 5)
		var all []*node
		for n := byte(1); n <= 4; n++ {
			all = append(all, m.add(n, counts))
		}
		m.add(9, counts).old = true
		all[3].off = true
		all[1].chain = c // it has not heard yet what the ledger has agreed on
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, x := range all {
			running.Go(func() { x.Run(ctx) })
		}
		time.Sleep(time.Hour)
		if n := m.streams(); n != 0 {
			t.Errorf("%d streams, for nothing", n)
		}
		if err := all[0].Take(loses.Links(7)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if all[1].out(6) || all[2].out(6) || all[1].refused == 0 {
			t.Errorf("it is believed though it cannot be checked; %d refused", all[1].refused)
		}
		all[1].mu.Lock()
		all[1].chain = counts
		all[1].mu.Unlock()
		time.Sleep(40 * time.Second)
		for i, x := range all[:3] {
			if !x.out(6) || !x.out(5) {
				t.Errorf("node %d does not know", i+1)
			}
		}
		m.mu.Lock()
		all[3].off = false
		m.mu.Unlock()
		time.Sleep(10 * time.Second)
		if !all[3].out(6) {
			t.Error("a node that was off does not know when it is back")
		}
		third := eject(t, add(t, c, 8), 4)
		if err := all[3].Take(third.Links(7)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if !all[0].out(4) {
			t.Error("another branch is not passed on at once")
		}
		before := m.streams()
		time.Sleep(10 * time.Minute)
		if n := m.streams() - before; n < 80 || n > 110 {
			t.Errorf("%d streams in ten minutes, of five nodes", n)
		}
		cancel()
		running.Wait()
	})
}

// A conn is what somebody sends, read once.
type conn struct {
	io.Reader
	io.Writer
}

func (conn) Close() error                { return nil }
func (conn) SetDeadline(time.Time) error { return nil }

// said are messages as they are sent.
func said(messages ...any) io.Reader {
	var b bytes.Buffer
	for _, m := range messages {
		frame.Write(&b, m)
	}
	return &b
}

// What does not follow the protocol ends the stream, and whoever shows what nobody has
// signed is not listened to for long.
func TestNonsense(t *testing.T) {
	c := chain(t)
	counts, loses := add(t, c, 7), eject(t, c, 6)
	x := newMesh(t).add(1, counts)
	forged := bytes.Clone(loses.Links(7)[0])
	forged[len(forged)-1]++
	id := func(n byte) [32]byte { return [32]byte{n} }
	many := make([][32]byte, maxIDs+1)
	type unknown struct {
		IDs  [][32]byte `cbor:"1,keyasint"`
		More bool       `cbor:"9,keyasint"`
	}
	for name, in := range map[string]io.Reader{
		"nothing":       said(),
		"too many":      said(offer{many}),
		"unknown field": said(unknown{More: true}),
		"no gift":       said(offer{[][32]byte{id(1)}}),
		"too long":      io.MultiReader(said(offer{[][32]byte{id(1)}}), bytes.NewReader([]byte{0x7f, 0, 0, 0})),
	} {
		if err := x.Serve(t.Context(), "someone", conn{in, io.Discard}); err == nil || x.out(6) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g := gift{[][]byte{forged}}
	in := said(offer{[][32]byte{id(1), id(2), id(3), id(4), id(5)}}, g, g, g, g, gift{loses.Links(7)})
	if err := x.Serve(t.Context(), "someone", conn{in, io.Discard}); !errors.Is(err, authority.ErrRefused) || x.out(6) || x.refused != maxRefused+1 {
		t.Errorf("%v, %d refused", err, x.refused)
	}
	in = said(offer{[][32]byte{id(1), id(2)}}, g, gift{loses.Links(7)})
	if err := x.Serve(t.Context(), "someone", conn{in, io.Discard}); !errors.Is(err, authority.ErrRefused) || !x.out(6) {
		t.Errorf("one is forged, and one signed: %v", err)
	}
	ours := x.Offered()[0]
	for name, w := range map[string][][32]byte{"not offered": {id(1)}, "twice": {ours, ours}} {
		if _, err := x.pass(conn{said(want{w}), io.Discard}); !errors.Is(err, frame.ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, lacks := range [][][32]byte{nil, {ours}} {
		if known, err := x.pass(conn{said(want{lacks}, thanks{len(lacks)}), io.Discard}); err != nil || known != (lacks == nil) {
			t.Errorf("it lacks %d, and knows all: %v, %v", len(lacks), known, err)
		}
	}
}

// FuzzServe and FuzzPass have a member say whatever it likes: nobody is kept out whom no
// operator has removed.
func FuzzServe(f *testing.F) {
	c := chain(f)
	counts, loses := add(f, c, 7), eject(f, c, 6)
	b, _ := io.ReadAll(said(offer{[][32]byte{{1}}}, gift{loses.Links(7)}))
	f.Add(b)
	f.Add(b[:50])
	f.Fuzz(func(t *testing.T, b []byte) {
		x := newMesh(t).add(1, counts)
		x.Serve(t.Context(), "someone", conn{bytes.NewReader(b), io.Discard})
		for n := byte(1); n <= 5; n++ {
			if x.out(n) {
				t.Errorf("%d is kept out", n)
			}
		}
	})
}

func FuzzPass(f *testing.F) {
	c := chain(f)
	counts, loses := add(f, c, 7), eject(f, c, 6)
	b, _ := io.ReadAll(said(want{[][32]byte{{1}}}, thanks{1}))
	f.Add(b)
	f.Add(b[:5])
	f.Fuzz(func(t *testing.T, b []byte) {
		x := newMesh(t).add(1, counts)
		if err := x.Take(loses.Links(7)); err != nil {
			t.Fatal(err)
		}
		x.pass(conn{bytes.NewReader(b), io.Discard})
		if len(x.Offered()) != 1 {
			t.Error("what is offered changes by who asks for it")
		}
	})
}
