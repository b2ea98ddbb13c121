package jobs

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/claims"
	"github.com/holdfast-mesh/holdfast/consensus/consensustest"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
	"github.com/holdfast-mesh/holdfast/consensus/placement"
	"github.com/holdfast-mesh/holdfast/jobs"
	"github.com/holdfast-mesh/holdfast/mesh/meshtest"
)

func key(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

// A target is what the job writes to, once for each of its times: it refuses
// fences that are smaller than one that it has seen, as a bucket does.
type target struct {
	t *testing.T

	mu      sync.Mutex
	seen    ledger.Fence
	done    map[int64]ledger.Fence // by slot
	refused int
	missed  []span
	longest time.Duration // from a slot to its effect
}

// publish has the effect of a slot, unless it was had or the fence is stale.
func (d *target) publish(slot time.Time, f ledger.Fence) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.Compare(d.seen) < 0 {
		d.refused++
		return errors.New("superseded")
	}
	d.seen = f
	if before, is := d.done[slot.Unix()]; is {
		if before.Compare(f) == 0 {
			d.t.Errorf("the slot %s has its effect twice under one fence", slot)
		}
		return nil // it is there: nothing is changed
	}
	d.done[slot.Unix()] = f
	d.longest = max(d.longest, time.Since(slot))
	return nil
}

// A span is what somebody was told: that a slot was missed, and those after it.
type span struct{ from, to time.Time }

func (s span) String() string { return s.from.Format(time.TimeOnly) + "-" + s.to.Format(time.TimeOnly) }

// tell tells that slots were missed.
func (d *target) tell(_ jobs.Schedule, first, last time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.missed = append(d.missed, span{first, last})
}

// A site is a node that votes and shares the job.
type site struct {
	w       *world
	i       int
	id      string
	cluster [16]byte
	key     ed25519.PrivateKey
	dir     string
	disk    *consensustest.Disk
	keeper  *authority.Keeper

	mu    sync.Mutex
	skew  time.Duration // of the wall clock
	hangs time.Duration // the work goes on for so long, whatever it is told
	takes time.Duration

	client *ledger.Client
	leads  func() bool
	claims *claims.Claims
	sched  *jobs.Scheduler
	stop   func() // nil: it is dead
}

type world struct {
	t      *testing.T
	net    *meshtest.Network
	target *target
	sites  []*site

	mu    sync.Mutex
	began []start
}

// A start is that a site has begun to work.
type start struct {
	site *site
	at   time.Time
}

// last returns who has begun to work last.
func (w *world) last() start {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.began) == 0 {
		return start{}
	}
	return w.began[len(w.began)-1]
}

func newWorld(t *testing.T, seed uint64) *world {
	cluster := [16]byte{7}
	chain, err := authority.Read([][]byte{authority.Found(authority.GenesisBody{Cluster: cluster, Operators: []authority.Key{authority.PublicKey(key(1))}, Threshold: 1}, key(1))})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, net: meshtest.New(seed), target: &target{t: t, done: map[int64]ledger.Fence{}}}
	for i := range byte(3) {
		n := authority.Node{Key: authority.PublicKey(key(10 + i)), Name: fmt.Sprint("n", i), Site: fmt.Sprint("s", i), Role: "full", Votes: true}
		if chain, err = chain.Next(chain.Sign(chain.Draft(authority.AddNode, n), key(1))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		w.sites = append(w.sites, w.found(cluster, i, chain))
	}
	for _, link := range chain.Links(0) {
		if _, err := w.sites[0].client.Do(t.Context(), "root@pam", "", ledger.KindAuthority, ledger.Link{Link: link}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(3 * time.Minute)
	for _, s := range w.sites {
		s.work()
	}
	return w
}

// found makes a site and starts it, as yet without its jobs.
func (w *world) found(cluster [16]byte, i int, chain *authority.Chain) *site {
	s := &site{
		w: w, i: i, cluster: cluster, key: key(10 + byte(i)), dir: w.t.TempDir(), takes: 30 * time.Second,
		disk: consensustest.NewDisk(), keeper: authority.NewKeeper(authority.KeeperConfig{Chain: chain}),
	}
	s.id = authority.PublicKey(s.key).NodeID()
	s.start(i == 0)
	return s
}

// start starts a site, or starts it again.
func (s *site) start(founds bool) {
	l := ledger.New(nil)
	var c *claims.Claims
	group, err := consensus.New(consensus.Config{
		Self: s.id, Cluster: s.cluster, Stores: s.disk.Stores(), Network: s.w.net.Node(s.id), Machine: l, Roster: s.keeper, Found: founds,
		Members: func() (all []placement.Member) {
			for id, row := range ledger.Members.All(l.View()) {
				all = append(all, placement.Member{ID: id, Site: row.Body.Site, Votes: true})
			}
			return all
		},
		Answer: func(_ context.Context, node string, q []byte) ([]byte, error) { return c.Answer(node, q) },
	})
	if err != nil {
		s.w.t.Fatal(err)
	}
	s.client = &ledger.Client{Key: s.key, Ledger: l, Submit: func(ctx context.Context, b []byte) ([]byte, error) {
		r, err := group.Submit(ctx, b)
		return r.Value, err
	}}
	s.leads = func() bool { return group.Status().Role == "leader" }
	c, err = claims.New(claims.Config{
		Client: s.client, Leads: s.leads,
		Pass: func(string, ledger.Fence) error { return nil }, // only the target refuses
		Ask: func(ctx context.Context, q []byte) ([]byte, error) {
			a, _, err := group.Ask(ctx, "", q)
			return a, err
		},
	})
	if err != nil {
		s.w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = group.Run(ctx) })
	running.Go(func() { _ = c.Run(ctx) })
	s.claims = c
	s.stop = func() {
		stop()
		s.w.net.Drop(s.id)
		running.Wait()
		s.stop = nil
	}
}

// work starts what runs jobs.
func (s *site) work() {
	m, err := jobs.New(jobs.Config{Dir: filepath.Join(s.dir, "tasks"), Node: fmt.Sprint("n", s.i)})
	if err != nil {
		s.w.t.Fatal(err)
	}
	s.sched, err = jobs.NewScheduler(jobs.SchedulerConfig{
		Manager: m, File: filepath.Join(s.dir, "runs"), Location: time.UTC, Now: s.clock,
		Missed: s.w.target.tell, Share: func(string) jobs.Share { return s.share(s.claims) },
	})
	if err == nil {
		err = s.sched.Put(s.job())
	}
	if err != nil {
		s.w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.sched.Run(ctx) })
	stop := s.stop
	s.stop = func() {
		cancel()
		running.Wait()
		_ = m.Close(context.Background()) // its directory is used again
		stop()
	}
}

