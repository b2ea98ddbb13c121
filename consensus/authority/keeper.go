package authority

import (
	"fmt"
	"sync"
)

// A Keeper holds the chain that a node believes: the longest that it was
// shown, by a peer or by the ledger. It is the roster that the raft gate asks.
type Keeper struct {
	cfg   KeeperConfig
	mu    sync.Mutex
	chain *Chain
	keys  map[string]Key // of members that were asked for, by ID: they are asked for at every connection
}

// KeeperConfig says what a [Keeper] begins with, and whom it asks.
type KeeperConfig struct {
	Chain *Chain             // nil for a node that has not joined
	Save  func(*Chain) error // makes a longer chain durable before it is believed; default: nothing

	Part  func(c *Chain, shared uint64) error // likewise, one that shares so many links with that before; default: nothing
	Stray func(loses, counts *Chain)          // is told of a branch that does not count, before anything else: whom it has removed is to be kept out, see [StrayOf]; must not ask the keeper; default: nothing

	Blocked func(Key) bool    // whom this node's own operator keeps out; default: nobody
	Changed func()            // is told after a longer chain is believed; default: nothing
	Ripe    func(uint64) bool // whether the change of operators of a link may count that the ledger was not heard to enact; default: never
	Invited func(Key) bool    // who is an active member of the ledger without a link, by a plain invite, and never votes; default: nobody
}

// NewKeeper returns a Keeper.
func NewKeeper(cfg KeeperConfig) *Keeper {
	nobody := func(Key) bool { return false }
	if cfg.Save == nil {
		cfg.Save = func(*Chain) error { return nil }
	}
	if cfg.Part == nil {
		cfg.Part = func(*Chain, uint64) error { return nil }
	}
	if cfg.Stray == nil {
		cfg.Stray = func(*Chain, *Chain) {}
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.Blocked == nil {
		cfg.Blocked = nobody
	}
	if cfg.Ripe == nil {
		cfg.Ripe = func(uint64) bool { return false }
	}
	if cfg.Invited == nil {
		cfg.Invited = nobody
	}
	return &Keeper{cfg: cfg, chain: cfg.Chain, keys: map[string]Key{}}
}

// Chain returns the chain of now.
func (k *Keeper) Chain() *Chain {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.chain
}

// Follow takes a chain over if it is longer, or of a later incarnation. Else one that is
// not a longer version of ours is an error: somebody has signed two histories.
func (k *Keeper) Follow(c *Chain) error { return k.take(c, false) }

// Agree is Follow of a chain that the ledger has agreed on: of two branches in the same
// incarnation it is the one that counts.
func (k *Keeper) Agree(c *Chain) error { return k.take(c, true) }

func (k *Keeper) take(c *Chain, agreed bool) error {
	changed, err := k.follow(c, agreed)
	if changed {
		k.cfg.Changed()
	}
	return err
}

func (k *Keeper) follow(c *Chain, agreed bool) (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.chain.Extends(c) {
		return false, nil
	}
	if !c.Extends(k.chain) {
		return k.part(c, agreed)
	}
	if err := k.cfg.Save(c); err != nil {
		return false, fmt.Errorf("store the authority chain: %w", err)
	}
	k.chain = c
	return true, nil
}

// part decides between two branches.
func (k *Keeper) part(c *Chain, agreed bool) (changed bool, err error) {
	shared := common(k.chain, c)
	ours, theirs := k.chain.Incarnation(), c.Incarnation()
	counts := shared > 0 && (theirs > ours || theirs == ours && agreed)
	loses, stays := c, k.chain
	if counts {
		loses, stays = k.chain, c
	}
	// What this node took for true itself stays so for whom it kept out; of what a peer
	// shows, only what the operators of now have signed.
	if stray := StrayOf(loses, stays); shared > 0 && (counts || stays.stand(loses.Links(shared)) == nil) {
		k.cfg.Stray(loses, stays)
		changed = len(stray.Against(stays)) > 0
	}
	if !counts {
		n, _ := c.Head()
		return changed, refused("a chain of %d links that parts from ours behind link %d", n, int64(shared)-1)
	}
	if err := k.cfg.Part(c, shared); err != nil {
		return changed, fmt.Errorf("store the authority chain: %w", err)
	}
	k.chain = c
	return true, nil
}

// Extend takes over links that follow the head, as a peer has shown them. It takes
// none from the first on that makes others operators without the word of all: a
// thief of some keys would have it count at once. Such a link is believed when the
// ledger has it ([Keeper.Follow]); or, by a node that nobody brings the ledger any
// more, when it has known of the change for long itself. Links that begin with the
// genesis are those of another branch, all of it.
func (k *Keeper) Extend(links [][]byte) error {
	c := k.Chain()
	if c == nil {
		return refused("this node does not know which cluster it belongs to")
	}
	if len(links) > 0 {
		if l, err := ParseLink(links[0]); err == nil && l.Kind == Genesis {
			return k.whole(c, links)
		}
	}
	for _, l := range links {
		next, err := c.Next(l)
		if err != nil {
			return err
		}
		if c.Hurried(l) && !k.ripe(c, l) {
			break
		}
		c = next
	}
	return k.Follow(c)
}

// ripe tells whether a valid link behind c enacts what this node has known for long.
func (k *Keeper) ripe(c *Chain, link []byte) bool {
	l, err := ParseLink(link)
	return err == nil && l.Kind == Enact && k.cfg.Ripe(c.pending.Seq)
}

func (k *Keeper) Incarnation() uint64        { return k.Chain().Incarnation() }
func (k *Keeper) Head() (uint64, [32]byte)   { return k.Chain().Head() }
func (k *Keeper) Links(from uint64) [][]byte { return k.Chain().Links(from) }

// Parts is [Chain.Parts] of the chain of now.
func (k *Keeper) Parts(length uint64, head [32]byte) bool { return k.Chain().Parts(length, head) }

// Base returns the node with whose history the incarnation began, or "".
func (k *Keeper) Base() string {
	base, is := k.Chain().Base()
	if !is {
		return ""
	}
	return base.NodeID()
}

// Member returns nil if a node belongs to the cluster and is not blocked here.
func (k *Keeper) Member(node string) error {
	_, err := k.find(node)
	return err
}

// Voter returns nil if a node may also speak Raft.
func (k *Keeper) Voter(node string) error {
	n, err := k.find(node)
	if err == nil && !n.Votes {
		err = refused("node %q (%s) has the role %s and no vote", n.Name, node, n.Role)
	}
	return err
}

func (k *Keeper) find(node string) (Node, error) {
	k.mu.Lock()
	chain := k.chain
	key, parsed := k.keys[node]
	k.mu.Unlock()
	if !parsed {
		var err error
		if key, err = ParseNodeID(node); err != nil {
			return Node{}, fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	if k.cfg.Blocked(key) {
		return Node{}, refused("node %s is blocked here", node)
	}
	n, is := chain.Node(key)
	if !is && !chain.knows(key) && k.cfg.Invited(key) {
		return Node{Key: key, Role: "replica"}, nil
	}
	if !is {
		return Node{}, refused("node %s is no member of this cluster", node)
	}
	if !parsed {
		k.mu.Lock()
		k.keys[node] = key
		k.mu.Unlock()
	}
	return n, nil
}
