package ledger_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/consensustest"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/consensus/placement"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/mesh/meshtest"
)

// Real ledgers in a real group, in bad times: what is written and read is
// linearizable, no slot of a job is claimed by two at once, no token is used
// twice, and in the end all states have one hash and an unbroken audit chain.
func TestLedgersInBadTimes(t *testing.T) {
	seeds := 8
	if os.Getenv("HOLDFAST_SOAK") != "" {
		seeds = 1000
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			var ops []porcupine.Operation
			synctest.Test(t, func(t *testing.T) { ops = badTimes(t, seed) })
			if r := porcupine.CheckOperationsTimeout(register, ops, 20*time.Second); r == porcupine.Illegal {
				for _, op := range ops {
					t.Logf("%v", op)
				}
				t.Error("not linearizable")
			}
		})
	}
}

func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

// A site is a node of the simulation.
type site struct {
	key    ed25519.PrivateKey
	id     string
	disk   *consensustest.Disk
	keeper *authority.Keeper
	ledger *ledger.Ledger
	group  *consensus.Group
	client *ledger.Client
	stop   context.CancelFunc
	done   chan error
}

type mesh struct {
	t     *testing.T
	net   *meshtest.Network
	sites []*site
	lock  chan struct{} // held while a site stops and starts
	ops   []porcupine.Operation
	began time.Time
}

const operator = 1

var clusterID = [16]byte{7}