func (s *site) live() {
	s.start(false)
	s.work()
}

func (s *site) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Round(0).UTC().Add(s.skew)
}

const every = 5 * time.Minute

// A turn is what a run of the job has to say of itself to its target.
type turn struct {
	slot  time.Time
	fence ledger.Fence
}

type turnKey struct{}

// share decides who of all sites does a slot of the job.
func (s *site) share(c *claims.Claims) jobs.Share {
	var all []claims.Candidate
	for _, o := range s.w.sites {
		all = append(all, claims.Candidate{Node: o.id, Weight: 1})
	}
	return func(ctx context.Context, at, until time.Time, run func(context.Context, time.Time) error) error {
		err := c.Turn(ctx, "push:nightly", at, until, all, func(ctx context.Context, f ledger.Fence) error {
			return run(context.WithValue(ctx, turnKey{}, turn{at, f}), c.Before("push:nightly", at))
		})
		if other := (*claims.Elsewhere)(nil); errors.As(err, &other) {
			return &jobs.Elsewhere{Node: other.Node, How: other.State}
		}
		return err
	}
}

// job is the job that all sites share.
func (s *site) job() jobs.Schedule {
	return jobs.Schedule{
		Name: "push:nightly", Event: "*:0/5", Type: "syncjob", ID: "nightly", Auth: "root@pam", Shared: true,
		Work: func(ctx context.Context, _ *jobs.Task) error {
			mine := ctx.Value(turnKey{}).(turn)
			s.w.mu.Lock()
			s.w.began = append(s.w.began, start{s, time.Now()})
			s.w.mu.Unlock()
			s.mu.Lock()
			takes, hangs := s.takes, s.hangs
			s.mu.Unlock()
			select {
			case <-time.After(takes):
			case <-ctx.Done():
				if hangs == 0 {
					return context.Cause(ctx)
				}
			}
			time.Sleep(hangs)
			return s.w.target.publish(mine.slot, mine.fence)
		},
	}
}

// explain prints why each site did what it did, and what became of it.
func (w *world) explain() {
	for _, m := range w.target.missed {
		w.t.Logf("told to be missed: %s", m)
	}
	for _, slot := range slices.Sorted(maps.Keys(w.target.done)) {
		w.t.Logf("done: %s, fence %d", time.Unix(slot, 0).UTC().Format(time.TimeOnly), w.target.done[slot].Index)
	}
	for _, row := range ledger.Claims.All(w.sites[0].client.Ledger.View()) {
		w.t.Logf("claim: %s by %s, fence %d, %s", time.Unix(row.Body.Slot, 0).UTC().Format(time.TimeOnly), row.Body.Owner.NodeID(), row.Body.Fence.Index, row.Body.State)
	}
	for _, s := range w.sites {
		why, err := s.sched.Why("push:nightly")
		w.t.Logf("site %d: %s %v", s.i, why.Now, err)
		for _, n := range why.Notes {
			w.t.Logf("  %s %s (%s)", n.At.Format(time.TimeOnly), n.Text, n.Slot.Format(time.TimeOnly))
		}
	}
}

func (w *world) close() {
	for _, s := range w.sites {
		if s.stop != nil {
			s.stop()
		}
	}
}
