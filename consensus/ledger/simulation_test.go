package ledger_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/brittle"
	"github.com/holdfast-mesh/holdfast/consensus/consensustest"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/consensus/placement"
	"github.com/holdfast-mesh/holdfast/mesh/invite"
	"github.com/holdfast-mesh/holdfast/mesh/meshtest"
)

// Real ledgers in a real group, in bad times: what is written and read is
// linearizable, no token is used twice, no node is both ejected and reached,
// states at one index have one hash, and the audit chain is unbroken.
func TestLedgersInBadTimes(t *testing.T) {
	consensustest.Seeds(t, 200, func(t *testing.T, seed uint64) {
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

func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

// A site is a node of the simulation.
type site struct {
	key    ed25519.PrivateKey
	id     string
	disk   *consensustest.Disk
	keeper *authority.Keeper
	ledger *ledger.Ledger
	group  *consensus.Group
	runs   atomic.Pointer[consensus.Group] // the same, for who does not hold the lock
	client *ledger.Client
	stop   context.CancelFunc
	done   chan error
	ahead  time.Duration // of its clock
}

// A view is a site in one of its lives.
type view struct {
	key    ed25519.PrivateKey
	ledger *ledger.Ledger
	group  *consensus.Group
	client *ledger.Client
}

type mesh struct {
	t     *testing.T
	net   *meshtest.Network
	sites []*site
	lock  chan struct{} // held while a site stops and starts, and its clock is set
	ops   []porcupine.Operation
	began time.Time
	eject *ejection // nil: nobody is

	hashes map[uint64][32]byte // of states, by index
}

const operator = 1

var clusterID = [16]byte{7}

// newMesh returns sites with the chain that the operator has signed. The last one
// is to be ejected, if any is.
func newMesh(t *testing.T, seed uint64, sites byte, eject bool) *mesh {
	chain, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: clusterID, Operators: []authority.Key{authority.PublicKey(key(operator))}, Threshold: 1}, key(operator))})
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, net: meshtest.New(seed), lock: make(chan struct{}, 1), began: time.Now(), hashes: map[uint64][32]byte{}}
	for i := range sites {
		k := key(10 + i)
		node := authority.Node{Key: authority.PublicKey(k), Name: fmt.Sprint("node-", i), Site: fmt.Sprint("site-", i), Role: "full", Votes: true}
		if chain, err = chain.Next(chain.Sign(chain.Draft(authority.AddNode, node), key(operator))); err != nil {
			t.Fatal(err)
		}
		m.sites = append(m.sites, &site{key: k, id: node.Key.NodeID(), disk: consensustest.NewDisk()})
	}
	if eject {
		m.eject = &ejection{m: m, victim: m.sites[sites-1]}
	}
	for _, s := range m.sites {
		s.keeper = authority.NewKeeper(authority.KeeperConfig{Chain: chain, Changed: func() {
			if g := s.runs.Load(); g != nil {
				g.Recheck()
			}
		}})
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
	var network consensus.Network = m.net.Node(s.id)
	if m.eject != nil && s != m.eject.victim {
		network = watched{network, m.eject, s}
	}
	g, err := consensus.New(consensus.Config{
		Self: s.id, Cluster: clusterID, Stores: s.disk.Stores(), Network: network, Machine: l, Roster: s.keeper, Found: s == m.sites[0],
		Now: func() time.Time {
			m.lock <- struct{}{}
			defer func() { <-m.lock }()
			return time.Now().Add(s.ahead)
		},
		Takes: func(e *brittle.TakenBackError, label string) error {
			m.t.Errorf("%s: taken back: %v", s.id, e)
			return nil
		},
		Nodes: m.ids,
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
	s.runs.Store(g)
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

func (m *mesh) ids() (all []string) {
	for _, s := range m.sites {
		all = append(all, s.id)
	}
	return all
}

func badTimes(t *testing.T, seed uint64) []porcupine.Operation {
	rng := rand.New(rand.NewPCG(seed, 7))
	m := newMesh(t, seed, 3+byte(seed%3), true)
	defer func() {
		for _, s := range m.sites {
			s.stop()
			<-s.done
		}
	}()
	time.Sleep(3 * time.Minute) // three vote
	tokens := m.invite()
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for i := range m.sites {
		work.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(100+i)))
			for n := 0; ctx.Err() == nil; n++ {
				time.Sleep(time.Duration(rng.IntN(20_000)) * time.Millisecond)
				m.step(i, n, rng, tokens)
			}
		})
	}
	work.Go(func() { m.watch(ctx) })
	day, ejector := rng.IntN(12), m.sites[rng.IntN(len(m.sites)-1)]
	for i := range 12 {
		time.Sleep(time.Duration(rng.IntN(40)) * time.Second)
		if i == day {
			m.eject.sign(ejector)
		}
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
	m.eject.settle(m.sites[0])
	time.Sleep(time.Minute)
	stop()
	work.Wait()
	time.Sleep(10 * time.Second)
	m.check()
	return m.ops
}