// newMesh returns three sites with the chain that the operator has signed.
func newMesh(t *testing.T, seed uint64) *mesh {
	chain, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: clusterID, Operators: []authority.Key{authority.PublicKey(key(operator))}, Threshold: 1}, key(operator))})
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, net: meshtest.New(seed), lock: make(chan struct{}, 1), began: time.Now()}
	for i := range byte(3) {
		k := key(10 + i)
		node := authority.Node{Key: authority.PublicKey(k), Name: fmt.Sprint("node-", i), Site: fmt.Sprint("site-", i), Role: "full", Votes: true}
		if chain, err = chain.Next(chain.Sign(chain.Draft(authority.AddNode, node), key(operator))); err != nil {
			t.Fatal(err)
		}
		m.sites = append(m.sites, &site{key: k, id: node.Key.NodeID(), disk: consensustest.NewDisk()})
	}
	for _, s := range m.sites {
		s.keeper = authority.NewKeeper(authority.KeeperConfig{Chain: chain})
		m.start(s)
	}
	for _, link := range chain.Links(0) {
		if _, err := m.sites[0].client.Do(t.Context(), "root@pam", "", ledger.KindAuthority, ledger.Link{Link: link}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *mesh) start(s *site) {
	s.ledger = ledger.New(func(v ledger.View) {
		if err := s.keeper.Follow(v.Chain()); err != nil && v.Chain() != nil {
			m.t.Errorf("%s: %v", s.id, err)
		}
	})
	l := s.ledger
	g, err := consensus.New(consensus.Config{
		Self: s.id, Cluster: clusterID, Stores: s.disk.Stores(), Network: m.net.Node(s.id), Machine: l, Roster: s.keeper, Found: s == m.sites[0],
		Members: func() (all []placement.Member) {
			for id, row := range ledger.Members.All(l.View()) {
				if row.Body.Votes {
					all = append(all, placement.Member{ID: id, Site: row.Body.Site, Votes: row.Body.State == ledger.Active})
				}
			}
			return all
		},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	s.group = g
	s.client = &ledger.Client{Key: s.key, Ledger: l, Submit: func(ctx context.Context, b []byte) ([]byte, error) {
		r, err := g.Submit(ctx, b)
		return r.Value, err
	}}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s.stop, s.done = stop, done
	go func() { done <- g.Run(ctx) }()
}

func (m *mesh) crash(s *site) {
	if s.stop != nil {
		s.disk.Fail(errors.New("no power"))
		m.net.Drop(s.id)
		s.stop()
		<-s.done
		s.stop = nil
		s.disk.Fail(nil)
	}
}

func badTimes(t *testing.T, seed uint64) []porcupine.Operation {
	rng := rand.New(rand.NewPCG(seed, 7))
	m := newMesh(t, seed)
	defer func() {
		for _, s := range m.sites {
			s.stop()
			<-s.done
		}
	}()
	time.Sleep(3 * time.Minute) // all three vote
	tokens := m.invite()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	for i := range m.sites {
		go func() {
			defer func() { ended <- struct{}{} }()
			rng := rand.New(rand.NewPCG(seed, uint64(100+i)))
			for n := 0; ctx.Err() == nil; n++ {
				time.Sleep(time.Duration(rng.IntN(20_000)) * time.Millisecond)
				m.step(i, n, rng, tokens)
			}
		}()
	}
	for range 10 {
		time.Sleep(time.Duration(rng.IntN(40)) * time.Second)
		m.trouble(rng)
	}
	m.net.Heal()
	m.lock <- struct{}{}
	for _, s := range m.sites {
		s.disk.Stall(0)
		if s.stop == nil {
			m.start(s)
		}
	}
	<-m.lock
	time.Sleep(time.Minute)
	stop()
	for range m.sites {
		<-ended
	}
	time.Sleep(10 * time.Second)
	m.check()
	return m.ops
}

func (m *mesh) trouble(rng *rand.Rand) {
	s := m.sites[rng.IntN(3)]
	switch rng.IntN(5) {
	case 0:
		m.net.Split([]string{s.id}, []string{m.sites[0].id, m.sites[1].id, m.sites[2].id})
	case 1:
		m.net.Heal()
	case 2:
		m.lock <- struct{}{}
		m.crash(s)
		<-m.lock
	case 3:
		m.lock <- struct{}{}
		if s.stop == nil {
			m.start(s)
		}
		<-m.lock
	case 4:
		s.disk.Stall(time.Duration(rng.IntN(3000)) * time.Millisecond)
	}
}

// invite makes three invites, each good once.
func (m *mesh) invite() (tokens []invite.Token) {
	for i := range byte(3) {
		k := invite.Token{Cluster: clusterID, ID: [8]byte{i}, Seed: [32]byte{100 + i}, Role: "replica"}
		_, err := m.sites[0].client.Do(m.t.Context(), "op@pbs", "", ledger.KindInvite, ledger.NewInvite{Token: k.ID, Invite: ledger.Invite{
			Key: authority.PublicKey(k.Key()), Role: k.Role, Expires: time.Now().Add(24 * time.Hour).Unix(), Uses: 1,
		}})
		if err != nil {
			m.t.Fatal(err)
		}
		tokens = append(tokens, k)
	}
	return tokens
}

// step does one thing at a site: reads or changes a row, claims, or joins.
func (m *mesh) step(i, n int, rng *rand.Rand, tokens []invite.Token) {
	m.lock <- struct{}{}
	s := *m.sites[i]
	<-m.lock
	ctx := context.Background()
	switch rng.IntN(4) {
	case 0:
		m.join(s, tokens[rng.IntN(len(tokens))], byte(100+i*50+n%50))
	case 1:
		m.read(s)
	default:
		row, _ := ledger.Settings.Get(s.ledger.View(), "x")
		call := time.Since(m.began)
		value := fmt.Sprintf("%d.%d", i, n)
		_, err := s.client.Do(ctx, "op@pbs", "", ledger.KindChange, ledger.Change{Ops: []ledger.Op{ledger.Settings.Put("x", row.Version, ledger.Setting{Value: value})}})
		var refused *ledger.Error
		conflict := errors.As(err, &refused)
		if err != nil && !conflict && !errors.Is(err, consensus.ErrUnknown) {
			return
		}
		m.note(call, cas{row.Body.Value, value}, outcome{unknown: err != nil && !conflict, conflict: conflict}, err != nil && !conflict)
	}
}

func (m *mesh) read(s site) {
	call := time.Since(m.began)
	if s.group.Linear(context.Background()) == nil {
		row, _ := ledger.Settings.Get(s.ledger.View(), "x")
		m.note(call, cas{}, outcome{value: row.Body.Value}, false)
	}
}

func (m *mesh) join(s site, k invite.Token, machine byte) {
	record := []byte("record")
	joiner := key(machine)
	st := invite.Statement{
		Cluster: clusterID, Token: k.ID, Joiner: joiner.Public().(ed25519.PublicKey), Member: s.key.Public().(ed25519.PublicKey),
		Record: record, Role: "replica", Site: "x", Name: fmt.Sprint("machine-", machine),
	}
	b, seed, node, err := st.Sign(k, joiner)
	if err != nil {
		m.t.Error(err)
	}
	sig := ed25519.Sign(joiner, append([]byte(ledger.RecordDomain), record...))
	// Whether it worked is looked up in the end: the answer may be lost.
	_, _ = s.client.Do(context.Background(), "node", "", ledger.KindJoin, ledger.Join{Statement: b, Seed: seed, Node: node, Record: record, RecordSig: [64]byte(sig)})
}

// One site is left, and goes on with the word of an operator.
func TestLedgerIsRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 1)
		defer func() {
			for _, s := range m.sites {
				if s.stop != nil {
					s.stop()
					<-s.done
				}
			}
		}()
		time.Sleep(3 * time.Minute)
		put := func(s *site, name string) error {
			_, err := s.client.Do(t.Context(), "op@pbs", "", ledger.KindChange, ledger.Change{Ops: []ledger.Op{ledger.Settings.Put(name, 0, ledger.Setting{})}})
			return err
		}
		if err := put(m.sites[2], "before"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		m.crash(m.sites[0])
		m.crash(m.sites[1])
		time.Sleep(time.Minute)
		base := m.sites[2]
		chain := base.ledger.View().Chain()
		record := authority.Recovery{Incarnation: 2, Base: authority.PublicKey(base.key), Reason: "fire"}
		forged := chain.Sign(chain.Draft(authority.Recover, record), base.key)
		command := func(link []byte) []byte {
			return base.client.Command("root@pam", "", ledger.KindAuthority, ledger.Link{Link: link})
		}
		if err := base.group.Recover(t.Context(), command(forged)); err == nil {
			t.Error("a node recovers without an operator")
		}
		time.Sleep(time.Minute)
		if err := base.group.Recover(t.Context(), command(chain.Sign(chain.Draft(authority.Recover, record), key(operator)))); err != nil {
			t.Fatal(err)
		}
		if err := put(base, "after"); err != nil {
			t.Fatal(err)
		}
		m.start(m.sites[0])
		m.start(m.sites[1])
		time.Sleep(5 * time.Minute)
		for _, s := range m.sites {
			st := s.group.Status()
			if s.ledger.View().Hash() != base.ledger.View().Hash() || st.Incarnation != 2 || len(st.Voters) != 3 {
				t.Errorf("%s: %+v", s.id, st)
			}
		}
		if err := put(m.sites[1], "together"); err != nil || base.ledger.View().Count(19) != 3 {
			t.Errorf("%d settings, %v", base.ledger.View().Count(19), err)
		}
	})
}

