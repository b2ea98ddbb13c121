// Package feeds is what this node says of itself to all others, and what all
// say together: who holds which snapshot, whether it was verified, how full
// datastores are, how runs ended.
//
// Nothing is written down twice. What a datastore holds is in the datastore;
// what this node has said of it is in its feed; and the feed is made to say
// what is, whenever something has changed, at every start, and every hour. So
// a crash loses nothing, and it does no harm if somebody forgets to tell.
//
// A node that has company says nothing before it has seen what a member holds
// of its feed, and what the ledger knows of it: a machine that was set back would tell another story than
// before. It notices that, begins a new epoch, and says all of it anew.
package feeds

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/mesh/exchange"
	"github.com/holdfast-mesh/holdfast/mesh/facts"
	"github.com/holdfast-mesh/holdfast/mesh/feed"
	"github.com/holdfast-mesh/holdfast/mesh/gossip"
	"github.com/holdfast-mesh/holdfast/mesh/network"
	"github.com/holdfast-mesh/holdfast/mesh/record"
)

// Config says whose feeds they are.
type Config struct {
	File    string                 // required: where they are kept
	Key     ed25519.PrivateKey     // required: of this node
	Member  func(node string) bool // required: who belongs to the cluster
	Company func() bool            // required: there are others
	Ledger  Ledger                 // where feeds are checkpointed; default: nowhere
	Network network.Network        // to the others; default: none
	Gossip  *gossip.Gossip         // with them; default: none
	About   func() gossip.Meta     // what they shall know of this node, but for its feeds; default: nothing
	Heard   func(wentBack bool)    // is called when others, or the ledger, have shown whether this node's disk went back; default: nothing
	Alone   time.Duration          // a node without company says nothing for so long after its start: it may have some, and have been put back to before; default: it speaks at once
	Alarms  func() []facts.Alarm   // what people have to look at on this node; default: nothing
	Unknown func() bool            // this node does not know what it has: it says nothing, and what it has said stays; default: it knows
	Log     *slog.Logger           // default: discard
}

// A Ledger keeps how long feeds were.
type Ledger interface {
	Checkpoints() map[feed.Origin]feed.Head
	// Checkpoint writes down where the feed of this node ends, as it has signed it.
	Checkpoint(ctx context.Context, key ed25519.PrivateKey, h feed.Head) error
}

// Feeds are those of all nodes. Its methods may be called concurrently.
type Feeds struct {
	cfg      Config
	self     feed.Origin
	store    *feed.Store
	model    *facts.Model
	exchange *exchange.Exchange
	site     Site
	changed  chan struct{} // there is work

	mu       sync.Mutex
	names    map[feed.Origin]string // what nodeID has worked out
	pending  pending
	pulled   map[snapshot]string // from whom a snapshot came
	seen     map[string]bool     // datastores that were compared as a whole since they were opened
	restored feed.Head           // the disk went back behind this; zero: it did not
	denied   []Warning           // feeds that contradict the ledger
	begun    time.Time           // of Run
	supposed bool                // the model has what is not said yet
	heard    bool                // a member has shown what it holds of our feed
}

// New opens the feeds, and starts nothing. [Feeds.Attach] has to be called
// before [Feeds.Run].
func New(cfg Config) (*Feeds, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Member == nil || cfg.Company == nil {
		return nil, errors.New("feeds: nobody says who belongs to the cluster")
	}
	if cfg.Network == nil {
		cfg.Network = alone{}
	}
	if cfg.Heard == nil {
		cfg.Heard = func(bool) {}
	}
	if cfg.About == nil {
		cfg.About = func() gossip.Meta { return gossip.Meta{} }
	}
	if cfg.Alarms == nil {
		cfg.Alarms = func() []facts.Alarm { return nil }
	}
	store, err := open(cfg)
	if err != nil {
		return nil, err
	}
	f := &Feeds{
		cfg: cfg, self: feed.OriginOf(cfg.Key), store: store, model: facts.NewModel(), changed: make(chan struct{}, 1),
		pulled: map[snapshot]string{}, seen: map[string]bool{}, names: map[feed.Origin]string{},
	}
	f.exchange, err = exchange.New(exchange.Config{
		Key: cfg.Key, Store: store, Network: cfg.Network, Member: cfg.Member, Wanted: f.wanted, Peers: f.peers,
		Added: f.added, Forked: f.forked, Behind: f.behind, Log: cfg.Log,
	})
	if err == nil {
		err = f.model.Load(store)
	}
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	f.forget()
	return f, nil
}

