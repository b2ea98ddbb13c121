// Package authority is the chain of signed statements that says who belongs to
// a cluster, in which role, and who may say so.
//
// It begins with a genesis that names the operators' keys, and every link
// names the one before. A link is believed because of its signatures alone:
// neither the leader of the ledger nor a majority of its voters can add a
// node. Every node keeps the whole chain, some hundred bytes a link, and
// checks it again whenever it gets it from somebody.
//
// A [Chain] never changes; [Chain.Next] makes the one with another link.
package authority

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/canon"
)

// The kinds of link.
const (
	Genesis    uint8 = iota // body [GenesisBody]; by every operator
	AddNode                 // body [Node]; a new node, or a new role of one; by k operators
	RemoveNode              // body [Removal]; by k operators
	Operators               // body [OperatorsBody]; by k of the old and all of the new ones, at once; see [Chain.Hurried]
	AddGrant                // body [Grant]: who holds the key of an invite may admit a node; by k operators
	DropGrant               // body [Drop]; by k operators
	Admit                   // body [Admission]; by the key of a grant
	Recover                 // body [Recovery]: a new incarnation; by k operators or the recovery key

	// From here on only nodes know them whose ledger has a level of that name.
	NewOperators // body [OperatorsBody]; by all of the new ones and all of the old: at once; by k of the old: it waits
	Enact        // body [Waiting]; not signed, since it says nothing new: what waits counts from here on
	Veto         // body [Waiting]; by any one operator, or the recovery key: what waits is dropped
	kinds
)

// LevelDelay is the feature level of the ledger from which on there are links of
// the kinds [NewOperators], [Enact] and [Veto].
const LevelDelay = 3

// LevelSkip is the one from which on all members follow a recovery that skips incarnations.
const LevelSkip = 4

// Delay is how long other operators wait whom not all of the present ones have
// signed for. A chain has no clock: the ledger judges by its own.
const Delay = 7 * 24 * time.Hour

// Limits of a chain.
const (
	MaxLinks     = 1 << 16
	MaxLink      = 8 << 10 // bytes
	MaxNodes     = 64      // not counting the removed
	MaxOperators = 9
	maxText      = 64 // bytes of a site or role
)

// ErrRefused is what every link is that does not belong behind a chain.
var ErrRefused = errors.New("not authorised")

// Behind is in the refusal of a link that was drafted before another one was taken.
// The ledger keeps refusals, so that the words cannot change.
const Behind = "does not stand behind"

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// A Link is one statement. Sigs are over everything else and the cluster, and
// no part of its hash: it does not matter which k operators sign.
type Link struct {
	Seq  uint64      `cbor:"1,keyasint"`
	Prev [32]byte    `cbor:"2,keyasint"`
	Kind uint8       `cbor:"3,keyasint"`
	Body []byte      `cbor:"4,keyasint"`
	Sigs []Signature `cbor:"5,keyasint,omitempty"`
}

// A Signature is one of Ed25519, and whose.
type Signature struct {
	Key Key      `cbor:"1,keyasint"`
	Sig [64]byte `cbor:"2,keyasint"`
}