// A cas changes the row from one value to another; without values it reads.
type cas struct{ from, to string }

type outcome struct {
	value             string
	conflict, unknown bool
}

func (m *mesh) note(call time.Duration, in cas, out outcome, open bool) {
	back := time.Since(m.began)
	if open {
		back = time.Duration(1 << 62)
	}
	m.lock <- struct{}{}
	m.ops = append(m.ops, porcupine.Operation{ClientId: len(m.ops), Input: in, Output: out, Call: int64(call), Return: int64(back)})
	<-m.lock
}

var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		s, i, o := state.(string), in.(cas), out.(outcome)
		switch {
		case i.to == "":
			return o.value == s, s
		case o.conflict:
			return s != i.from, s
		case s == i.from:
			return true, i.to
		}
		return o.unknown, s
	},
	Equal: func(a, b any) bool { return a == b },
}

// check looks at the states when everything has ended.
func (m *mesh) check() {
	first := m.sites[0].ledger.View()
	for _, s := range m.sites {
		v := s.ledger.View()
		if v.Hash() != first.Hash() {
			m.t.Errorf("%s is at %d with the state %x, the first at %d with %x", s.id, v.Index(), v.Hash(), first.Index(), first.Hash())
		}
	}
	var list []ledger.Audit
	for _, a := range ledger.Audits.All(first) {
		list = append(list, a.Body)
	}
	if err := ledger.CheckAudit(list); err != nil {
		m.t.Error(err)
	}
	joined := 0
	for _, row := range ledger.Members.All(first) {
		if strings.HasPrefix(row.Body.Name, "machine-") {
			joined++
		}
	}
	used := 0
	for token, row := range ledger.Invites.All(first) {
		if n := len(row.Body.Used); n > 1 || n == 1 && row.Body.Uses != 0 {
			m.t.Errorf("token %s was used by %v", token, row.Body.Used)
		} else {
			used += n
		}
	}
	if joined != used {
		m.t.Errorf("%d machines joined with %d tokens", joined, used)
	}
	if len(list) < 10 || slices.IndexFunc(m.ops, func(o porcupine.Operation) bool { return o.Input.(cas).to != "" && !o.Output.(outcome).unknown }) < 0 {
		m.t.Error("nothing was ever written")
	}
}
