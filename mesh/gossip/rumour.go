package gossip

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"

	"github.com/holdfast-mesh/holdfast/mesh/network"
)

// Memberlist orders what is said of a node by its incarnation, a number of 32
// bits that anybody may name: a node denies its death with a higher one, and
// who names the highest cannot be answered. So a number is taken only if the
// node itself may have come to it. It begins at one, and grows by one when the
// node has something new to say (once in 15 seconds) or has to deny something;
// up to baseReach that is believed of every node, and beyond it the node must
// have signed how far it may come ([Meta].Reach), which a liar cannot.
//
// That a node is down is a rumour whoever says it: it is taken for a suspicion,
// at a number not far from that which the node is known to have, so that it can
// deny it before anybody believes it. That it has left only the node itself may say, or who
// passes on a farewell that it has signed.

const (
	baseReach = 1 << 24 // eight years of something new each 15 seconds
	reachStep = 1 << 10 // how much a node signs at a time
	maxReach  = 1<<32 - 1<<16
	maxAhead  = 1 << 15 // that what is suspected may be, without a lie

	maxSkipped = 16 // words of a node that may be under way to us when others have them

	// How often one member may say that another is down: so often at once, and
	// so often a second. Who passes on what others say remains below it.
	rumourBurst = 16
	rumourRate  = 4
)

var (
	errReach = errors.New("it gives a number to what it says of another node that this node has not come to")
	errDown  = errors.New("it says that this node is down or has left")
	errLater = errors.New("it is denied later")
	errAhead = errors.New("it is ahead of what the node has signed")
)

// An incarnation is how far the numbers of a node have come.
type incarnation struct {
	known    uint32 // memberlist has taken none above it
	signed   uint32 // how far the node itself says that it may come
	verified []byte // the meta that was looked at last
}

func (i *incarnation) reach() uint32 { return max(baseReach, i.signed) }

// beyond is why a number is refused that the node cannot have come to, as far as
// we know. Who suspects a node may have heard sooner what it has signed.
func (i *incarnation) beyond(n uint32) error {
	if n-i.reach() < maxAhead {
		return errAhead
	}
	return errReach
}

// A budget is how often somebody may still be accused, at a time.
type budget struct {
	left float64
	at   time.Time
}

// pair is who accuses whom.
type pair struct{ from, of string }

