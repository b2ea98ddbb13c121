// Package cluster is this node's part of the cluster that it belongs to: the
// chain of who belongs to it, the guard, the ledger, and the group that agrees
// on it. Accounts and settings are rows of the ledger; whoever reads them gets
// what is known here, at once and without a quorum.
//
// What it keeps, in a directory of its own below that of the node:
//
//	authority        the chain of statements that operators have signed
//	guard.1 guard.2  what this node has promised, see package guard
//	raft.orphan-N    likewise, of before it was put away
//	raft/            log, vote and snapshots of the ledger
//	drafts.json      changes that wait for a quorum, see package drafts
//	strays           whom a branch of the chain has removed that does not count, see package strays
//	logins.json      second factors that were used here while there was no quorum
//	restored         there is one if the disk went back once, see package votes
//	heard            changed when the ledger was heard of last
//	replaces         the node whose place this one takes, until it has
//	founding         there is one while the cluster is being made
//
// A cluster is made by [Found], with one node, which needs nobody else.
package cluster

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-mesh/holdfast/access"
	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/claims"
	"github.com/holdfast-mesh/holdfast/consensus/drafts"
	"github.com/holdfast-mesh/holdfast/consensus/guard"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/consensus/placement"
	"github.com/holdfast-mesh/holdfast/node/cluster/hasty"
	"github.com/holdfast-mesh/holdfast/node/cluster/strays"
	"github.com/holdfast-mesh/holdfast/node/cluster/sums"
	"github.com/holdfast-mesh/holdfast/node/cluster/votes"
	"github.com/holdfast-mesh/holdfast/pbs/settings"
)

// The names in the directory.
const (
	authorityFile = "authority"
	loginsFile    = "logins.json"
	foundingFile  = "founding"
	straysFile    = "strays"
)

// Config says which node of which cluster this is.
type Config struct {
	Dir     string             // required
	Key     ed25519.PrivateKey // required; of this node
	Network consensus.Network  // to the other nodes; default: none, this node is alone
	Version string             // of this program
	Profile consensus.Profile  // default: consensus.WAN
	Feeds   bool               // somebody calls WentBack, soon after the start; until then this node does not vote
	Log     *slog.Logger       // default: discard
	Now     func() time.Time   // the clock that the ledger gets from this node; default: Clock
	Clock   func() time.Time   // that of this machine; default: time.Now

	// Alarm has people be shown that something has happened here, under a key; with
	// no text, that it is over. Default: nobody is.
	Alarm func(key, text, hint string)
}

