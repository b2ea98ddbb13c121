// Package gossip is what nodes tell each other of themselves, second by second:
// that they live, what they run, how much room they have, where their feed
// ends, and that a snapshot has come.
//
// It is hashicorp/memberlist on the network of the mesh, and never authority:
// who belongs to the cluster is said from outside ([Gossip.SetMembers]). What a
// node says of itself it signs, so a member that passes it on cannot change it;
// that a node has failed is rumour, which the node itself denies if it lives, and
// can always deny (rumour.go).
//
// Memberlist trusts whoever reaches its port and reads more than it should
// (compression within compression, headers that promise gigabytes). All that
// comes in is therefore screened first: packets and streams of strangers,
// names that are not the sender's or nobody's, forms that we never send. What
// is refused is counted.
//
// A death is known to all within 20 seconds for up to 50 nodes. Memberlist
// forgets the dead, so nodes that are members and absent are called again and
// again, which is how the halves of a split network find each other.
package gossip

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-mesh/holdfast/mesh/network"
)

const (
	probeInterval = 2 * time.Second
	probeTimeout  = time.Second
	pushPull      = time.Minute
	streamTimeout = 5 * time.Second
	// callInterval is how often one absent member is called.
	callInterval = 5 * time.Second
	// publishInterval is how often a changed [Meta] is sent at most: every
	// change costs every node some kilobytes.
	publishInterval = 15 * time.Second
	// hurryInterval is how often one is sent without which we are not believed.
	hurryInterval = 2 * time.Second
	leaveTimeout  = 3 * time.Second
)

// A Member is a node that belongs to the cluster, and the key of its ID.
type Member struct {
	Node string
	Key  ed25519.PublicKey
}

// Config says who gossips, with whom, over what.
type Config struct {
	Self    string             // required: our node ID
	Key     ed25519.PrivateKey // required: of that ID
	Network network.Network    // required
	Members []Member           // with or without ourselves; see [Gossip.SetMembers]
	Log     *slog.Logger       // default: discard
}

// A Gossip is this node's part in the talk, while [Gossip.Run] runs.
type Gossip struct {
	cfg     Config
	refused refusals
	events  events
	heard   *heard
	news    *news
	kick    chan struct{} // there is a new meta, or a new member
	// outgrown says that the new meta cannot wait: without it we are not believed.
	outgrown chan struct{}
	denial   chan struct{} // more is published

	mu      sync.Mutex
	members map[string]ed25519.PublicKey // others and ourselves
	peers   map[string]*Peer             // who of the members has been seen
	meta    []byte                       // ours, signed
	said    Meta                         // what it says
	started int64                        // as it says
	// How far the numbers of each node have come, and how often each may still accuse others.
	incarnations map[string]*incarnation
	published    uint32 // how far we may come, as all know
	owed         uint32 // what is to be denied when that is far enough, 0: nothing
	budgets      map[pair]*budget
	twice        time.Time              // see Twice
	clocks       map[string]clock       // of others
	list         *memberlist.Memberlist // nil: not running
	transport    *transport
}

