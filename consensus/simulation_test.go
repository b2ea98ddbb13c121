package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast-mesh/holdfast/consensus"
	"github.com/holdfast-mesh/holdfast/consensus/consensustest"
)

// Whatever happens to the nodes and their network: there is one leader a term,
// what was acknowledged stays, what is read is linearizable, and when it has
// ended everybody agrees within a minute.
func TestBadTimes(t *testing.T) {
	consensustest.Seeds(t, 200, func(t *testing.T, seed uint64) {
		var k *clients
		synctest.Test(t, func(t *testing.T) { k = badTimes(t, seed) })
		k.linearizable(t) // outside, where its time limit is of real time
	})
}

func badTimes(t *testing.T, seed uint64) *clients {
	rng := rand.New(rand.NewPCG(seed, 2))
	c := newCluster(t, seed, 3+rng.IntN(3))
	clocks := make([]time.Duration, len(c.nodes))
	var mu sync.Mutex // of clocks
	for i, n := range c.nodes {
		n.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(clocks[i]) }
	}
	c.start()
	defer c.end()
	c.form(3)
	clients := runClients(c, rng.Uint64())
	stopWatch := watchTerms(t, c, clients.mu)
	for range 12 {
		time.Sleep(time.Duration(rng.IntN(40)) * time.Second)
		n := c.nodes[rng.IntN(len(c.nodes))]
		switch rng.IntN(8) {
		case 0:
			c.net.Split([]string{n.name}, without(c, n))
		case 1:
			c.net.Cut(n.name, c.nodes[rng.IntN(len(c.nodes))].name)
		case 2:
			c.net.Heal()
		case 3:
			clients.crash(n)
		case 4:
			clients.restart(n)
		case 5:
			n.disk.Stall(time.Duration(rng.IntN(6000)) * time.Millisecond)
		case 6:
			mu.Lock()
			clocks[slices.Index(c.nodes, n)] = time.Duration(rng.IntN(48)-24) * time.Hour
			mu.Unlock()
		case 7:
			c.net.Slow(time.Duration(rng.IntN(600))*time.Millisecond, rng.Float64(), rng.Float64()/20)
		}
	}
	c.net.Heal()
	c.net.Slow(20*time.Millisecond, 0, 0)
	for _, n := range c.nodes {
		n.disk.Stall(0)
		clients.restart(n)
	}
	time.Sleep(time.Minute)
	clients.end()
	c.agree()
	stopWatch()
	clients.check(t, slices.Clone(c.nodes[0].machine.items()))
	return clients
}

// watchTerms fails if two nodes lead in one term.
func watchTerms(t *testing.T, c *cluster, mu lock) (stop func()) {
	leaders := map[uint64]string{}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			for _, n := range c.nodes {
				mu.Lock()
				group := n.group
				mu.Unlock()
				s := group.Status()
				if s.Role != "leader" {
					continue
				}
				if was := leaders[s.Term]; was != "" && was != n.name {
					t.Errorf("term %d has the leaders %s and %s", s.Term, was, n.name)
				}
				leaders[s.Term] = n.name
			}
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() { close(done); <-ended }
}

// clients use every node, and remember what they were told.
type clients struct {
	mu    lock // held while nodes stop and start
	c     *cluster
	ops   []porcupine.Operation
	acked []string
	stop  context.CancelFunc
	tasks sync.WaitGroup
	began time.Time
}

// A lock is a mutex in whose queue virtual time goes on.
type lock chan struct{}

func (l lock) Lock()   { l <- struct{}{} }
func (l lock) Unlock() { <-l }

// What a client did: append something, or read all if it is "".
type input struct{ command string }

// What it was told: the place of what it appended, or what it read.
type output struct {
	unknown bool
	place   string
	items   []string
}

func runClients(c *cluster, seed uint64) *clients {
	ctx, stop := context.WithCancel(context.Background())
	k := &clients{mu: make(lock, 1), c: c, stop: stop, began: time.Now()}
	for i := range c.nodes {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		k.tasks.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				time.Sleep(time.Duration(rng.IntN(40_000)) * time.Millisecond)
				k.step(i, n, rng)
			}
		})
	}
	return k
}

func (k *clients) step(i, n int, rng *rand.Rand) {
	k.mu.Lock()
	node := k.c.nodes[i]
	group, machine := node.group, node.machine
	k.mu.Unlock()
	in, out := input{}, output{}
	call := time.Since(k.began)
	var err error
	if rng.IntN(3) == 0 {
		if err = group.Linear(context.Background()); err == nil {
			out.items = machine.items()
		}
	} else {
		in.command = fmt.Sprintf("%s%d", node.name, n)
		var r consensus.Result
		if r, err = group.Submit(context.Background(), []byte(in.command)); err == nil {
			out.place = string(r.Value)
		}
	}
	back := time.Since(k.began)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err == nil && in.command != "":
		k.acked = append(k.acked, in.command)
	case err != nil && (in.command == "" || errors.Is(err, consensus.ErrNoLeader) || errors.Is(err, consensus.ErrStopped)):
		return // certainly nothing
	case err != nil:
		out.unknown, back = true, time.Duration(1<<62)
	}
	k.ops = append(k.ops, porcupine.Operation{ClientId: len(k.ops), Input: in, Output: out, Call: int64(call), Return: int64(back)})
}

func (k *clients) crash(n *node) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n.crash()
}

func (k *clients) restart(n *node) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n.stop == nil {
		n.start()
	}
}

func (k *clients) end() {
	k.stop()
	k.tasks.Wait()
}

var appendOnly = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		s, o := state.(string), out.(output)
		if command := in.(input).command; command != "" {
			return o.unknown || o.place == fmt.Sprint(strings.Count(s, ",")), s + command + ","
		}
		want := ""
		for _, item := range o.items {
			want += item + ","
		}
		return want == s, s
	},
	Equal: func(a, b any) bool { return a == b },
}

func (k *clients) check(t *testing.T, final []string) {
	for _, command := range k.acked {
		if !slices.Contains(final, command) {
			t.Errorf("%q was acknowledged and is lost", command)
		}
	}
	slices.Sort(final)
	if len(slices.Compact(slices.Clone(final))) != len(final) {
		t.Errorf("a command was applied twice: %q", final)
	}
	if len(k.acked) == 0 {
		t.Error("nothing was ever acknowledged")
	}
}

func (k *clients) linearizable(t *testing.T) {
	if r := porcupine.CheckOperationsTimeout(appendOnly, k.ops, 20*time.Second); r == porcupine.Illegal {
		for _, op := range k.ops {
			t.Logf("%8.3f to %8.3f  %v -> %v", time.Duration(op.Call).Seconds(), time.Duration(op.Return).Seconds(), op.Input, op.Output)
		}
		t.Errorf("not linearizable")
	}
}
