package peers

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/mesh/host"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/mesh/join"
	"github.com/holdfast-mesh/holdfast/mesh/record"
	"github.com/holdfast-mesh/holdfast/node/cluster"
	"github.com/holdfast-mesh/holdfast/node/cluster/home"
	"github.com/holdfast-mesh/holdfast/tunnel"
)

func timeNow() time.Time { return time.Now() }

// admitter is the cluster, for machines that want to join.
type admitter struct{ l *Link }

// Greet returns the chain, unless the token is known to be of no use. A member
// that lags does not know new tokens: it asks the leader first.
func (a admitter) Greet(ctx context.Context, token [8]byte) ([][]byte, error) {
	c := a.l.cluster
	if _, is := ledger.Invites.Get(c.View(), ledger.TokenKey(token)); !is {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_ = c.Group().Linear(short) // without a quorum, what is known here counts
	}
	if row, _ := ledger.Invites.Get(c.View(), ledger.TokenKey(token)); len(row.Body.Used) > 0 {
		return c.Roster().Links(0), nil // it may be the same machine again, which is told the same, however late
	}
	if err := useless(c.View(), token); err != nil {
		return nil, err
	}
	return c.Roster().Links(0), nil
}

// useless says why a token cannot be used, by the ledger of this node.
func useless(v ledger.View, token [8]byte) error {
	row, is := ledger.Invites.Get(v, ledger.TokenKey(token))
	i := row.Body
	switch {
	case !is:
		return &join.Error{Kind: join.ErrUnknown}
	case i.Burnt():
		return &join.Error{Kind: join.ErrBurnt}
	case i.Uses < 1 && len(i.Used) > 0:
		return &join.Error{Kind: join.ErrUsedUp}
	case i.Uses < 1:
		return &join.Error{Kind: join.ErrRevoked}
	case time.Now().Unix() >= i.Expires+int64(invite.Skew/time.Second):
		return &join.Error{Kind: join.ErrExpired}
	}
	return nil
}

// Admit has the leader consume the token and add the machine, in one entry.
func (a admitter) Admit(ctx context.Context, in join.Admission) (join.Admitted, error) {
	c := a.l.cluster
	s, err := authority.ParseStatement(in.Statement)
	if err != nil {
		return join.Admitted{}, &join.Error{Kind: join.ErrProtocol, Detail: err.Error()}
	}
	others := map[string]ledger.Member{}
	for id, m := range ledger.Members.All(c.View()) {
		others[id] = m.Body
	}
	if err := nameable(others, in.Joiner.NodeID(), s.Name); err != nil {
		return join.Admitted{}, err
	}
	if r, err := in.Record.Open(); err != nil {
		return join.Admitted{}, err
	} else if by, taken := a.l.records.Holder(r); taken {
		return join.Admitted{}, &join.Error{Kind: join.ErrRefused, Detail: fmt.Sprintf("its key of the tunnel is that of %s: join with a directory of its own", c.NameOf(by.NodeID()))}
	}
	body := ledger.Join{Statement: in.Statement, Seed: in.Seed, Node: in.Node, Record: in.Record.Body, RecordSig: in.Record.Sig}
	_, err = c.Client().Do(ctx, "node", "", ledger.KindJoin, body)
	var refused *ledger.Error
	switch {
	case noDecision(err) != nil:
		return join.Admitted{}, noDecision(err)
	case errors.As(err, &refused):
		return join.Admitted{}, whyNot(c.View(), in, refused)
	case err != nil:
		return join.Admitted{}, err
	}
	if _, err := a.l.records.Put(in.Record); err != nil && !errors.Is(err, record.ErrOld) {
		return join.Admitted{}, err
	}
	m, _ := ledger.Members.Get(c.View(), in.Joiner.NodeID())
	a.l.kick()
	return join.Admitted{Pending: m.Body.State == ledger.Pending, Links: c.Roster().Links(0), Records: a.l.records.All()}, nil
}

// noDecision says in the words of joining that there is no leader, or that it was lost
// with the request: that may be in the ledger, or get there yet.
func noDecision(err error) error {
	switch {
	case errors.Is(err, consensus.ErrUnknown):
		return &join.Error{Kind: join.ErrUndecided, Detail: err.Error()}
	case errors.Is(err, consensus.ErrNoLeader), errors.Is(err, consensus.ErrStopped):
		return &join.Error{Kind: join.ErrNoQuorum, Detail: err.Error()}
	}
	return nil
}