func (c Config) withDefaults() Config {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Alarm == nil {
		c.Alarm = func(string, string, string) {}
	}
	if c.Network == nil {
		c.Network = alone{}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Now == nil {
		c.Now = c.Clock
	}
	return c
}

// A Cluster is this node's part of it.
type Cluster struct {
	cfg      Config
	self     authority.Key
	keeper   *authority.Keeper
	guard    *guard.Guard
	ledger   *ledger.Ledger
	group    *consensus.Group
	client   *ledger.Client
	claims   *claims.Claims
	accounts *Accounts
	settings *Settings
	drafts   *drafts.Drafts
	votes    *votes.Votes
	sums     *sums.Sums
	hasty    *hasty.Watch
	strays   *strays.Store

	others    sync.Map     // of *Settings, by node: see SettingsOf
	inherited func() error // see OnInherit

	orphaning   sync.Mutex // held while the file of orphans is read or written
	orphansTold string     // which of them were told last

	mu       sync.Mutex
	heir     string   // see NotInherited
	watchers []func() // are told when the ledger or the chain has changed
}

// ErrNone says that a node belongs to no cluster yet.
var ErrNone = errors.New("this node belongs to no cluster")

// Open reads what this node knows of its cluster; it takes part in it while
// [Cluster.Run] runs. A Cluster that is not used any more has to be closed.
func Open(cfg Config) (*Cluster, error) {
	c, err := open(cfg, again)
	if err != nil {
		return nil, fmt.Errorf("open the cluster in %s: %w", cfg.Dir, err)
	}
	return c, nil
}

// The ways to open a cluster.
type way int

const (
	again    way = iota // that this node belongs to
	entering            // for the first time
	founding            // which this node makes
)

func open(cfg Config, how way) (c *Cluster, err error) {
	cfg = cfg.withDefaults()
	chain, err := readChain(filepath.Join(cfg.Dir, authorityFile))
	if errors.Is(err, os.ErrNotExist) {
		err = ErrNone
	}
	if err != nil {
		return nil, err
	}
	promises, err := guard.Open(guard.Config{Dir: cfg.Dir})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, promises.Close())
		}
	}()
	c = &Cluster{cfg: cfg, self: authority.PublicKey(cfg.Key), guard: promises}
	c.hasty = hasty.New(hasty.Config{Now: cfg.Now, Clock: cfg.Clock, Known: promises.KnownFor, Alarm: cfg.Alarm})
	if chain, err = c.settleBranch(chain); err != nil {
		return nil, err
	}
	if err := c.believe(chain); err != nil {
		return nil, err
	}
	c.votes = votes.Open(cfg.Dir, cfg.Feeds)
	c.ledger = ledger.New(c.changed)
	c.sums = sums.New(c.ledger)
	c.strays = c.openStrays()
	c.keeper = authority.NewKeeper(authority.KeeperConfig{Chain: chain, Save: c.saveChain, Part: c.partChain, Stray: c.strays.Saw, Changed: c.recheck, Blocked: c.blocked, Invited: c.invited, Ripe: c.ripe})
	group := consensus.Config{
		Self: c.self.NodeID(), Cluster: chain.Cluster(), Dir: cfg.Dir, Network: cfg.Network, Machine: c.ledger, Roster: c.keeper,
		Members: c.placed, Nodes: c.Nodes, Profile: cfg.Profile, Version: cfg.Version, Log: cfg.Log, Now: cfg.Now, Found: how == founding, Answer: c.answer, Votes: c.votes.May, Behind: c.behind, Ends: c.ended, Resume: c.resume,
	}
	if how == again {
		group.Lost, group.Takes = c.lost, c.takenBack
	}
	if cfg.Network == (alone{}) {
		group.Nodes = nil // nobody can be asked, so that nobody is waited for
	}
	if c.group, err = consensus.New(group); err != nil {
		return nil, err
	}
	c.client = &ledger.Client{Key: cfg.Key, Ledger: c.ledger, Submit: c.submit}
	if c.claims, err = c.newClaims(); err != nil {
		return nil, err
	}
	if c.accounts, err = newAccounts(c); err != nil {
		return nil, err
	}
	c.settings = newSettings(c.client, c.self.NodeID())
	c.settings.drafted = c.drafted
	if c.drafts, err = c.newDrafts(); err != nil {
		return nil, err
	}
	if err := c.group.Load(); err != nil {
		// The site stands alone: what the ledger said last is gone, what is in
		// the datastores is not, and Run tries again.
		cfg.Log.Error("the ledger cannot be read; accounts and settings are those of its last snapshot until it can", "err", err)
	}
	return c, nil
}

// believe makes sure that a chain is the one that the guard has seen, or a
// longer one.
func (c *Cluster) believe(chain *authority.Chain) error {
	seen := c.guard.Chain()
	length, _ := chain.Head()
	err := error(nil)
	switch {
	case length < seen.Length:
		err = fmt.Errorf("the authority chain has %d links, and had %d before", length, seen.Length)
	case seen.Length > 0 && !holds(chain, seen.Length, seen.Head):
		err = errors.New("the authority chain is not the one that this node has followed")
	default:
		return c.guard.Follow(chain)
	}
	return &Error{err, "part of the directory is from another time: restore all of it from one backup, or let the node join again"}
}

// saveChain makes a longer chain durable before it is believed.
func (c *Cluster) saveChain(chain *authority.Chain) error {
	if err := writeChain(filepath.Join(c.cfg.Dir, authorityFile), chain); err != nil {
		return err
	}
	return c.guard.Follow(chain)
}

// blocked is asked at every connection, so it names nobody while nobody is.
func (c *Cluster) blocked(k authority.Key) bool {
	return c.guard.BlocksAny() && c.guard.Blocked(BlockOf(k))
}

// BlockOf is what the guard calls a node that is kept out.
func BlockOf(k authority.Key) string { return "node " + k.NodeID() }

// invited tells whether a node is a member without a link in the chain.
func (c *Cluster) invited(k authority.Key) bool {
	m, is := ledger.Members.Get(c.ledger.View(), k.NodeID())
	return is && (m.Body.State == ledger.Active || m.Body.State == ledger.Draining)
}