// open opens the file. One that is damaged is set aside: the others hold what
// was in it, and that our own feed was longer once.
func open(cfg Config) (*feed.Store, error) {
	store, err := feed.Open(cfg.File)
	var damaged *feed.DamagedError
	if !errors.As(err, &damaged) {
		return store, err
	}
	aside := cfg.File + ".damaged"
	cfg.Log.Error("the file of feeds is damaged and set aside; feeds are had from the other nodes again", "file", aside, "err", err)
	if err := os.Rename(cfg.File, aside); err != nil {
		return nil, err
	}
	return feed.Open(cfg.File)
}

// Attach says what this node holds and runs.
func (f *Feeds) Attach(s Site) { f.site = s }

// Close closes the file.
func (f *Feeds) Close() error { return f.store.Close() }

// NodeID is the ID of the node whose feed it is.
func NodeID(o feed.Origin) string { return record.Key(o).NodeID() }

// originOf is the inverse.
func originOf(node string) (feed.Origin, bool) {
	k, err := record.ParseNodeID(node)
	return feed.Origin(k), err == nil
}

func (f *Feeds) wanted(o feed.Origin) bool { return o == f.self || f.cfg.Member(f.nodeID(o)) }

// nodeID is [NodeID], which is much work for what is asked for every feed
// whenever one has grown.
func (f *Feeds) nodeID(o feed.Origin) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, known := f.names[o]
	if !known {
		id = NodeID(o)
		f.names[o] = id
	}
	return id
}

// forget drops what the model says of nodes that are no members any more.
func (f *Feeds) forget() {
	for _, n := range f.model.Nodes() {
		if !f.wanted(n.Origin) {
			f.model.Forget(n.Origin)
		}
	}
}

// peers are the members that live, and what they hold.
func (f *Feeds) peers() (all []exchange.Peer) {
	if f.cfg.Gossip == nil {
		return nil
	}
	for _, p := range f.cfg.Gossip.Peers() {
		if p.State == gossip.Alive {
			all = append(all, exchange.Peer{Node: p.Node, Digest: p.Meta.Feeds})
		}
	}
	return all
}

// added follows what was stored, and tells the others.
func (f *Feeds) added(o feed.Origin, _ feed.Head) {
	if err := f.model.Follow(f.store, o); err != nil {
		f.cfg.Log.Error("a feed cannot be read", "node", NodeID(o), "err", err)
	}
	if f.cfg.Gossip == nil {
		return
	}
	f.Publish()
	if o == f.self {
		f.announce(gossip.NewsHead, "head")
	}
}

func (f *Feeds) forked(v *feed.Fork) { f.announce(gossip.NewsEvidence, NodeID(v.Origin)) }

func (f *Feeds) announce(kind uint8, key string) {
	if f.cfg.Gossip == nil {
		return
	}
	if err := f.cfg.Gossip.Announce(kind, key, nil); err != nil {
		f.cfg.Log.Debug("news are not told", "err", err)
	}
}

// behind notes that others hold more of our feed than we do.
func (f *Feeds) behind(known feed.Head) {
	f.mu.Lock()
	f.restored = known
	f.pending.all = true
	f.mu.Unlock()
	f.cfg.Heard(true)
	f.wake()
}

// Publish tells the others how this node is now.
func (f *Feeds) Publish() {
	if f.cfg.Gossip == nil {
		return
	}
	m := f.cfg.About()
	h := f.exchange.Heads()[f.self]
	m.Feed, m.Feeds = gossip.Place{Epoch: h.Epoch, Seq: h.Seq}, f.exchange.Digest()
	f.cfg.Gossip.Publish(m)
}

// Exchange gives feeds to members and takes theirs, until ctx ends. It is for
// when the network is up.
func (f *Feeds) Exchange(ctx context.Context) error {
	if f.cfg.Gossip != nil {
		cancel := f.cfg.Gossip.Subscribe(f.happened)
		defer cancel()
	}
	return f.exchange.Run(ctx)
}

// happened asks who has news.
func (f *Feeds) happened(e gossip.Event) {
	switch {
	case e.Kind == gossip.Joined,
		e.Kind == gossip.Announced && (e.News.Kind == gossip.NewsHead || e.News.Kind == gossip.NewsEvidence):
		f.exchange.Kick(e.Node)
	}
}

// How often what.
const (
	settleTime   = 200 * time.Millisecond // what changes at the same time is said together
	glanceEvery  = 15 * time.Second
	compareEvery = time.Hour
)

