package claims

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-mesh/holdfast/consensus/authority"
	"github.com/holdfast-mesh/holdfast/consensus/ledger"
)

// everybody are all sites as candidates.
func (m *mesh) everybody() (all []Candidate) {
	for _, s := range m.sites {
		all = append(all, Candidate{s.id, 1})
	}
	return all
}

// raise brings the ledger to the level at which runs stall.
func (m *mesh) raise() {
	c := m.leader().client
	for level := c.Ledger.View().Level() + 1; level <= authority.LevelDelay; level++ {
		if _, err := c.Do(m.t.Context(), "node", "", ledger.KindLevel, ledger.RaiseLevel{Level: level}); err != nil {
			m.t.Fatal(err)
		}
	}
	time.Sleep(time.Minute)
}

// A turns is what sites have done of a slot, and what they were told.
type turns struct {
	mu   sync.Mutex
	ran  []string
	told map[string]error
}

// take has all sites but those of skip try a slot, and waits for the answers.
func (m *mesh) take(slot, until time.Time, do func(s *site, ctx context.Context) error) *turns {
	r := &turns{told: map[string]error{}}
	var all sync.WaitGroup
	for _, s := range m.sites {
		all.Go(func() {
			err := s.claims.Turn(context.Background(), "push:x", slot, until, m.everybody(), func(ctx context.Context, _ ledger.Fence) error {
				r.mu.Lock()
				r.ran = append(r.ran, s.id)
				r.mu.Unlock()
				return do(s, ctx)
			})
			r.mu.Lock()
			defer r.mu.Unlock()
			r.told[s.id] = err
		})
	}
	all.Wait()
	return r
}

// A slot is done by one of all, the first in the order; the others are told by
// whom, and the next slot is done by the same one.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.end()
		want := Order("push:x", m.everybody())[0]
		for i, fails := range []error{nil, errors.New("no space")} {
			slot := time.Now().Truncate(time.Second)
			r := m.take(slot, slot.Add(time.Hour), func(*site, context.Context) error { time.Sleep(time.Minute); return fails })
			if len(r.ran) != 1 || r.ran[0] != want {
				t.Errorf("slot %d was done by %v, want %s", i, r.ran, want)
			}
			state := map[bool]string{true: ledger.Ended, false: ledger.Failed}[fails == nil]
			for id, err := range r.told {
				var other *Elsewhere
				switch {
				case id == want && !errors.Is(err, fails):
					t.Errorf("who did it is told %v", err)
				case id != want && (!errors.As(err, &other) || other.Node != want || other.State != state):
					t.Errorf("another is told %v, want %s of %s", err, state, want)
				}
			}
			time.Sleep(time.Minute)
		}
	})
}

// Who had a job last has it next, though another comes first in the order.
func TestTurnIsSticky(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.end()
		order := Order("push:x", m.everybody())
		for _, s := range m.sites {
			if s.id == order[2] {
				if err := s.claims.Slot(t.Context(), "push:x", time.Now(), func(context.Context, ledger.Fence) error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Minute)
		slot := time.Now()
		if r := m.take(slot, slot.Add(time.Hour), func(*site, context.Context) error { return nil }); len(r.ran) != 1 || r.ran[0] != order[2] {
			t.Errorf("done by %v, want %s", r.ran, order[2])
		}
	})
}

// What an owner leaves that is cut off another takes over, within 90 s at a
// round trip of 150 ms; the one that was cut off is told so.
func TestTurnIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.end()
		m.net.Slow(150*time.Millisecond, 0.1, 0.01)
		slot := time.Now().Truncate(time.Second)
		var cut time.Time
		var took time.Duration
		owner := ""
		r := m.take(slot, slot.Add(time.Hour), func(s *site, ctx context.Context) error {
			if owner != "" {
				took = time.Since(cut)
				return nil
			}
			owner = s.id
			time.Sleep(20 * time.Second)
			var others []string
			for _, o := range m.sites {
				if o != s {
					others = append(others, o.id)
				}
			}
			m.net.Split([]string{s.id}, others)
			time.AfterFunc(5*time.Minute, m.net.Heal)
			cut = time.Now()
			<-ctx.Done()
			return context.Cause(ctx)
		})
		if len(r.ran) != 2 || r.ran[1] == owner || took > 90*time.Second {
			t.Errorf("after %s it was run by %v", took, r.ran)
		}
		if other := (*Elsewhere)(nil); !errors.As(r.told[owner], &other) || other.Node != r.ran[1] {
			t.Errorf("the one that was cut off is told %v", r.told[owner])
		}
		t.Logf("the next owner ran after %s", took)
	})
}