// placed are the nodes that should be in the group.
func (c *Cluster) placed() (all []placement.Member) {
	for id, m := range ledger.Members.All(c.ledger.View()) {
		if m.Body.State == ledger.Active || m.Body.State == ledger.Draining {
			all = append(all, placement.Member{ID: id, Site: m.Body.Site, Votes: m.Body.Votes && m.Body.State == ledger.Active})
		}
	}
	return all
}

// changed follows the chain of the ledger and tells who watches.
func (c *Cluster) changed(v ledger.View) {
	if chain := v.Chain(); chain != nil && chain.Incarnation() >= c.keeper.Incarnation() {
		if err := c.keeper.Agree(chain); err != nil {
			c.cfg.Log.Error("the authority chain of the ledger is not believed", "err", err)
		}
	}
	if c.sums.Changed(v) {
		c.alarmDiffers()
	}
	c.strays.Tidy(c.Chain())
	c.hasty.See(v)
	c.tell()
}

// recheck has what the chain says now count at once.
func (c *Cluster) recheck() {
	if c.group != nil { // it is being opened
		c.group.Recheck()
	}
	c.strays.Tidy(c.Chain())
	c.tell()
}

func (c *Cluster) tell() {
	c.mu.Lock()
	watchers := c.watchers
	c.mu.Unlock()
	for _, w := range watchers {
		w()
	}
}

// Watch has f called after every change of the ledger or of who belongs to the
// cluster, until the cluster is closed. f must not wait.
func (c *Cluster) Watch(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers = append(c.watchers[:len(c.watchers):len(c.watchers)], f)
}

// guardTick is how often the time of the guard is made durable.
const guardTick = time.Hour

// Run takes part in the cluster until ctx is done. What stops the group does not
// end it: see [consensus.Group.Run].
func (c *Cluster) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { c.keepTime(ctx) })
	tasks.Go(func() { c.accounts.run(ctx) })
	tasks.Go(func() { c.offer(ctx) })
	tasks.Go(func() { _ = c.claims.Run(ctx) }) // it ends with ctx
	tasks.Go(func() { c.compare(ctx) })
	tasks.Go(func() { c.raise(ctx) })
	tasks.Go(func() { c.judgeEnded(ctx) })
	tasks.Go(func() { c.inherit(ctx) })
	tasks.Go(func() { c.drafts.Run(ctx) })
	tasks.Go(func() { c.catchUp(ctx) })
	return c.group.Run(ctx)
}

func (c *Cluster) keepTime(ctx context.Context) {
	every(ctx, guardTick, func() {
		if err := errors.Join(c.guard.Tick(), c.guard.Settle()); err != nil {
			c.cfg.Log.Error("the guard cannot be written; nothing is deleted until it can", "err", err)
		}
	})
}

// offerEvery is how often the ledger is looked at for links that it lacks.
const offerEvery = 10 * time.Second

// offer gives the ledger the links that this node believes and the ledger does
// not have: those of [Cluster.Believe]. It ends with ctx.
func (c *Cluster) offer(ctx context.Context) {
	every(ctx, offerEvery, func() {
		if c.group.Status().Role != "leader" {
			return // one is enough
		}
		c.enact(ctx)
		if err := c.offerOnce(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("the ledger does not take what operators have signed", "err", err)
		}
	})
}

func (c *Cluster) offerOnce(ctx context.Context) error {
	theirs := c.ledger.View().Chain()
	known, _ := theirs.Head()
	if known == 0 || !c.keeper.Chain().Extends(theirs) {
		return nil
	}
	for _, link := range c.keeper.Links(known) {
		if _, err := c.client.Do(ctx, "node", "", ledger.KindAuthority, ledger.Link{Link: link}); err != nil {
			return err
		}
	}
	return nil
}

// Believe takes a link over that an operator has signed, without asking the
// ledger: for when there is no quorum, and a node has to be cut off. The ledger
// is given it as soon as there is one.
func (c *Cluster) Believe(link []byte) error {
	if err := c.keeper.Extend([][]byte{link}); err != nil {
		return err
	}
	c.group.Recheck()
	c.tell()
	return nil
}

// Close closes the files of a cluster that does not run.
func (c *Cluster) Close() error { return c.guard.Close() }