// Run says what this node holds until ctx ends.
func (f *Feeds) Run(ctx context.Context) error {
	if f.site == nil {
		return errors.New("feeds: nobody says what this node holds")
	}
	f.mu.Lock()
	f.begun = time.Now()
	f.mu.Unlock()
	f.everything()
	glance, checkpoint := time.NewTicker(glanceEvery), time.NewTimer(firstCheckpoint)
	defer glance.Stop()
	defer checkpoint.Stop()
	compared := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.changed:
			if !wait(ctx, settleTime) {
				return nil
			}
		case <-checkpoint.C:
			checkpoint.Reset(f.checkpoint(ctx))
			continue
		case <-glance.C:
			f.forget()
			f.mu.Lock()
			f.pending.stores = true
			if time.Since(compared) >= compareEvery {
				compared, f.pending.all = time.Now(), true
			}
			f.mu.Unlock()
			f.Publish()
		}
		if err := f.say(ctx); err != nil && ctx.Err() == nil {
			f.cfg.Log.Warn("this node's feed does not say what it holds; it is tried again", "err", err)
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// maySpeak tells whether what this node says cannot contradict what it has
// said before its disk went back: it has no company, and had time to be told of
// some, or has asked it and the ledger.
func (f *Feeds) maySpeak() bool {
	f.mu.Lock()
	heard, begun := f.heard, f.begun
	f.mu.Unlock()
	switch {
	case heard:
		return true
	case !f.cfg.Company() && time.Since(begun) < f.cfg.Alone:
		return false
	case !f.cfg.Company():
		f.cfg.Heard(false)
		return true
	}
	if n := f.exchange.Counts(); n.Pulls <= n.Failed {
		return false
	}
	// Whom it has asked may have lost everything, too: the ledger knows better.
	if f.cfg.Ledger != nil {
		if err := f.compareCheckpoints(); err != nil {
			f.cfg.Log.Warn("this node's feed cannot be compared with the ledger; it says nothing before that", "err", err)
			return false
		}
	}
	f.mu.Lock()
	f.heard = true
	f.mu.Unlock()
	f.cfg.Heard(false)
	return true
}

// say makes the feed say what is, of all that has changed.
func (f *Feeds) say(ctx context.Context) error {
	if f.cfg.Unknown != nil && f.cfg.Unknown() {
		return nil
	}
	if !f.maySpeak() {
		time.AfterFunc(time.Second, f.wake)
		return f.suppose(ctx)
	}
	if err := f.stopSupposing(); err != nil {
		return err
	}
	f.mu.Lock()
	todo, anew := f.pending, f.exchange.Heads()[f.self].Before(f.restored)
	f.pending = pending{}
	f.mu.Unlock()
	all, err := f.plan(ctx, todo)
	if err != nil {
		f.mu.Lock()
		f.pending.all = true // what was not said is found again
		f.mu.Unlock()
	}
	statements, bad := encode(all)
	err = errors.Join(err, bad)
	for len(statements) > 0 {
		n := min(len(statements), batch)
		if _, e := f.exchange.Append(statements[:n]...); e != nil {
			f.mu.Lock()
			f.pending.all = true
			f.mu.Unlock()
			return errors.Join(err, e)
		}
		statements = statements[n:]
	}
	if anew || f.model.WorthBase(f.self) {
		err = errors.Join(err, f.rebase())
	}
	return err
}

// suppose has this node know what it will say when it may: it is asked for it
// meanwhile. Nobody else hears of it.
func (f *Feeds) suppose(ctx context.Context) error {
	f.mu.Lock()
	todo := f.pending
	f.pending = pending{}
	f.mu.Unlock()
	if todo.none() {
		return nil
	}
	all, err := f.plan(ctx, todo)
	if err != nil {
		f.mu.Lock()
		f.pending.all = true
		f.mu.Unlock()
	}
	f.model.Suppose(f.self, time.Now(), all)
	f.mu.Lock()
	f.supposed = true
	f.mu.Unlock()
	return err
}

// stopSupposing has everything be said that was only supposed.
func (f *Feeds) stopSupposing() error {
	f.mu.Lock()
	supposed := f.supposed
	f.mu.Unlock()
	if !supposed {
		return nil
	}
	if err := f.model.Reread(f.store, f.self); err != nil {
		return err
	}
	f.mu.Lock()
	f.supposed, f.pending.all = false, true
	f.mu.Unlock()
	return nil
}

// batch is how many records are made durable at once.
const batch = 1000

func encode(all []facts.Fact) (statements []feed.Statement, err error) {
	for _, v := range all {
		st, e := facts.Encode(v)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("say %T: %w", v, e))
			continue
		}
		statements = append(statements, st)
	}
	return statements, err
}

// rebase has the feed begin anew with what holds.
func (f *Feeds) rebase() error {
	base, err := f.model.Base(f.self)
	if err != nil {
		return err
	}
	return f.exchange.Rebase(base)
}