// The bodies of links.
type (
	GenesisBody struct {
		Cluster   [16]byte `cbor:"1,keyasint"`
		Operators []Key    `cbor:"2,keyasint"`
		Threshold int      `cbor:"3,keyasint"`           // k
		Recovery  Key      `cbor:"4,keyasint"`           // printed once and stored nowhere; zero: there is none
		At        int64    `cbor:"5,keyasint,omitempty"` // Unix seconds
	}
	Node struct {
		Key     Key    `cbor:"1,keyasint"`
		Name    string `cbor:"2,keyasint"`
		Site    string `cbor:"3,keyasint"`
		Role    string `cbor:"4,keyasint"`
		Votes   bool   `cbor:"5,keyasint,omitempty"` // it may speak Raft
		Removed bool   `cbor:"6,keyasint,omitempty"`
	}
	Removal struct {
		Key Key `cbor:"1,keyasint"`
	}
	OperatorsBody struct {
		Operators []Key `cbor:"1,keyasint"`
		Threshold int   `cbor:"2,keyasint"`
	}
	Waiting struct {
		Seq uint64 `cbor:"1,keyasint"` // of the link that waits
	}
	Grant struct {
		Key     Key     `cbor:"1,keyasint"` // of the seed in the invite
		Token   [8]byte `cbor:"2,keyasint"`
		Role    string  `cbor:"3,keyasint"`           // the only one it gives
		Site    string  `cbor:"4,keyasint,omitempty"` // "": any
		Uses    int     `cbor:"5,keyasint"`
		Expires int64   `cbor:"6,keyasint"` // Unix seconds; the ledger judges by its clock
	}
	Drop struct {
		Key Key `cbor:"1,keyasint"`
	}
	Admission struct {
		Statement []byte   `cbor:"1,keyasint"` // see [ParseStatement]
		Seed      [64]byte `cbor:"2,keyasint"` // signature by the key of the grant
		Node      [64]byte `cbor:"3,keyasint"` // signature by the key of the node
	}
	Recovery struct {
		Incarnation uint64 `cbor:"1,keyasint"` // greater than the one before; by how much says nothing, but two of one number are not told apart
		Base        Key    `cbor:"2,keyasint"` // the node whose history goes on
		Reason      string `cbor:"3,keyasint"`
	}
)

// MaxIncarnation is the greatest that there can be: every program that reads JSON can say it.
const MaxIncarnation = 1<<53 - 1

// The roles of nodes, and whether they may vote.
var roles = map[string]bool{"full": true, "replica": false, "cloud": true, "witness": true, "follower": false}

// MayVote tells whether a role lets a node vote if the operator says nothing
// else; known is false for a role that does not exist.
func MayVote(role string) (votes, known bool) {
	votes, known = roles[role]
	return votes, known
}

// A Chain is a history of links that were all checked.
type Chain struct {
	links       [][]byte
	head        [32]byte
	genesis     [32]byte
	cluster     [16]byte
	operators   []Key
	threshold   int
	recovery    Key
	incarnation uint64
	base        Key // of the last recovery
	nodes       map[Key]Node
	grants      map[Key]Grant // Uses are what is left
	pending     *Pending
}

// Read checks a whole chain, beginning with its genesis.
func Read(links [][]byte) (*Chain, error) {
	if len(links) == 0 {
		return nil, refused("an empty chain")
	}
	c := &Chain{}
	for i, b := range links {
		var err error
		if c, err = c.Next(b); err != nil {
			return nil, fmt.Errorf("link %d: %w", i, err)
		}
	}
	return c, nil
}

// Next returns the chain with one more link, or says why that may not be.
func (c *Chain) Next(b []byte) (*Chain, error) {
	var l Link
	if len(b) > MaxLink {
		return nil, refused("a link of %d bytes, want at most %d", len(b), MaxLink)
	}
	if err := canon.Decode(b, &l); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	switch n := uint64(len(c.links)); {
	case l.Kind >= kinds:
		return nil, refused("a link of the kind %d, which this program does not know", l.Kind)
	case l.Seq != n || l.Prev != c.head:
		return nil, refused("link %d "+Behind+" link %d with the hash %x", l.Seq, int64(n)-1, c.head[:4])
	case n >= MaxLinks:
		return nil, refused("the chain has %d links already", n)
	case (n == 0) != (l.Kind == Genesis):
		return nil, refused("a chain begins with its genesis, and has no other")
	}
	next := c.clone()
	if err := next.apply(c, l); err != nil {
		return nil, err
	}
	next.links = append(next.links[:len(next.links):len(next.links)], b)
	next.head = l.hash(next.cluster)
	if l.Kind == Genesis {
		next.genesis = next.head
	}
	return next, nil
}

func (c *Chain) clone() *Chain {
	next := *c
	next.nodes, next.grants = maps.Clone(c.nodes), maps.Clone(c.grants)
	if next.nodes == nil {
		next.nodes, next.grants = map[Key]Node{}, map[Key]Grant{}
	}
	return &next
}

// The rest of Chain is questions. They may be asked of a nil chain, which
// knows nobody.

// Cluster is the ID of the cluster.
func (c *Chain) Cluster() [16]byte { return c.cluster }

// GenesisHash is the hash of the first link, which names the cluster for ever.
func (c *Chain) GenesisHash() [32]byte { return c.genesis }