// Accounts are those of the cluster.
func (c *Cluster) Accounts() access.Store { return c.accounts }

// Settings are those of this node.
func (c *Cluster) Settings() settings.Store { return c.settings }

// SettingsOf are those of any node, by its ID. It follows what is changed when
// it hears of it.
func (c *Cluster) SettingsOf(node string) settings.Store {
	if node == c.Self() {
		return c.settings
	}
	s, known := c.others.Load(node)
	if !known { // it reads the ledger once for each change, which is worth keeping
		s, _ = c.others.LoadOrStore(node, newSettings(c.client, node))
	}
	return s.(*Settings)
}

// View is the state of the ledger as far as it is known here.
func (c *Cluster) View() ledger.View { return c.ledger.View() }

// Roster is who belongs to the cluster, as this node believes it.
func (c *Cluster) Roster() *authority.Keeper { return c.keeper }

// Nodes are the IDs of all nodes that the chain or the ledger names.
func (c *Cluster) Nodes() (ids []string) {
	seen := map[string]bool{}
	for _, n := range c.keeper.Chain().Nodes() {
		ids = append(ids, n.Key.NodeID())
		seen[n.Key.NodeID()] = true
	}
	for id := range ledger.Members.All(c.ledger.View()) {
		if !seen[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// Signed tells whether the chain names a node as one of the cluster.
func (c *Cluster) Signed(node string) bool {
	key, err := authority.ParseNodeID(node)
	if err != nil {
		return false
	}
	_, is := c.keeper.Chain().Node(key)
	return is
}

// Removed tells whether a node was removed, or is kept out here.
func (c *Cluster) Removed(node string) bool {
	key, err := authority.ParseNodeID(node)
	if err != nil || c.blocked(key) {
		return true
	}
	if _, is := c.keeper.Chain().Node(key); is {
		return false
	}
	if c.RemovalSigned(node) {
		return true
	}
	m, is := ledger.Members.Get(c.ledger.View(), node)
	return is && m.Body.State == ledger.Removed
}

// Blocked tells whether this node keeps another out, whatever the chain says.
func (c *Cluster) Blocked(node string) bool {
	key, err := authority.ParseNodeID(node)
	return err != nil || c.blocked(key)
}

// RemovalSigned tells whether operators have removed a node.
func (c *Cluster) RemovalSigned(node string) bool {
	for _, n := range c.keeper.Chain().Nodes() {
		if n.Removed && n.Key.NodeID() == node {
			return true
		}
	}
	return false
}

// Alarm has people be shown that something has happened here: see [Config].
func (c *Cluster) Alarm(key, text, hint string) { c.cfg.Alarm(key, text, hint) }

// Gone tells whether operators have removed this node from its cluster, perhaps on a
// branch of the chain that it does not follow: see package strays.
func (c *Cluster) Gone() bool { return c.RemovalSigned(c.Self()) || c.blocked(c.self) }

// Waits tells whether this node has heard nothing of its cluster since it asked
// to join, and no operator has signed for it: it may wait for approval.
func (c *Cluster) Waits() bool { return c.ledger.View().Chain() == nil && !c.Signed(c.Self()) }

// Chain is who belongs to the cluster, and who says so.
func (c *Cluster) Chain() *authority.Chain { return c.keeper.Chain() }

// Release has what the guard has let in again count at once.
func (c *Cluster) Release() { c.recheck() }

// Guard is what this node has promised.
func (c *Cluster) Guard() *guard.Guard { return c.guard }

// Group is this node's part of the group.
func (c *Cluster) Group() *consensus.Group { return c.group }

// Client gives commands in the name of this node.
func (c *Cluster) Client() *ledger.Client { return c.client }

// Self is the ID of this node.
func (c *Cluster) Self() string { return c.self.NodeID() }

// Block keeps a node out here, from now on and whoever says otherwise.
func (c *Cluster) Block(actor string, k authority.Key, reason string) error {
	if k == c.self {
		return errors.New("a node cannot keep itself out")
	}
	if err := c.guard.Block(actor, guard.Block{What: BlockOf(k), Reason: reason}); err != nil {
		return err
	}
	c.group.Recheck()
	c.tell()
	return nil
}

// An Error is an error with a known cure.
type Error struct {
	Err  error
	Cure string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint says what an operator can do about it.
func (e *Error) Hint() string { return e.Cure }