// nameable refuses a name by which people could mean another member: one that looks
// like the ID of a node, by which members are called too, or one that differs from
// that of a member by its case only.
func nameable(others map[string]ledger.Member, joiner, name string) error {
	if LooksLikeID(name) {
		return &join.Error{Kind: join.ErrTaken, Detail: fmt.Sprintf("%q looks like the ID of a node", name)}
	}
	for id, m := range others {
		if m.State != ledger.Removed && id != joiner && strings.EqualFold(m.Name, name) {
			return &join.Error{Kind: join.ErrTaken, Detail: fmt.Sprintf("there is a node %q", m.Name)}
		}
	}
	return nil
}

// LooksLikeID tells whether a name could be taken for the ID of a node, or for the
// beginning of one.
func LooksLikeID(name string) bool { return strings.HasPrefix(strings.ToLower(name), "12d3koo") }

// whyNot says in the words of joining what the ledger said.
func whyNot(v ledger.View, in join.Admission, refused *ledger.Error) error {
	detail := refused.Result.Text
	s, err := authority.ParseStatement(in.Statement)
	if err != nil {
		return &join.Error{Kind: join.ErrProtocol, Detail: err.Error()}
	}
	if m, is := ledger.Members.Get(v, in.Joiner.NodeID()); is {
		kind := join.ErrTaken
		if m.Body.State == ledger.Removed {
			kind = join.ErrRemoved
		}
		return &join.Error{Kind: kind, Detail: detail}
	}
	if err := useless(v, in.Token); err != nil {
		return err
	}
	row, _ := ledger.Invites.Get(v, ledger.TokenKey(in.Token))
	i := row.Body
	switch {
	case v.At().Unix() >= i.Expires:
		return &join.Error{Kind: join.ErrExpired}
	case !ed25519.Verify(i.Key[:], in.Statement, in.Seed[:]):
		return &join.Error{Kind: join.ErrSignature, Detail: detail}
	case s.Role != i.Role || i.Site != "" && s.Site != i.Site:
		return &join.Error{Kind: join.ErrRole, Detail: detail}
	}
	for _, m := range ledger.Members.All(v) {
		if m.Body.Name == s.Name && m.Body.State != ledger.Removed {
			return &join.Error{Kind: join.ErrTaken, Detail: fmt.Sprintf("there is a node %q", s.Name)}
		}
	}
	return &join.Error{Kind: join.ErrRefused, Detail: detail}
}

// Joining says who joins a cluster.
type Joining struct {
	Dir        string             // of the cluster, to be made
	Key        ed25519.PrivateKey // of this node
	Token      string
	Name, Site string
	Replaces   string // name of a removed node whose place it takes; "": of none
	Listen     string // the mesh port
	Version    string
	Log        *slog.Logger
	Simulated  *Simulated // for tests; default: the network of this machine
}

// A Joined is what came of it.
type Joined struct {
	Member  string // who let it in
	Role    string
	Site    string
	Node    string // the ID of this node
	Pending bool   // an operator has yet to approve it
}

