package roster

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

var cluster = [16]byte{7}

func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }
func id(n byte) string              { return record.KeyOf(key(n)).NodeID() }

func genesis(t testing.TB, operator byte) *authority.Chain {
	t.Helper()
	c, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{
		Cluster: cluster, Operators: []authority.Key{authority.PublicKey(key(operator))}, Threshold: 1}, key(operator))})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// with adds a node to a chain, or removes it.
func with(t testing.TB, c *authority.Chain, kind uint8, n byte) *authority.Chain {
	t.Helper()
	var body any = authority.Node{Key: authority.PublicKey(key(n)), Name: fmt.Sprint("node-", n), Site: "home", Role: "full", Votes: true}
	if kind == authority.RemoveNode {
		body = authority.Removal{Key: authority.PublicKey(key(n))}
	}
	next, err := c.Next(c.Sign(c.Draft(kind, body), key(200)))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func founded(t testing.TB, members ...byte) *authority.Chain {
	c := genesis(t, 200)
	for _, n := range members {
		c = with(t, c, authority.AddNode, n)
	}
	return c
}

// A net connects nodes in memory.
type network struct {
	t     testing.TB
	mu    sync.Mutex
	nodes map[string]*node
	sent  int                   // bytes
	apart func(a, b *node) bool // which do not reach each other; nil: none
}

type node struct {
	*Syncer
	id      string
	net     *network
	keeper  *authority.Keeper
	records *record.Store
	off     bool
	hangs   bool // answers nobody
	changed int
	refused []error
	seen    []string
}

func newNetwork(t testing.TB) *network { return &network{t: t, nodes: map[string]*node{}} }

func (w *network) add(n byte, chain *authority.Chain) *node {
	w.t.Helper()
	x := &node{id: id(n), net: w, keeper: authority.NewKeeper(authority.KeeperConfig{Chain: chain})}
	var err error
	if x.records, err = record.Open("", cluster); err != nil {
		w.t.Fatal(err)
	}
	x.Syncer, err = New(Config{
		Chain: x.keeper, Records: x.records, Member: func(n string) bool { return x.keeper.Member(n) == nil },
		Peers: x.peers, Open: x.open, Where: func(n string) string { return "/ip4/192.0.2.1/tcp/1" },
		Changed: func() { x.net.mu.Lock(); x.changed++; x.net.mu.Unlock() },
		Seen: func(by, at string) {
			x.net.mu.Lock()
			defer x.net.mu.Unlock()
			x.seen = append(x.seen, by+" "+at)
		},
		Refused: func(err error) {
			x.net.mu.Lock()
			defer x.net.mu.Unlock()
			x.refused = append(x.refused, err)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.nodes[x.id] = x
	return x
}

func (x *node) peers() (ids []string) {
	x.net.mu.Lock()
	defer x.net.mu.Unlock()
	for id, other := range x.net.nodes {
		if other != x && (x.net.apart == nil || !x.net.apart(x, other)) && !x.off && !other.off && x.keeper.Member(id) == nil && other.keeper.Member(x.id) == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (x *node) open(_ context.Context, to string) (Stream, error) {
	x.net.mu.Lock()
	other := x.net.nodes[to]
	x.net.mu.Unlock()
	if other == nil || !slices.Contains(x.peers(), to) {
		return nil, errors.New("no way to it")
	}
	here, there := net.Pipe()
	go func() {
		if other.hangs {
			<-x.net.t.Context().Done()
			return
		}
		other.Serve(context.Background(), x.id, "/ip4/192.0.2.2/tcp/1", there)
		there.Close()
	}()
	return &counting{here, x.net}, nil
}

// A counting stream counts what passes.
type counting struct {
	net.Conn
	net *network
}

func (c *counting) Write(b []byte) (int, error) {
	c.net.mu.Lock()
	c.net.sent += len(b)
	c.net.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.net.mu.Lock()
	c.net.sent += n
	c.net.mu.Unlock()
	return n, err
}

func (x *node) renew(n byte, version string) record.Signed {
	x.net.t.Helper()
	s, err := x.records.Renew(record.Record{WireGuard: [][32]byte{{n, 1}}, Version: version}, key(n), time.Now())
	if err != nil {
		x.net.t.Fatal(err)
	}
	return s
}

func (x *node) links() int { n, _ := x.keeper.Head(); return int(n) }

// A node that was away finds out all it missed from one that it reaches, and
// the other learns its new address.
func TestReturn(t *testing.T) {
	w := newNetwork(t)
	old := founded(t, 1, 2)
	long := old
	for n := range byte(40) {
		long = with(t, long, authority.AddNode, 10+n)
	}
	a, b := w.add(1, long), w.add(2, old)
	a.renew(1, "new")
	for n := range byte(40) {
		if _, err := a.records.Put(sign(t, 10+n, 1)); err != nil {
			t.Fatal(err)
		}
	}
	b.renew(2, "moved")
	if err := b.Sync(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	if b.links() != 43 || len(b.records.All()) != 42 || len(a.records.All()) != 42 || b.changed != 1 {
		t.Errorf("%d links, %d and %d records, %d changes", b.links(), len(b.records.All()), len(a.records.All()), b.changed)
	}
	if len(b.seen) == 0 || b.seen[0] != a.id+" /ip4/192.0.2.2/tcp/1" || len(a.seen) == 0 || a.seen[0] != b.id+" /ip4/192.0.2.1/tcp/1" {
		t.Errorf("%v, %v", a.seen, b.seen)
	}
	// And the other way round, by whoever asks.
	c := w.add(10, old)
	if err := a.Sync(t.Context(), c.id); err != nil || c.links() != 43 {
		t.Errorf("%d links, %v", c.links(), err)
	}
	before := w.sent
	if err := a.Sync(t.Context(), b.id); err != nil {
		t.Fatal(err)
	}
	if n := w.sent - before; n > 300 {
		t.Errorf("two nodes that have the same exchange %d bytes", n)
	}
}

func sign(t testing.TB, n byte, seq uint64) record.Signed {
	t.Helper()
	s, err := record.Record{Cluster: cluster, Seq: seq, WireGuard: [][32]byte{{n, 1}}}.Sign(key(n))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The longer chain is given by the side that is asked, and by the side that
// asks; a chain of more bytes than one message carries comes in several.
func TestLongChain(t *testing.T) {
	short := founded(t, 1, 2)
	long := short
	for range 20 {
		long = with(t, long, authority.AddNode, 3)
		long = with(t, long, authority.AddNode, 2)
	}
	for _, asks := range []byte{1, 2} {
		w := newNetwork(t)
		a, b := w.add(1, long), w.add(2, short)
		a.budget, b.budget = 1000, 1000
		from, to := a, b
		if asks == 2 {
			from, to = b, a
		}
		if err := from.Sync(t.Context(), to.id); err != nil || b.links() != a.links() || a.links() != 43 {
			t.Errorf("asked by %d: %d of %d links, %v", asks, b.links(), a.links(), err)
		}
	}
	left := 100
	if n := len(within(long.Links(0), &left)); n != 1 {
		t.Errorf("%d links in 100 bytes", n)
	}
}

// What somebody says of who belongs to the cluster is believed only with the
// signatures of its operators.
func TestWhatIsNotBelieved(t *testing.T) {
	w := newNetwork(t)
	c := founded(t, 1, 2)
	a := w.add(1, c)
	forged := with(t, c, authority.AddNode, 3).Links(3)
	forged[0] = bytes.Clone(forged[0])
	forged[0][len(forged[0])-1]++
	if changed, err := a.extend(id(2), 3, forged, false); changed || err == nil {
		t.Errorf("a forged link: %v, %v", changed, err)
	}
	if changed, err := a.extend(id(2), 9, forged, false); changed || err == nil {
		t.Errorf("links from the future: %v, %v", changed, err)
	}
	bad := sign(t, 2, 5)
	bad.Sig[0]++
	other, err := record.Record{Cluster: [16]byte{8}, Seq: 9, WireGuard: [][32]byte{{9}}}.Sign(key(2))
	if err != nil {
		t.Fatal(err)
	}
	if a.take(id(2), []record.Signed{bad, other, sign(t, 99, 1)}) || len(a.records.All()) != 0 {
		t.Errorf("%d records", len(a.records.All()))
	}
	if !a.take(id(2), []record.Signed{sign(t, 2, 5)}) || a.take(id(2), []record.Signed{sign(t, 2, 4)}) {
		t.Error("a newer record is not taken, or an older one is")
	}
	stolen, err := record.Record{Cluster: cluster, Seq: 1, WireGuard: [][32]byte{{2, 1}}}.Sign(key(1))
	if err != nil {
		t.Fatal(err)
	}
	if a.take(id(1), []record.Signed{stolen}) || len(a.refused) != 2 {
		t.Errorf("the key of node 2 is node 1's, too: %v", a.refused)
	}
	if taken, is := errors.AsType[*record.TakenError](a.refused[len(a.refused)-1]); !is || taken.By.NodeID() != id(2) {
		t.Error(a.refused)
	}
}

// A member that opened sixty-four streams and let them lie just before the end of what it
// said it would send had this node hold hundreds of megabytes.
func TestOneMemberHasFewComparisons(t *testing.T) {
	w := newNetwork(t)
	a := w.add(1, founded(t, 1, 2, 3))
	serve := func(from byte) (net.Conn, chan error) {
		here, there := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- a.Serve(t.Context(), id(from), "", there); there.Close() }()
		return here, done
	}
	var open []net.Conn
	for range maxServe {
		c, _ := serve(2)
		if err := frame.Write(c, offer{Version: version}); err != nil { // it is being served
			t.Fatal(err)
		}
		open = append(open, c)
	}
	_, done := serve(2)
	if err := <-done; err == nil {
		t.Error("a third one is served")
	}
	other, _ := serve(3)
	if err := frame.Write(other, offer{Version: version}); err != nil {
		t.Errorf("another node: %v", err)
	}
	open[0].Close()
	for c, end := serve(2); ; c, end = serve(2) { // when the first has ended
		if frame.Write(c, offer{Version: version}) == nil {
			break
		}
		<-end
	}
}

// Two branches of one chain: each side is shown the other's, whoever has more links and
// whoever asks, and who of them is in an earlier incarnation gives way. In the same one
// nobody does; but whom the other has removed is kept out by both.
func TestTwoBranches(t *testing.T) {
	c := founded(t, 1, 2, 3, 4)
	recovered := func(c *authority.Chain) *authority.Chain {
		next, err := c.Next(c.Sign(c.Draft(authority.Recover, authority.Recovery{Incarnation: 2, Base: authority.PublicKey(key(2)), Reason: "test"}), key(200)))
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	short := with(t, c, authority.RemoveNode, 4)
	for name, long := range map[string]*authority.Chain{
		"one more": with(t, with(t, c, authority.AddNode, 5), authority.AddNode, 6), "as many": with(t, c, authority.AddNode, 5),
	} {
		for _, asks := range []int{0, 1} {
			for _, inc := range []bool{false, true} {
				w := newNetwork(t)
				stray := map[string][]authority.Removed{}
				shortest := short
				if inc {
					shortest = recovered(short)
				}
				pair := []*node{w.add(1, shortest), w.add(2, long)}
				for _, x := range pair {
					x.keeper = authority.NewKeeper(authority.KeeperConfig{Chain: x.keeper.Chain(), Stray: func(loses, counts *authority.Chain) {
						if out := authority.StrayOf(loses, counts).Against(counts); len(out) > 0 {
							stray[x.id] = out
						}
					}})
					x.Syncer.cfg.Chain = x.keeper
				}
				for range 2 { // who is asked may not know yet that they part
					if err := pair[asks].Sync(t.Context(), pair[1-asks].id); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
				_, is := pair[1].keeper.Chain().Node(authority.PublicKey(key(4)))
				switch {
				case inc && (is || pair[1].keeper.Incarnation() != 2 || len(stray) > 0):
					t.Errorf("%s, asked by %d: it is in incarnation %d; kept out: %v", name, asks, pair[1].keeper.Incarnation(), stray)
				case !inc && (!is || pair[1].links() != int(len(long.Links(0))) || len(stray[pair[1].id]) != 1 || len(stray) != 1):
					t.Errorf("%s, asked by %d: %d links; kept out: %v", name, asks, pair[1].links(), stray)
				}
				if n := pair[0].links(); n != len(shortest.Links(0)) {
					t.Errorf("%s: the other has %d links now", name, n)
				}
			}
		}
	}
}

// An older program has no word for a branch. What two say that have one chain it reads, and
// what it says is read; whoever shows it all of another chain is refused, and no worse off
// than by its own refusal of that chain.
func TestOlderProgram(t *testing.T) {
	type oldAnswer struct {
		offer
		Links [][]byte      `cbor:"6,keyasint,omitempty"`
		Have  []record.Have `cbor:"7,keyasint,omitempty"`
	}
	type oldGift struct {
		From    uint64          `cbor:"1,keyasint"`
		Links   [][]byte        `cbor:"2,keyasint,omitempty"`
		Records []record.Signed `cbor:"3,keyasint,omitempty"`
		Want    []record.Key    `cbor:"4,keyasint,omitempty"`
	}
	c := founded(t, 1, 2)
	a := answer{offer: offer{Version: version, Count: 3}, Links: c.Links(1), Have: []record.Have{{Node: record.KeyOf(key(2)), Seq: 1}}}
	g := gift{From: 1, Links: c.Links(1), Records: []record.Signed{sign(t, 2, 1)}, Want: []record.Key{record.KeyOf(key(1))}}
	oldA, oldG := oldAnswer{a.offer, a.Links, a.Have}, oldGift{g.From, g.Links, g.Records, g.Want}
	for _, err := range []error{
		frame.Decode(frame.Encode(a), new(oldAnswer)), frame.Decode(frame.Encode(oldA), new(answer)),
		frame.Decode(frame.Encode(g), new(oldGift)), frame.Decode(frame.Encode(oldG), new(gift)),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	a.All, g.All = true, true
	for _, err := range []error{frame.Decode(frame.Encode(a), new(oldAnswer)), frame.Decode(frame.Encode(g), new(oldGift))} {
		if !errors.Is(err, frame.ErrForm) {
			t.Error(err)
		}
	}
}

// A change is known by all within two seconds, also where not every node
// reaches every other.
func TestEjectSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t)
		line := []string{id(3), id(1), id(2), id(4), id(5), id(6)} // each reaches its neighbours
		w.apart = func(a, b *node) bool {
			d := slices.Index(line, a.id) - slices.Index(line, b.id)
			return d*d != 1 && a.id != id(7) && b.id != id(7)
		}
		c := founded(t, 1, 2, 3, 4, 5, 6, 7)
		w.add(7, c).hangs = true // all reach it, and wait for it
		var all []*node
		for n := range byte(6) {
			all = append(all, w.add(1+n, c))
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, x := range all {
			running.Go(func() { x.Run(ctx) })
		}
		time.Sleep(10 * time.Second)
		w.mu.Lock()
		before := w.sent
		w.mu.Unlock()
		time.Sleep(10 * time.Minute)
		w.mu.Lock()
		if rate := float64(w.sent-before) / 600 / 6; rate > 20 {
			t.Errorf("an idle node sends and receives %.1f bytes a second", rate)
		}
		all[5].off = true
		w.mu.Unlock()
		if err := all[0].keeper.Follow(with(t, c, authority.RemoveNode, 3)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for i, x := range all {
			if out := x.keeper.Member(id(3)) != nil; out != (i != 2 && i != 5) {
				t.Errorf("node %d knows: %v", i+1, out)
			}
		}
		w.mu.Lock()
		all[5].off = false
		w.mu.Unlock()
		time.Sleep(2 * time.Second)
		if all[5].keeper.Member(id(3)) == nil {
			t.Error("a node that was away does not know when it has been back for two seconds")
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

// FuzzServe and FuzzAsk have a member say whatever it likes: nothing that is
// not signed is believed.
func FuzzServe(f *testing.F) {
	c := founded(f, 1, 2)
	var b bytes.Buffer
	frame.Write(&b, offer{Version: version, Count: 4})
	frame.Write(&b, gift{From: 3, Links: with(f, c, authority.AddNode, 3).Links(3), Records: []record.Signed{sign(f, 2, 1)}, Want: []record.Key{record.KeyOf(key(1))}})
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newNetwork(t)
		a := w.add(1, c)
		a.Serve(t.Context(), id(2), "", conn{bytes.NewReader(b), io.Discard})
		trusted(t, a)
	})
}

func FuzzAsk(f *testing.F) {
	c := founded(f, 1, 2)
	var b bytes.Buffer
	frame.Write(&b, answer{offer: offer{Version: version, Count: 4}, Links: with(f, c, authority.AddNode, 3).Links(3), Have: []record.Have{{Node: record.KeyOf(key(2)), Seq: 1}}})
	frame.Write(&b, returned{[]record.Signed{sign(f, 2, 1)}})
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newNetwork(t)
		a := w.add(1, c)
		a.ask(id(2), "", conn{bytes.NewReader(b), io.Discard})
		trusted(t, a)
	})
}

// trusted wants all that a node holds to be signed.
func trusted(t *testing.T, x *node) {
	if _, err := authority.Read(x.keeper.Links(0)); err != nil {
		t.Error(err)
	}
	for _, s := range x.records.All() {
		if _, err := s.Open(); err != nil {
			t.Error(err)
		}
	}
}