// Head is the number of links and the hash of the last.
func (c *Chain) Head() (uint64, [32]byte) {
	if c == nil {
		return 0, [32]byte{}
	}
	return uint64(len(c.links)), c.head
}

// Incarnation begins at 1 and grows with every recovery.
func (c *Chain) Incarnation() uint64 {
	if c == nil {
		return 0
	}
	return c.incarnation
}

// Base is the node with whose history the incarnation began; false for the
// first one.
func (c *Chain) Base() (Key, bool) {
	if c == nil || c.base == (Key{}) {
		return Key{}, false
	}
	return c.base, true
}

// Links returns the links from number from on; nobody may change them.
func (c *Chain) Links(from uint64) [][]byte {
	if c == nil || from >= uint64(len(c.links)) {
		return nil
	}
	return c.links[from:len(c.links):len(c.links)]
}

// Node returns what is said of a node; false if nothing is, or it was removed.
func (c *Chain) Node(k Key) (Node, bool) {
	if c == nil {
		return Node{}, false
	}
	n, is := c.nodes[k]
	return n, is && !n.Removed
}

// knows tells whether anything was ever said of a node.
func (c *Chain) knows(k Key) bool {
	if c == nil {
		return false
	}
	_, is := c.nodes[k]
	return is
}

// Nodes returns all nodes in the order of their keys, also the removed.
func (c *Chain) Nodes() []Node {
	if c == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(c.nodes), func(a, b Node) int { return slices.Compare(a.Key[:], b.Key[:]) })
}

// Grant returns what is left of a grant.
func (c *Chain) Grant(k Key) (Grant, bool) {
	if c == nil {
		return Grant{}, false
	}
	g, is := c.grants[k]
	return g, is
}

// Operators returns the operators' keys, and how many of them must sign.
func (c *Chain) Operators() ([]Key, int) { return c.operators, c.threshold }

// RecoveryKey is the one on paper; false if there is none.
func (c *Chain) RecoveryKey() (Key, bool) { return c.recovery, c.recovery != Key{} }

// Pending returns the change of operators that waits; false if none does.
func (c *Chain) Pending() (Pending, bool) {
	if c == nil || c.pending == nil {
		return Pending{}, false
	}
	return *c.pending, true
}

// Extends tells whether c is other, or other with more links.
func (c *Chain) Extends(other *Chain) bool {
	n, head := other.Head()
	if n == 0 {
		return true
	}
	if m, h := c.Head(); m <= n {
		return m == n && h == head
	}
	var l Link
	return canon.Decode(c.links[n], &l) == nil && l.Prev == head
}

// Draft returns the link that would stand behind c, without signatures.
func (c *Chain) Draft(kind uint8, body any) Link {
	n, head := c.Head()
	return Link{Seq: n, Prev: head, Kind: kind, Body: canon.Encode(body)}
}

// Sign returns the bytes of a link with signatures of keys added.
func (c *Chain) Sign(l Link, keys ...ed25519.PrivateKey) []byte {
	return l.sign(c.cluster, keys...)
}

// Found returns the genesis of a cluster, signed by all its operators.
func Found(body GenesisBody, operators ...ed25519.PrivateKey) []byte {
	return (&Chain{}).Draft(Genesis, body).sign(body.Cluster, operators...)
}

func (l Link) sign(cluster [16]byte, keys ...ed25519.PrivateKey) []byte {
	l.Sigs = slices.Clone(l.Sigs)
	for _, k := range keys {
		l.Sigs = append(l.Sigs, Signature{PublicKey(k), [64]byte(ed25519.Sign(k, l.signed(cluster)))})
	}
	slices.SortFunc(l.Sigs, func(a, b Signature) int { return slices.Compare(a.Key[:], b.Key[:]) })
	return canon.Encode(l)
}

// signed is what signatures and hashes are of.
func (l Link) signed(cluster [16]byte) []byte {
	l.Sigs = nil
	return append(append([]byte("holdfast/authority/1\x00"), cluster[:]...), canon.Encode(l)...)
}

func (l Link) hash(cluster [16]byte) [32]byte { return canon.Sum(l.signed(cluster)) }

// Roles are the names of all roles.
func Roles() []string { return slices.Sorted(maps.Keys(roles)) }