// New returns a gossip that has not begun.
func New(cfg Config) (*Gossip, error) {
	switch {
	case cfg.Self == "" || len(cfg.Key) != ed25519.PrivateKeySize:
		return nil, errors.New("gossip: no node ID or no key")
	case cfg.Network == nil:
		return nil, errors.New("gossip: no network")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gossip{
		cfg: cfg, heard: newHeard(), kick: make(chan struct{}, 1), outgrown: make(chan struct{}, 1), denial: make(chan struct{}, 1), peers: map[string]*Peer{},
		clocks: map[string]clock{}, incarnations: map[string]*incarnation{cfg.Self: {known: 1}}, budgets: map[pair]*budget{}, published: baseReach,
	}
	g.refused.log, g.refused.n, g.refused.said = cfg.Log, map[string]uint64{}, map[said]time.Time{}
	g.events.more = make(chan struct{}, 1)
	g.news = newNews(func() int { return len(g.Peers()) + 1 })
	g.meta = Meta{}.sign(cfg.Self, cfg.Key)
	g.SetMembers(cfg.Members)
	return g, nil
}

// SetMembers says who belongs to the cluster. Who does not any more is heard
// no more, and spoken to no more, when it returns.
func (g *Gossip) SetMembers(all []Member) {
	members := map[string]ed25519.PublicKey{g.cfg.Self: g.cfg.Key.Public().(ed25519.PublicKey)}
	for _, m := range all {
		members[m.Node] = m.Key
	}
	g.mu.Lock()
	g.members = members
	t, list := g.transport, g.list
	var gone []Peer
	for name, p := range g.peers {
		if _, ok := members[name]; !ok {
			gone = append(gone, *p)
			delete(g.peers, name)
		}
	}
	maps.DeleteFunc(g.budgets, func(p pair, _ *budget) bool { return members[p.from] == nil || members[p.of] == nil })
	g.mu.Unlock()
	for _, p := range gone {
		g.heard.forget(p.Node)
		g.news.forget(p.Node)
		if t != nil {
			t.hangUp(p.Node)
		}
		g.events.add(Event{Kind: Removed, Node: p.Node, Meta: p.Meta})
	}
	if list != nil { // who was removed a moment ago and is back may never have been away for memberlist
		for _, n := range list.Members() {
			(*delegate)(g).seen(n, Joined)
		}
	}
	g.wake()
}

// Member tells whether a node belongs to the cluster.
func (g *Gossip) Member(node string) bool { return g.key(node) != nil }

func (g *Gossip) key(node string) ed25519.PublicKey {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.members[node]
}

func (g *Gossip) wake() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// Publish says what others shall know of this node. It is cheap to call often:
// only what changes is sent, and that not more often than every 15 seconds.
func (g *Gossip) Publish(m Meta) {
	g.mu.Lock()
	m.Reach = g.incarnationOf(g.cfg.Self).signed
	signed := m.sign(g.cfg.Self, g.cfg.Key)
	changed := string(signed) != string(g.meta)
	g.said, g.meta, g.started = m, signed, m.Started
	g.mu.Unlock()
	if changed {
		g.wake()
	}
}

// Run gossips until ctx ends, says farewell, and stops.
func (g *Gossip) Run(ctx context.Context) error {
	life, end := context.WithCancel(context.Background()) // outlives ctx, for the farewell
	defer end()
	t, err := newTransport(life, g)
	if err != nil && ctx.Err() != nil {
		return nil // it ends as it begins, and its network has ended already
	}
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	list, err := memberlist.Create(g.listConfig(t))
	if err != nil {
		return errors.Join(fmt.Errorf("start gossip: %w", err), t.Shutdown())
	}
	g.mu.Lock()
	g.list, g.transport = list, t
	g.mu.Unlock()
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return g.callAbsent(ctx, list) })
	work.Go(func() error { return g.publish(ctx, list) })
	work.Go(func() error { return g.deny(ctx, t) })
	work.Go(func() error { return g.events.dispatch(ctx) })
	work.Go(func() error { return t.failed(ctx) })
	err = work.Wait()
	if e := g.farewell(); e != nil {
		g.cfg.Log.Debug("the others may take this node for failed", "error", e)
	}
	if e := list.Leave(leaveTimeout); e != nil {
		g.cfg.Log.Debug("the others may take this node for failed", "error", e)
	}
	g.mu.Lock()
	g.list, g.transport = nil, nil
	g.mu.Unlock()
	return errors.Join(err, list.Shutdown())
}

func (g *Gossip) listConfig(t *transport) *memberlist.Config {
	c := memberlist.DefaultWANConfig()
	c.Name, c.Transport, c.RequireNodeNames = g.cfg.Self, t, true
	c.BindPort, c.AdvertisePort = network.ServiceGossip, network.ServiceGossip
	c.ProbeInterval, c.ProbeTimeout = probeInterval, probeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult, c.AwarenessMaxMultiplier = 3, 2, 2
	c.GossipNodes, c.RetransmitMult, c.GossipToTheDeadTime = 3, 3, 30*time.Second
	c.PushPullInterval, c.TCPTimeout = pushPull, streamTimeout
	c.UDPBufferSize = network.MaxPacket - 32 // memberlist's checksum and counts come on top
	c.EnableCompression = false
	d := (*delegate)(g)
	c.Delegate, c.Events, c.Alive, c.Ping = d, d, d, d
	c.Logger = log.New(logWriter{g.cfg.Log}, "", 0)
	return c
}

// callAbsent calls members that are not there, in turn, until ctx ends: slowly
// while none answers, fast while they do.
func (g *Gossip) callAbsent(ctx context.Context, list *memberlist.Memberlist) error {
	called := map[string]time.Time{}
	for {
		wait := callInterval*3/4 + rand.N(callInterval/2)
		if name := g.absent(called); name != "" {
			began := time.Now()
			called[name] = began
			if _, err := list.Join([]string{joinAddress(name)}); err != nil {
				g.cfg.Log.Debug("a member does not answer", "node", name, "error", err)
			} else {
				wait = callInterval / 5
			}
			wait -= min(wait, time.Since(began))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// absent returns the member that is not there and was not called for longest;
// among those that never were, any.
func (g *Gossip) absent(called map[string]time.Time) (name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for m := range g.members {
		if p := g.peers[m]; m == g.cfg.Self || p != nil && p.State == Alive {
			delete(called, m)
		} else if name == "" || called[m].Before(called[name]) {
			name = m
		}
	}
	return name
}

// publish sends our meta when it has changed, until ctx ends.
func (g *Gossip) publish(ctx context.Context, list *memberlist.Memberlist) error {
	var sent string
	for {
		g.mu.Lock()
		wait, hurry := time.Duration(0), time.Duration(0)
		if string(g.meta) != sent {
			g.outgrow(g.incarnationOf(g.cfg.Self).known + 1)
		}
		meta := string(g.meta)
		g.mu.Unlock()
		if meta != sent {
			if err := list.UpdateNode(streamTimeout); err != nil {
				g.cfg.Log.Debug("news of this node may be late", "error", err)
			}
			sent, wait, hurry = meta, publishInterval-hurryInterval, hurryInterval
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(hurry):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-g.outgrown:
		case <-time.After(wait):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-g.kick:
		}
	}
}