// watch looks at who is reached, four times a second, and now and then at the
// states of all.
func (m *mesh) watch(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		time.Sleep(250 * time.Millisecond)
		m.eject.look()
		if n%60 != 0 {
			continue
		}
		m.lock <- struct{}{}
		for _, s := range m.sites {
			m.compare(s.id, s.ledger.View())
		}
		<-m.lock
	}
}

// compare fails if a state is not the one that another site had at its index.
func (m *mesh) compare(site string, v ledger.View) {
	hash := v.Hash()
	if was, is := m.hashes[v.Index()]; is && was != hash {
		m.t.Errorf("%s is at %d with the state %x, another had %x", site, v.Index(), hash, was)
	}
	m.hashes[v.Index()] = hash
}

func (m *mesh) trouble(rng *rand.Rand) {
	s := m.sites[rng.IntN(len(m.sites))]
	switch rng.IntN(6) {
	case 0:
		m.net.Split([]string{s.id}, m.ids())
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
	case 5:
		m.lock <- struct{}{}
		s.ahead = time.Duration(rng.IntN(48)-24) * time.Hour
		<-m.lock
	}
}

// invite makes three invites, each good once.
func (m *mesh) invite() (tokens []invite.Token) {
	for i := range byte(3) {
		k := invite.Token{Cluster: clusterID, ID: [8]byte{i}, Seed: [32]byte{100 + i}, Role: "replica"}
		_, err := m.sites[0].client.Do(m.t.Context(), "op@pbs", "", ledger.KindInvite, ledger.NewInvite{Token: k.ID, Invite: ledger.Invite{
			Key: authority.PublicKey(k.Key()), Role: k.Role, Expires: time.Now().Add(72 * time.Hour).Unix(), Uses: 1,
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
	s := view{m.sites[i].key, m.sites[i].ledger, m.sites[i].group, m.sites[i].client}
	<-m.lock
	ctx := context.Background()
	switch rng.IntN(4) {
	case 0:
		m.join(s, tokens[rng.IntN(len(tokens))], byte(100+i*30+n%30))
	case 1:
		m.read(s)
	default:
		row, _ := ledger.Settings.Get(s.ledger.View(), "x")
		call := time.Since(m.began)
		value := fmt.Sprintf("%d.%d", i, n)
		_, err := s.client.Do(ctx, "op@pbs", "", ledger.KindChange, ledger.Change{Ops: []ledger.Op{ledger.Settings.Put("x", row.Version, ledger.Setting{Value: value})}})
		// Only a conflict says something of the row. Any other refusal is about who
		// asks: the site that was ejected is told so whatever the row is, and that
		// was once taken for proof that the row was not what it had seen.
		var refused *ledger.Error
		conflict := errors.As(err, &refused) && refused.Result.Code == ledger.Conflict
		if err != nil && !conflict && !errors.Is(err, consensus.ErrUnknown) {
			return
		}
		m.note(call, cas{row.Body.Value, value}, outcome{unknown: err != nil && !conflict, conflict: conflict}, err != nil && !conflict)
	}
}

func (m *mesh) read(s view) {
	call := time.Since(m.began)
	if s.group.Linear(context.Background()) == nil {
		row, _ := ledger.Settings.Get(s.ledger.View(), "x")
		m.note(call, cas{}, outcome{value: row.Body.Value}, false)
	}
}

func (m *mesh) join(s view, k invite.Token, machine byte) {
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
		m := newMesh(t, 1, 3, false)
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

// check looks at the states when everything has ended. The ejected site has one
// of some time before.
func (m *mesh) check() {
	first := m.sites[0].ledger.View()
	for _, s := range m.sites {
		v := s.ledger.View()
		if s != m.eject.victim && v.Index() != first.Index() {
			m.t.Errorf("%s is at %d, the first at %d", s.id, v.Index(), first.Index())
		}
		m.compare(s.id, v)
		var list []ledger.Audit
		for _, a := range ledger.Audits.All(v) {
			list = append(list, a.Body)
		}
		if err := ledger.CheckAudit(list); err != nil || len(list) == 0 || list[len(list)-1].Root != v.AuditRoot() {
			m.t.Errorf("the audit chain of %s, with %d records: %v", s.id, len(list), err)
		}
	}
	m.eject.check(first)
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
	if slices.IndexFunc(m.ops, func(o porcupine.Operation) bool { return o.Input.(cas).to != "" && !o.Output.(outcome).unknown }) < 0 {
		m.t.Error("nothing was ever written")
	}
}
