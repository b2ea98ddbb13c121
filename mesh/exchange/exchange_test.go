package exchange

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/feed"
	"github.com/holdfast-mesh/holdfast/mesh/meshtest"
	"github.com/holdfast-mesh/holdfast/mesh/network"
)

// A crowd is nodes that have each other's feeds, in virtual time.
type crowd struct {
	t     *testing.T
	net   *meshtest.Network
	nodes []*node
	out   map[string]bool // who is no member
}

type node struct {
	*Exchange
	name   string
	key    ed25519.PrivateKey
	store  *feed.Store
	added  int
	forks  []*feed.Fork
	behind []feed.Head
}

func newCrowd(t *testing.T, n int) *crowd {
	t.Helper()
	c := &crowd{t: t, net: meshtest.New(1), out: map[string]bool{}}
	for i := range n {
		x := &node{name: fmt.Sprint("node ", i), key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, 32))}
		c.nodes = append(c.nodes, x)
	}
	for _, x := range c.nodes {
		c.open(x, "")
	}
	return c
}

// open makes the exchange of x; the file of its store is named after it.
func (c *crowd) open(x *node, suffix string) {
	c.t.Helper()
	var err error
	if x.store, err = feed.Open(filepath.Join(c.t.TempDir(), "feeds"+suffix)); err != nil {
		c.t.Fatal(err)
	}
	store := x.store
	c.t.Cleanup(func() { store.Close() })
	x.Exchange, err = New(Config{
		Key: x.key, Store: x.store, Network: c.net.Node(x.name),
		Member: func(node string) bool { return !c.out[node] },
		Wanted: func(o feed.Origin) bool {
			for _, y := range c.nodes {
				if feed.OriginOf(y.key) == o {
					return true
				}
			}
			return false
		},
		Peers: func() (all []Peer) {
			for _, y := range c.nodes {
				if y != x {
					all = append(all, Peer{y.name, y.Digest()})
				}
			}
			return all
		},
		Added:  func(feed.Origin, feed.Head) { x.added++ },
		Forked: func(f *feed.Fork) { x.forks = append(x.forks, f) },
		Behind: func(h feed.Head) { x.behind = append(x.behind, h) },
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowd) run(nodes ...*node) {
	for _, x := range nodes {
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		e := x.Exchange
		go func() { done <- e.Run(ctx) }()
		c.t.Cleanup(func() {
			stop()
			if err := <-done; err != nil {
				c.t.Error(err)
			}
		})
	}
}

func (x *node) say(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		if _, err := x.Append(feed.Statement{Kind: 7, Data: fmt.Appendf(nil, "%s says %d", x.name, i)}); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *crowd) same() bool {
	for _, x := range c.nodes {
		if x.Digest() != c.nodes[0].Digest() {
			return false
		}
	}
	return true
}

func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > limit {
			t.Fatalf("%s: not after %v", what, limit)
		}
	}
}

// Feeds come to all, also through others, and an idle mesh is silent.
func TestFeedsReachAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 4)
		c.net.Slow(80*time.Millisecond, 0.2, 0.01)
		for _, x := range c.nodes {
			x.say(t, 30)
		}
		c.net.Cut(c.nodes[0].name, c.nodes[3].name) // these two never talk
		c.net.Cut(c.nodes[3].name, c.nodes[0].name)
		c.run(c.nodes...)
		within(t, 5*time.Minute, "all have all", c.same)
		pulls := c.nodes[0].Counts().Pulls
		time.Sleep(time.Hour)
		if again := c.nodes[0].Counts().Pulls; again != pulls {
			t.Errorf("%d pulls in an idle hour", again-pulls)
		}
		c.nodes[1].say(t, 1)
		c.nodes[2].Kick(c.nodes[1].name)
		within(t, 2*time.Second, "who is told has it at once", func() bool { return c.nodes[2].Digest() == c.nodes[1].Digest() })
		if n := c.nodes[2].Counts(); n.Taken != 91 || n.Refused != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// A pull that breaks off goes on where it ended.
func TestPullGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 2)
		a, b := c.nodes[0], c.nodes[1]
		big := make([]byte, 60<<10)
		for range 30 { // some batches
			if _, err := a.Append(feed.Statement{Kind: 7, Data: big}); err != nil {
				t.Fatal(err)
			}
		}
		c.net.Slow(time.Second, 0, 0)
		c.run(a)
		ctx, stop := context.WithTimeout(t.Context(), 6*time.Second)
		defer stop()
		if err := b.Pull(ctx, a.name); err == nil {
			t.Fatal("it ended in time")
		}
		part := b.Heads()[a.self].Seq
		if part == 0 || part == 30 {
			t.Fatalf("%d records", part)
		}
		given := a.Counts().Given
		if err := b.Pull(t.Context(), a.name); err != nil || b.Heads()[a.self].Seq != 30 {
			t.Fatal(err, b.Heads())
		}
		if again := a.Counts().Given - given; again != 30-part {
			t.Errorf("%d records were given, %d were missing", again, 30-part)
		}
	})
}

// A node with two histories is found out by whoever sees both, and then by all.
func TestTwoHistories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 4)
		liar, a, b, far := c.nodes[0], c.nodes[1], c.nodes[2], c.nodes[3]
		liar.say(t, 3)
		c.run(c.nodes[1:]...)
		ctx, stop := context.WithCancel(t.Context())
		first := liar.Exchange
		done := make(chan error)
		go func() { done <- first.Run(ctx) }()
		time.Sleep(time.Millisecond)
		if err := a.Pull(t.Context(), liar.name); err != nil {
			t.Fatal(err)
		}
		stop()
		<-done
		c.open(liar, "-other") // the same key, another past
		liar.say(t, 5)
		c.run(liar)
		time.Sleep(time.Millisecond)
		if err := b.Pull(t.Context(), liar.name); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Minute, "all know", func() bool { return len(a.forks)+len(b.forks)+len(far.forks) == 3 })
		for _, x := range []*node{a, b, far} {
			f := x.Forks()
			if len(f) != 1 || f[0].Origin != liar.self {
				t.Errorf("%s: %v", x.name, f)
			}
			if kept, err := x.store.Forks(); len(kept) != 1 || err != nil {
				t.Errorf("%s forgets it: %v", x.name, err)
			}
		}
		before := a.Heads()[liar.self]
		liar.say(t, 1)
		time.Sleep(5 * time.Minute)
		if a.Heads()[liar.self] != before {
			t.Error("the feed is taken though it is forked")
		}
	})
}

// A node whose disk went back learns it from its peers and begins an epoch.
func TestDiskWentBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 2)
		a, b := c.nodes[0], c.nodes[1]
		a.say(t, 3)
		records, err := a.store.After(a.self, 0, 0, 10, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		a.say(t, 2)
		ctx, stop := context.WithCancel(t.Context())
		first, done := a.Exchange, make(chan error)
		go func() { done <- first.Run(ctx) }()
		time.Sleep(time.Millisecond)
		if err := b.Pull(t.Context(), a.name); err != nil {
			t.Fatal(err)
		}
		stop()
		<-done
		c.open(a, "-restored")
		if _, err := a.store.Take(a.self, records); err != nil {
			t.Fatal(err)
		}
		if a.Exchange, err = New(a.cfg); err != nil {
			t.Fatal(err)
		}
		c.run(a, b)
		within(t, 2*time.Minute, "it learns it", func() bool { return len(a.behind) == 1 })
		a.say(t, 1)
		within(t, 2*time.Minute, "it is believed", c.same)
		if h := b.Heads()[a.self]; h.Epoch != 2 || h.Seq != 4 || len(b.Forks()) != 0 {
			t.Errorf("%+v, %v", h, b.Forks())
		}
	})
}

func TestCheckpoint(t *testing.T) {
	c := newCrowd(t, 2)
	a, b := c.nodes[0], c.nodes[1]
	a.say(t, 2)
	known := a.Heads()
	if behind, wrong, err := b.Compare(known); len(behind) != 1 || len(wrong) != 0 || err != nil {
		t.Error(behind, wrong, err)
	}
	a.say(t, 1)
	if behind, wrong, err := a.Compare(known); len(behind) != 0 || len(wrong) != 0 || err != nil {
		t.Error(behind, wrong, err)
	}
	known[a.self] = feed.Head{Epoch: 1, Seq: 2, Hash: [32]byte{1}}
	if _, wrong, err := a.Compare(known); len(wrong) != 1 || !errors.Is(wrong[0].Err, feed.ErrForked) || err != nil {
		t.Error(wrong, err)
	}
}

func TestStrangersGetNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 2)
		a, b := c.nodes[0], c.nodes[1]
		a.say(t, 1)
		c.run(a)
		time.Sleep(time.Millisecond)
		c.out[b.name] = true
		if err := b.Pull(t.Context(), a.name); err == nil {
			t.Error("a stranger is served")
		}
		if n := a.Counts(); n.Strangers != 1 || n.Given != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// Who says too much is taken little by little.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 2)
		a, b := c.nodes[0], c.nodes[1]
		b.budget = newBudget(600 << 10)
		for range 40 {
			if _, err := a.Append(feed.Statement{Kind: 7, Data: make([]byte, 60<<10)}); err != nil {
				t.Fatal(err)
			}
		}
		c.run(a, b)
		time.Sleep(2 * time.Second)
		if err := b.Pull(t.Context(), a.name); err != nil {
			t.Fatal(err)
		}
		if n := b.Counts(); n.BytesTaken > 900<<10 || n.BytesTaken < 500<<10 || n.Exhausted == 0 {
			t.Errorf("%+v", n)
		}
		within(t, 3*time.Hour, "it has all in the end", func() bool { return b.Heads()[a.self].Seq == 40 })
	})
}

// A peer that names heads and does not show them, or answers nonsense, costs
// an error and nothing else.
func TestLyingPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3)
		a, victim := c.nodes[0], c.nodes[2]
		a.say(t, 2)
		records, _ := a.store.After(a.self, 0, 0, 10, 1<<20)
		if _, err := victim.store.Take(a.self, records); err != nil {
			t.Fatal(err)
		}
		victim.heads[a.self] = a.Heads()[a.self]
		head := func(h feed.Head, forked bool) []byte { return encodeHeads([]theirHead{{placed{a.self, h}, forked}}) }
		for name, answers := range map[string][][]byte{
			"a head that it has not":            {head(feed.Head{Epoch: 1, Seq: 9}, false), encodeRecords(nil)},
			"the same records for ever":         {head(feed.Head{Epoch: 1, Seq: 9}, false), encodeRecords(records), encodeRecords(records)},
			"another hash":                      {head(feed.Head{Epoch: 1, Seq: 2, Hash: [32]byte{1}}, false), encodeRecords(records[1:])},
			"a proof that is none":              {head(feed.Head{}, true), []byte("it lies")},
			"a fork of one record":              {head(feed.Head{}, true), append([]byte{0, 0, 0, byte(len(records[0]))}, append(records[0], records[0]...)...)},
			"half a list":                       {head(feed.Head{}, false)[:40]},
			"more records than bytes":           {head(feed.Head{Epoch: 1, Seq: 9}, false), {0, 0, 0, 9}},
			"an answer as large as it can name": {bytes.Repeat([]byte{0xff}, maxAnswer+1)},
		} {
			ended := c.lie(c.nodes[1].name, answers)
			if err := victim.Pull(t.Context(), c.nodes[1].name); err == nil {
				t.Errorf("%s: no error", name)
			}
			<-ended
			if len(victim.Forks()) != 0 || victim.Heads()[a.self].Seq != 2 {
				t.Errorf("%s: it is believed", name)
			}
		}
	})
}

// lie answers one session with what it is given.
func (c *crowd) lie(name string, answers [][]byte) (ended <-chan struct{}) {
	l, err := c.net.Node(name).Listen(network.ServiceFeeds)
	if err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer l.Close()
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for _, a := range answers {
			if _, err := readFrame(conn, requestSize); err != nil {
				return
			}
			writeFrame(conn, a)
		}
		readFrame(conn, requestSize)
	}()
	return done
}

func FuzzWire(f *testing.F) {
	f.Add(request{askAfter, feed.Origin{1}, 1, 2}.bytes())
	f.Add(encodeHeads([]theirHead{{placed{feed.Origin{1}, feed.Head{Epoch: 1, Seq: 2}}, true}}))
	f.Add(encodeRecords([][]byte{{1, 2}, {3}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRequest(b); err == nil && !bytes.Equal(r.bytes(), b) {
			t.Errorf("request %x is read as %+v", b, r)
		}
		if h, err := parseHeads(b); err == nil && !bytes.Equal(encodeHeads(h), b) {
			t.Errorf("heads %x are read as %+v", b, h)
		}
		if r, err := parseRecords(b); err == nil && !bytes.Equal(encodeRecords(r), b) {
			t.Errorf("records %x are read as %x", b, r)
		}
	})
}
