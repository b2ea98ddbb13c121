package claims

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/consensustest"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/consensus/placement"
	"github.com/holdfast-mesh/holdfast/mesh/meshtest"
)

func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

// A site is a node with real ledger, group and claims, in virtual time.
type site struct {
	id     string
	group  *consensus.Group
	client *ledger.Client
	claims *Claims
	passed *passed
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// passed is what all sites write to: it refuses fences that are smaller than
// one that it has seen, as a bucket does.
type passed struct {
	mu    sync.Mutex
	seen  map[string]ledger.Fence
	order []ledger.Fence
}

func (p *passed) pass(resource string, f ledger.Fence) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.Compare(p.seen[resource]) < 0 {
		return errors.New("superseded")
	}
	p.seen[resource] = f
	p.order = append(p.order, f)
	return nil
}

type mesh struct {
	t     *testing.T
	net   *meshtest.Network
	sites []*site
}

// newMesh returns three sites that all vote.
func newMesh(t *testing.T) *mesh {
	cluster := [16]byte{7}
	chain, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: cluster, Operators: []authority.Key{authority.PublicKey(key(1))}, Threshold: 1}, key(1))})
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, net: meshtest.New(1)}
	for i := range byte(3) {
		n := authority.Node{Key: authority.PublicKey(key(10 + i)), Name: fmt.Sprint("n", i), Site: fmt.Sprint("s", i), Role: "full", Votes: true}
		if chain, err = chain.Next(chain.Sign(chain.Draft(authority.AddNode, n), key(1))); err != nil {
			t.Fatal(err)
		}
	}
	target := &passed{seen: map[string]ledger.Fence{}}
	for i := range byte(3) {
		m.sites = append(m.sites, m.start(cluster, key(10+i), chain, i == 0, target))
	}
	for _, link := range chain.Links(0) {
		if _, err := m.sites[0].client.Do(t.Context(), "root@pam", "", ledger.KindAuthority, ledger.Link{Link: link}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(3 * time.Minute)
	return m
}

func (m *mesh) start(cluster [16]byte, k ed25519.PrivateKey, chain *authority.Chain, founds bool, target *passed) *site {
	s := &site{id: authority.PublicKey(k).NodeID(), passed: target}
	keeper := authority.NewKeeper(authority.KeeperConfig{Chain: chain})
	l := ledger.New(nil)
	group, err := consensus.New(consensus.Config{
		Self: s.id, Cluster: cluster, Stores: consensustest.NewDisk().Stores(), Network: m.net.Node(s.id), Machine: l, Roster: keeper, Found: founds,
		Members: func() (all []placement.Member) {
			for id, row := range ledger.Members.All(l.View()) {
				all = append(all, placement.Member{ID: id, Site: row.Body.Site, Votes: true})
			}
			return all
		},
		Answer: func(_ context.Context, node string, q []byte) ([]byte, error) { return s.claims.Answer(node, q) },
	})
	if err != nil {
		m.t.Fatal(err)
	}
	s.group = group
	s.client = &ledger.Client{Key: k, Ledger: l, Submit: func(ctx context.Context, b []byte) ([]byte, error) {
		r, err := group.Submit(ctx, b)
		return r.Value, err
	}}
	s.claims, err = New(Config{
		Client: s.client, Leads: func() bool { return group.Status().Role == "leader" }, Pass: target.pass,
		Ask: func(ctx context.Context, q []byte) ([]byte, error) {
			a, _, err := group.Ask(ctx, "", q)
			return a, err
		},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.done.Go(func() { _ = group.Run(ctx) })
	s.done.Go(func() { _ = s.claims.Run(ctx) })
	return s
}

func (m *mesh) end() {
	for _, s := range m.sites {
		s.stop()
	}
	for _, s := range m.sites {
		s.done.Wait()
	}
}

// follower returns a site that does not lead, and leader one that does.
func (m *mesh) follower() *site {
	return m.sites[slices.IndexFunc(m.sites, func(s *site) bool { return !s.claims.cfg.Leads() })]
}
func (m *mesh) leader() *site {
	return m.sites[slices.IndexFunc(m.sites, func(s *site) bool { return s.claims.cfg.Leads() })]
}

// Of many that try, one at a time does it, with a greater fence each time.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.end()
		var mu sync.Mutex
		running, ran := 0, 0
		var fences []ledger.Fence
		var tasks sync.WaitGroup
		for _, s := range m.sites {
			for range 2 {
				tasks.Go(func() {
					for range 10 {
						err := s.claims.Hold(t.Context(), "bucket x", func(_ context.Context, f ledger.Fence) error {
							mu.Lock()
							running++
							ran++
							fences = append(fences, f)
							if running > 1 {
								t.Errorf("%d at once", running)
							}
							mu.Unlock()
							time.Sleep(time.Second)
							mu.Lock()
							running--
							mu.Unlock()
							return nil
						})
						var taken *Taken
						if err != nil && (!errors.As(err, &taken) || !slices.ContainsFunc(m.sites, func(s *site) bool { return s.id == taken.Node })) {
							t.Error(err)
						}
						time.Sleep(700 * time.Millisecond)
					}
				})
			}
		}
		tasks.Wait()
		if ran < 5 || !slices.IsSortedFunc(fences, ledger.Fence.Compare) || len(slices.Compact(fences)) != ran {
			t.Errorf("%d runs with the fences %v", ran, fences)
		}
	})
}