// What an owner leaves since it gets nowhere, as on a hung file system, another does
// in the same slot, and has the next one: the first comes last then. It once had its
// slots for ever, and nobody else did them.
func TestTurnThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.end()
		leader := m.leader()
		m.raise()
		slot := time.Now().Truncate(time.Second)
		r := m.take(slot, slot.Add(time.Hour), func(s *site, _ context.Context) error {
			if s.id == Order("push:x", m.everybody())[0] {
				time.Sleep(20 * time.Minute)
				return ErrStalled
			}
			return nil
		})
		order := Order("push:x", m.everybody())
		if len(r.ran) != 2 || r.ran[0] != order[0] || r.ran[1] == order[0] {
			t.Fatalf("it was run by %v, the order is %v", r.ran, order)
		}
		if err := r.told[order[0]]; !errors.Is(err, ErrStalled) {
			t.Errorf("the first is told %v", err)
		}
		if next := leader.claims.Next("push:x", m.everybody()); next[0] != r.ran[1] {
			t.Errorf("next is %v, it was done by %s", next, r.ran[1])
		}
		if before := leader.claims.Before("push:x", slot.Add(time.Hour)); !before.Equal(slot.UTC()) {
			t.Errorf("the slot before is %s, want %s", before, slot)
		}
	})
}

// Who got nowhere with a job last comes last, though it has nobody's slot now.
func TestStalledComesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.end()
		m.raise()
		order := Order("push:x", m.everybody())
		slot := time.Now().Truncate(time.Second)
		for _, s := range m.sites {
			if s.id == order[0] {
				if err := s.claims.Slot(t.Context(), "push:x", slot, func(context.Context, ledger.Fence) error { return ErrStalled }); !errors.Is(err, ErrStalled) {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Minute)
		if next := m.leader().claims.Next("push:x", m.everybody()); !slices.Equal(next, []string{order[1], order[2], order[0]}) {
			t.Errorf("next are %v, the order is %v", next, order)
		}
		if before := m.leader().claims.Before("push:x", slot.Add(time.Hour)); !before.Equal(slot.Add(-time.Second).UTC()) {
			t.Errorf("the slot before is %s, though %s was left", before, slot)
		}
	})
}

// Without a quorum nobody has a turn, and each says so at the time until.
func TestTurnWithoutQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.end()
		for i, s := range m.sites {
			m.net.Split([]string{s.id}, []string{m.sites[(i+1)%3].id})
		}
		time.Sleep(2 * time.Minute)
		until := time.Now().Add(10 * time.Minute)
		r := m.take(time.Now(), until, func(*site, context.Context) error { return nil })
		for id, err := range r.told {
			if err == nil {
				t.Errorf("%s had a turn", id)
			}
		}
		if len(r.ran) > 0 || time.Since(until) > 2*time.Minute {
			t.Errorf("%v ran; it took until %s after", r.ran, time.Since(until))
		}
	})
}

// A slot that has not come by the clock of the leader is left to its time.
func TestTurnOfFastClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.end()
		slot := time.Now().Add(10 * time.Minute).Truncate(time.Second)
		var at time.Time
		err := m.sites[0].claims.Turn(t.Context(), "push:x", slot, slot.Add(5*time.Minute), m.everybody()[:1], func(context.Context, ledger.Fence) error {
			at = time.Now()
			return nil
		})
		if err != nil || slot.Sub(at) > time.Minute || at.Sub(slot) > time.Minute {
			t.Errorf("it ran %s before its time: %v", slot.Sub(at), err)
		}
		time.Sleep(time.Minute)
		if _, decided := m.sites[1].claims.decided("push:x", slot); !decided {
			t.Error("another does not know that it was done")
		}
	})
}

// A node that ends while it runs a slot leaves it to another. Once this counted as
// a run that had failed, and the slot was lost.
func TestTurnOfNodeThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		defer m.end()
		slot := time.Now().Truncate(time.Second)
		ending, end := context.WithCancel(t.Context())
		first := m.follower()
		gone := make(chan error, 1)
		go func() {
			gone <- first.claims.Turn(ending, "push:x", slot, slot.Add(time.Hour), []Candidate{{first.id, 1}}, func(ctx context.Context, _ ledger.Fence) error {
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}()
		time.Sleep(10 * time.Second)
		end()
		if err := <-gone; err == nil {
			t.Error("a run that was cut short is told to be done")
		}
		first.stop()
		began := time.Now()
		ran := false
		next := m.sites[slices.IndexFunc(m.sites, func(s *site) bool { return s != first })]
		err := next.claims.Turn(t.Context(), "push:x", slot, slot.Add(time.Hour), m.everybody(), func(context.Context, ledger.Fence) error { ran = true; return nil })
		if err != nil || !ran || time.Since(began) > 2*time.Minute {
			t.Errorf("it was taken over: %v, after %s: %v", ran, time.Since(began), err)
		}
	})
}