// spend tells whether from may accuse a node once more. The lock of g is held.
func (g *Gossip) spend(from, of string) bool {
	now := time.Now()
	b := g.budgets[pair{from, of}]
	if b == nil {
		b = &budget{left: rumourBurst, at: now}
		g.budgets[pair{from, of}] = b
	}
	b.left = min(rumourBurst, b.left+rumourRate*now.Sub(b.at).Seconds())
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// incarnationOf returns what is known of the numbers of a node. The lock of g is held.
func (g *Gossip) incarnationOf(node string) *incarnation {
	i := g.incarnations[node]
	if i == nil {
		i = &incarnation{}
		g.incarnations[node] = i
	}
	return i
}

// learn reads how far a node may come from what it has signed.
func (g *Gossip) learn(node string, signed []byte) error {
	key := g.key(node)
	if key == nil {
		return errStranger
	}
	g.mu.Lock()
	known := bytes.Equal(g.incarnationOf(node).verified, signed) && len(signed) > 0
	g.mu.Unlock()
	if known {
		return nil
	}
	m, err := parseMeta(node, key, signed)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.incarnationOf(node)
	i.verified = bytes.Clone(signed)
	if i.signed = max(i.signed, m.Reach); node == g.cfg.Self {
		g.outgrow(i.known) // we have said so in a life before this one
	}
	return nil
}

// life is what says that a node lives.
type life struct {
	Incarnation uint32
	Node        string
	Addr        []byte
	Port        uint16
	Meta        []byte
}

// screenLife judges it.
func (g *Gossip) screenLife(from string, l life) error {
	if l.Port == 0 {
		l.Port = network.ServiceGossip
	}
	if !bytes.Equal(address(l.Node), l.Addr) || l.Port != network.ServiceGossip {
		if !g.Member(l.Node) {
			return errStranger
		}
		return errForeign
	}
	if err := g.learn(l.Node, l.Meta); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.incarnationOf(l.Node)
	switch {
	case l.Incarnation > i.reach():
		return i.beyond(l.Incarnation)
	}
	return g.raise(l.Node, i, l.Incarnation)
}

// raise notes that memberlist is told a number. What it shall deny, and cannot with
// what of us is published, waits for that. The lock of g is held.
func (g *Gossip) raise(node string, i *incarnation, to uint32) error {
	if node != g.cfg.Self {
		i.known = max(i.known, to)
		return nil
	}
	if to >= i.known {
		g.outgrow(to + 1) // memberlist denies it with the next one
	}
	if to >= g.published {
		g.owed = max(g.owed, to)
		return errLater
	}
	return nil
}

// outgrow notes that we may be at a number, and signs more when that comes near
// to what is signed. The lock of g is held.
func (g *Gossip) outgrow(to uint32) {
	i := g.incarnationOf(g.cfg.Self)
	i.known = to
	if to > i.reach()-reachStep/2 {
		i.signed = min(max(i.reach(), to)+reachStep, maxReach)
	}
	if g.said.Reach == i.signed {
		return
	}
	g.said.Reach = i.signed
	g.meta = g.said.sign(g.cfg.Self, g.cfg.Key)
	select {
	case g.outgrown <- struct{}{}:
	default:
	}
	g.wake()
}

// nowPublished notes how far what memberlist says of us lets us come. Memberlist
// calls it with its lock held.
func (g *Gossip) nowPublished(signed []byte) {
	m, err := parseMeta(g.cfg.Self, g.key(g.cfg.Self), signed)
	if err != nil {
		return
	}
	g.mu.Lock()
	g.published = max(baseReach, m.Reach)
	g.mu.Unlock()
	select {
	case g.denial <- struct{}{}:
	default:
	}
}

// deny has memberlist deny what had to wait, until ctx ends.
func (g *Gossip) deny(ctx context.Context, t *transport) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.denial:
		}
		g.mu.Lock()
		owed, can := g.owed, g.owed != 0 && g.owed < g.published
		if can {
			g.owed = 0
		}
		g.mu.Unlock()
		if !can {
			continue
		}
		b := pack(msgSuspect, accusation{owed, g.cfg.Self, g.cfg.Self})
		select {
		case t.in <- &memberlist.Packet{Buf: b, From: addr(joinAddress(g.cfg.Self)), Timestamp: time.Now()}:
		case <-ctx.Done():
		}
	}
}

// An accusation says that a node is suspected, down or gone.
type accusation struct {
	Incarnation uint32
	Node        string
	From        string
}

// A verdict is what becomes of an accusation.
type verdict int

const (
	suspected verdict = iota
	departed
)