// A slot is done once, and again only if it has failed.
func TestSlotIsDoneOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.end()
		at := time.Now().Truncate(time.Second)
		fail := errors.New("no space")
		ran := 0
		run := func(s *site, err error) error {
			return s.claims.Slot(t.Context(), "nightly", at, func(context.Context, ledger.Fence) error { ran++; return err })
		}
		if err := run(m.sites[0], fail); !errors.Is(err, fail) {
			t.Error(err)
		}
		if err := run(m.sites[1], nil); err != nil {
			t.Error(err)
		}
		for _, s := range m.sites {
			if err := run(s, nil); !errors.Is(err, ErrDone) {
				t.Errorf("a slot that was done: %v", err)
			}
		}
		if ran != 2 {
			t.Errorf("it ran %d times", ran)
		}
	})
}

// Who is cut off stops by itself before anybody else begins, and what it writes
// later is refused.
func TestOwnerIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.end()
		owner := m.follower()
		var others []string
		for _, s := range m.sites {
			if s != owner {
				others = append(others, s.id)
			}
		}
		var stopped, began time.Time
		var stale ledger.Fence
		first := make(chan error, 1)
		held := make(chan struct{})
		go func() {
			first <- owner.claims.Hold(t.Context(), "bucket x", func(ctx context.Context, f ledger.Fence) error {
				stale = f
				close(held)
				<-ctx.Done()
				stopped = time.Now()
				return context.Cause(ctx)
			})
		}()
		<-held
		time.Sleep(5 * time.Minute) // a claim lasts as long as its owner lives
		if _, is := Has(m.leader().client.Ledger.View(), "bucket x"); !is {
			t.Fatal("the claim was lost though its owner lives")
		}
		m.net.Split([]string{owner.id}, others)
		cut := time.Now()
		next := m.leader()
		for began.IsZero() {
			err := next.claims.Hold(t.Context(), "bucket x", func(_ context.Context, f ledger.Fence) error {
				began = time.Now()
				if f.Compare(stale) <= 0 {
					t.Errorf("the fence %v after %v", f, stale)
				}
				return nil
			})
			if err != nil && !errors.Is(err, ErrTaken) {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if stopped.IsZero() || !stopped.Before(began) {
			t.Errorf("the next one began %s after the cut, the one before stopped %s after it", began.Sub(cut), stopped.Sub(cut))
		}
		if took := began.Sub(cut); took > 70*time.Second {
			t.Errorf("the work was taken over after %s, want about 70 s at most", took)
		}
		m.net.Heal()
		if err := <-first; !errors.Is(err, ErrLost) {
			t.Errorf("the one that was cut off is told %v", err)
		}
		if err := owner.passed.pass("bucket x", stale); err == nil {
			t.Error("what it writes late is taken")
		}
		if err := owner.claims.Hold(t.Context(), "bucket x", func(context.Context, ledger.Fence) error { return nil }); err != nil {
			t.Errorf("when it is back: %v", err)
		}
	})
}