// Join makes this node one of the cluster that a token is for.
func Join(ctx context.Context, j Joining) (Joined, error) {
	token, err := invite.Parse(j.Token)
	if err != nil {
		return Joined{}, err
	}
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return Joined{}, err
	}
	keys, err := openKeys(j.Dir)
	if err != nil {
		return Joined{}, err
	}
	listen, err := parseListen(j.Listen)
	if err != nil {
		return Joined{}, err
	}
	cfg := host.Config{Key: j.Key, Roster: nobody{}, Version: j.Version, Strangers: -1, Relay: host.RelayNever, Log: j.Log}
	if j.Simulated != nil {
		four, err := j.Simulated.Packets(listen)
		if err != nil {
			return Joined{}, err
		}
		six, err := j.Simulated.Packets(netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
		if err != nil {
			return Joined{}, err
		}
		sockets := map[string]net.PacketConn{"udp4": four, "udp6": six} // libp2p closes them
		cfg.Simulated, cfg.QUIC = true, func(network string) net.PacketConn { return sockets[network] }
	}
	h, err := host.New(cfg)
	if err != nil {
		return Joined{}, err
	}
	life, end := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- h.Run(life, listen) }()
	defer func() {
		end()
		<-ran
	}()
	select {
	case <-h.Running():
	case err := <-ran:
		ran <- nil
		return Joined{}, portTrouble(errors.Join(err, probe(listen)), j.Listen)
	}
	store, signed, err := ownRecord(j, token, keys.private, h.Addrs())
	if err != nil {
		return Joined{}, err
	}
	var wrong error // what was asked for, and not the chain
	result, err := join.Join(ctx, join.Config{
		Key: j.Key, Token: token, Record: signed, Site: j.Site, Name: j.Name,
		Open: func(ctx context.Context, m invite.Member) (join.Stream, error) {
			return h.OpenTo(ctx, m.Node, m.Addrs, join.Protocol)
		},
		SomeoneElse: func(err error) bool { return errors.Is(err, host.ErrSomeoneElse) },
		Verify: func(links [][]byte, t invite.Token, member record.Key) error {
			err := verify(links, t, member)
			if err == nil {
				wrong = replaceable(links, t.Role, j.Replaces)
			}
			return cmp.Or(err, wrong)
		},
	})
	if err = cmp.Or(wrong, err); err != nil {
		return Joined{}, err
	}
	return Joined{result.Member, token.Role, j.Site, record.KeyOf(j.Key).NodeID(), result.Pending}, enter(j, store, result)
}

// ownRecord returns what this machine says of itself. When it asks again, since
// an answer was lost, it has to say the same.
func ownRecord(j Joining, token invite.Token, private tunnel.PrivateKey, addrs []record.Addr) (*record.Store, record.Signed, error) {
	store, err := record.Open(filepath.Join(j.Dir, recordsFile), token.Cluster)
	if err != nil {
		return nil, record.Signed{}, err
	}
	if said, is := store.Signed(record.KeyOf(j.Key)); is {
		return store, said, nil
	}
	signed, err := store.Renew(record.Record{WireGuard: [][32]byte{private.Public()}, Addrs: addrs, Version: j.Version}, j.Key, time.Now())
	return store, signed, err
}

// enter writes down what a machine knows that was let in.
func enter(j Joining, store *record.Store, result join.Result) error {
	chain, err := authority.Read(result.Links)
	if err != nil {
		return err
	}
	for _, r := range result.Records {
		if _, err := store.Put(r); err != nil && !errors.Is(err, record.ErrOld) {
			return err
		}
	}
	if j.Replaces != "" {
		if err := cluster.Replace(j.Dir, j.Replaces); err != nil {
			return err
		}
	}
	return cluster.Enter(cluster.Config{Dir: j.Dir, Key: j.Key, Log: j.Log}, chain)
}

// verify says whether links are the chain of a token, with a member in it.
func verify(links [][]byte, t invite.Token, member record.Key) error {
	chain, err := authority.Read(links)
	if err != nil {
		return err
	}
	if chain.GenesisHash() != t.Genesis || chain.Cluster() != t.Cluster {
		return errors.New("its genesis is another one")
	}
	if !home.Holds(chain, t.Head) {
		return errors.New("what the operator saw when the token was made is not in it")
	}
	if _, is := chain.Node(authority.Key(member)); !is {
		return errors.New("the member is not in it, or was removed")
	}
	return nil
}

// replaceable fails if no node of a name was removed, so that there is no place to take.
// A replica may have been a member without a link of the chain: of that one it is seen
// when the ledger comes.
func replaceable(links [][]byte, role, name string) error {
	votes, known := authority.MayVote(role)
	if name == "" || known && !votes {
		return nil
	}
	chain, err := authority.Read(links)
	if err != nil {
		return err
	}
	var removed []string
	for _, n := range chain.Nodes() {
		if n.Removed && n.Name == name {
			return nil
		}
		if n.Removed && !slices.Contains(removed, n.Name) {
			removed = append(removed, n.Name)
		}
	}
	if len(removed) == 0 {
		return fmt.Errorf("join: no node was removed whose place %q could take; nothing was done, and the token is still good", name)
	}
	return fmt.Errorf("join: no node %q was removed, but %s: name the lost one with --replaces; nothing was done, and the token is still good", name, strings.Join(removed, ", "))
}

// nobody is the roster of a machine that is in no cluster yet.
type nobody struct{}

func (nobody) Member(string) bool  { return false }
func (nobody) Removed(string) bool { return true }