// screenAccusation judges an accusation, and gives it a number that can be denied.
func (g *Gossip) screenAccusation(from string, final bool, a *accusation) (verdict, error) {
	if !g.Member(a.Node) || !g.Member(a.From) {
		return 0, errStranger
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.incarnationOf(a.Node)
	left := final && a.Node == a.From && a.Node != g.cfg.Self && (a.Node == from || g.heard.hasLeft(a.Node))
	switch {
	case a.Incarnation > i.reach():
		return 0, i.beyond(a.Incarnation)
	case from != a.Node && !g.spend(from, a.Node):
		return 0, errFlood
	}
	if a.Node != g.cfg.Self && !left { // what is said of us may be of a life before this one
		a.Incarnation = min(a.Incarnation, i.known+maxSkipped)
	}
	if err := g.raise(a.Node, i, a.Incarnation); err != nil {
		return 0, err
	}
	if left {
		g.heard.farewell(a.Node)
		return departed, nil
	}
	if a.Node == a.From && a.Node != from { // nobody is accused by itself
		a.From = from
	}
	return suspected, nil
}

// A lastWord is what a node that ends says.
type lastWord struct {
	Started     int64  `cbor:"1,keyasint,omitempty"` // when the life of it that ends began
	Incarnation uint32 `cbor:"2,keyasint,omitempty"` // no number that it has had is higher
}

// farewell says the last word of this node.
func (g *Gossip) farewell() error {
	g.mu.Lock()
	last := lastWord{g.said.Started, g.incarnationOf(g.cfg.Self).known}
	g.mu.Unlock()
	return g.Announce(newsFarewell, "", encode(last))
}

// noteFarewell reads a farewell that a node has signed, and returns what memberlist
// shall hear of it: it is of the life that we know, or of a later one. Somebody else
// may play back those of before.
func (g *Gossip) noteFarewell(b []byte) []byte {
	n, ok := openNews(g.key, newsFarewell, b)
	if !ok {
		return nil
	}
	var last lastWord
	if decoding.Unmarshal(n.Data, &last) != nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p, i := g.peers[n.Node], g.incarnationOf(n.Node)
	if p == nil || last.Started != p.Meta.Started && (len(p.lives) == 0 || last.Started <= slices.Max(p.lives)) {
		return nil
	}
	g.heard.farewell(n.Node)
	_ = g.raise(n.Node, i, min(last.Incarnation, i.reach())) // not of us: we are no peer of ours
	return pack(msgDead, accusation{i.known, n.Node, n.Node})
}

// pushHead is how a push begins, and pushed is a node in it.
type (
	pushHead struct {
		Nodes        int
		UserStateLen int
		Join         bool
	}
	pushed struct {
		Name        string
		Addr        []byte
		Port        uint16
		Meta        []byte
		Incarnation uint32
		State       int
		Vsn         []uint8
	}
)

// The states of a node in a push.
const (
	pushedAlive = iota
	pushedSuspect
	pushedDead
	pushedLeft
)

// screenPush returns what memberlist may see of a push, of which r has all but the
// first byte.
func (g *Gossip) screenPush(from string, r io.Reader) ([]byte, error) {
	in := codec.NewDecoder(r, &codec.MsgpackHandle{})
	var head pushHead
	if err := in.Decode(&head); err != nil {
		return nil, err
	}
	good := make([]pushed, 0, min(head.Nodes, maxStreamNodes))
	for range min(head.Nodes, maxStreamNodes) {
		var p pushed
		if err := in.Decode(&p); err != nil {
			return nil, err
		}
		if err := g.screenPushed(from, &p); err != nil {
			_ = g.refused.note(err, from)
			continue
		}
		good = append(good, p)
	}
	b := pack(msgPushPull, pushHead{Nodes: len(good), Join: head.Join})
	for _, p := range good {
		b = append(b, pack(0, p)[1:]...)
	}
	return b, nil
}

// screenPushed judges a node of a push.
func (g *Gossip) screenPushed(from string, p *pushed) error {
	switch p.State {
	case pushedAlive:
		return g.screenLife(from, life{p.Incarnation, p.Name, p.Addr, p.Port, p.Meta})
	case pushedSuspect, pushedDead, pushedLeft:
	default:
		return errForm
	}
	if err := g.learn(p.Name, p.Meta); err != nil { // how far it may come
		return err
	}
	a := accusation{p.Incarnation, p.Name, from}
	if p.State == pushedLeft {
		a.From = p.Name
	}
	verdict, err := g.screenAccusation(from, p.State == pushedLeft, &a)
	if p.Incarnation = a.Incarnation; p.State == pushedLeft && verdict != departed {
		p.State = pushedDead
	}
	return err
}

// pack makes a message of memberlist.
func pack(kind byte, v any) []byte {
	b := bytes.NewBuffer([]byte{kind})
	must(b, codec.NewEncoder(b, &codec.MsgpackHandle{}).Encode(v)) // to memory, of numbers and strings
	return b.Bytes()
}