// The loss of a leader costs no claim of those that live, and its own are free
// soon.
func TestLeaderIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.end()
		leader, owner := m.leader(), m.follower()
		hold := func(s *site, resource string, until <-chan struct{}) <-chan error {
			done, held := make(chan error, 1), make(chan struct{})
			go func() {
				done <- s.claims.Hold(t.Context(), resource, func(ctx context.Context, _ ledger.Fence) error {
					close(held)
					select {
					case <-ctx.Done():
						return context.Cause(ctx)
					case <-until:
						return nil
					}
				})
			}()
			<-held
			return done
		}
		enough := make(chan struct{})
		lives, dies := hold(owner, "a", enough), hold(leader, "b", nil)
		m.net.Drop(leader.id)
		leader.stop()
		if err := <-dies; !errors.Is(err, ErrLost) {
			t.Errorf("the one that ended is told %v", err)
		}
		lost := time.Now()
		for errors.Is(owner.claims.Hold(t.Context(), "b", func(context.Context, ledger.Fence) error { return nil }), ErrTaken) {
			time.Sleep(time.Second)
		}
		if took := time.Since(lost); took > 130*time.Second {
			t.Errorf("what the lost one held was free after %s", took)
		}
		close(enough)
		if err := <-lives; err != nil {
			t.Errorf("the claim of one that lives: %v", err)
		}
	})
}

// Time that a machine slept counts, though its monotonic clock stood still.
func TestSleepCounts(t *testing.T) {
	c := &Claims{cfg: Config{Times: WAN}}
	now := time.Now()
	for _, tt := range []struct {
		name string
		mono bool
		wall time.Duration
		lost bool
	}{
		{"awake", true, 29 * time.Second, false}, {"awake and silent", true, 30 * time.Second, true},
		{"asleep", false, time.Hour, true}, {"the clock was set back", false, -time.Hour, false},
	} {
		s := &session{acked: now}
		s.ctx, s.lose = context.WithCancelCause(t.Context())
		c.session = s
		at := now.Add(tt.wall)
		if !tt.mono {
			at = at.Round(0) // as if the monotonic part were that of now
			s.acked = now.Round(0)
		}
		c.judge(at)
		if lost := errors.Is(context.Cause(s.ctx), ErrLost); lost != tt.lost {
			t.Errorf("%s: lost: %t", tt.name, lost)
		}
	}
}

// Work is spread over nodes by weight, and one node more moves little of it.
func TestOrder(t *testing.T) {
	three := []Candidate{{"a", 1}, {"b", 1}, {"c", 2}, {"never", 0}}
	four := append(slices.Clone(three), Candidate{"d", 1})
	first, moved := map[string]int{}, 0
	const n = 4000
	for i := range n {
		r := fmt.Sprint("job ", i)
		order, more := Order(r, three), Order(r, four)
		if len(order) != 3 || slices.Contains(order, "never") {
			t.Fatal(order)
		}
		first[order[0]]++
		if more[0] != order[0] {
			moved++
			if more[0] != "d" {
				t.Fatalf("%s moved from %s to %s", r, order[0], more[0])
			}
		}
	}
	if c := float64(first["c"]) / n; c < 0.45 || c > 0.55 {
		t.Errorf("a node of twice the weight does %.2f of the work", c)
	}
	if m := float64(moved) / n; m < 0.15 || m > 0.25 {
		t.Errorf("%.2f of the work moved to one of five parts", m)
	}
	if d, is := Wait(Order("x", three), "never"); is || d != 0 {
		t.Error("a node without weight tries")
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1})
	c, err := New(Config{
		Client: &ledger.Client{Key: key(1), Ledger: ledger.New(nil)}, Ask: func(context.Context, []byte) ([]byte, error) { return nil, nil },
		Leads: func() bool { return true }, Pass: func(string, ledger.Fence) error { return nil },
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, q []byte) {
		a, err := c.Answer("somebody", q)
		if (err == nil) != (len(q) == 8) || err == nil && len(a) != 1 {
			t.Errorf("%x: %x, %v", q, a, err)
		}
	})
}
