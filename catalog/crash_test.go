package catalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-mesh/holdfast/chunks/disk/disktest"
)

type step func(context.Context) error

// script is a history in which everything that changes a datastore happens,
// most of it more than once.
func (h *history) script() []step {
	vm, ct, host := group("vm/100"), group("ct/7"), group("host/a")
	backup := func(ns Namespace, g Group, day int, seeds ...uint64) step {
		return func(ctx context.Context) error { return h.backup(ctx, ns, snap(g.String(), day), seeds...) }
	}
	forget := func(ns Namespace, g Group, day int) step {
		return func(ctx context.Context) error { return h.forget(ctx, ns, snap(g.String(), day)) }
	}
	undo := func(ns Namespace, g Group, day int) step {
		return func(ctx context.Context) error { return h.undo(ctx, ns, snap(g.String(), day)) }
	}
	return []step{
		h.init, h.open,
		backup("", vm, 1, 1, 2, 3, 4),
		func(ctx context.Context) error { return h.createNamespace(ctx, "a") },
		func(ctx context.Context) error { return h.createNamespace(ctx, "a/b") },
		backup("a/b", ct, 1, 3, 4, 5),
		func(ctx context.Context) error { return h.note(ctx, id{"", snap("vm/100", 1)}, "first\nsecond") },
		backup("", vm, 2, 2, 3, 4, 6),
		func(ctx context.Context) error { return h.abort(ctx, "", snap("vm/100", 3), 7, 8) },
		func(ctx context.Context) error { return h.protect(ctx, id{"", snap("vm/100", 2)}, true) },
		forget("", vm, 1),
		h.collect,
		backup("", vm, 4, 1, 9),
		func(ctx context.Context) error { return h.groupNote(ctx, gid{"", vm}, "of the group") },
		func(ctx context.Context) error { return h.groupNote(ctx, gid{"", vm}, "") },
		h.close, h.open,
		func(ctx context.Context) error { return h.protect(ctx, id{"", snap("vm/100", 2)}, false) },
		forget("", vm, 2), undo("", vm, 2),
		func(ctx context.Context) error { return h.give(ctx, gid{"a/b", ct}, bob) },
		func(ctx context.Context) error { return h.prune(ctx, 1) },
		backup("", host, 1, 4, 5), backup("", host, 2, 5, 10),
		func(ctx context.Context) error { return h.forgetGroup(ctx, "", host) },
		undo("", host, 1),
		h.empty, h.collect,
		func(ctx context.Context) error { return h.removeNamespace(ctx, "a") },
		undo("a/b", ct, 1),
		h.collect,
		h.close,
	}
}

// random is a history of n steps that a seed draws.
func (h *history) random(seed uint64, n int) []step {
	rng := rand.New(rand.NewPCG(seed, 0))
	groups := []gid{{"", group("vm/100")}, {"", group("ct/7")}, {"a", group("vm/100")}, {"a", group("host/x")}}
	steps := []step{h.init, h.open, func(ctx context.Context) error { return h.createNamespace(ctx, "a") }}
	for day := range n {
		steps = append(steps, func(ctx context.Context) error {
			g := groups[rng.IntN(len(groups))]
			if h.owners[g] != nil && !h.owners[g].has(alice) {
				return h.give(ctx, g, alice)
			}
			return h.draw(ctx, rng, g, day)
		})
	}
	return append(steps, h.close)
}

// draw does one thing to a group.
func (h *history) draw(ctx context.Context, rng *rand.Rand, g gid, day int) error {
	seeds := []uint64{rng.Uint64N(20), 20 + rng.Uint64N(20), 40 + rng.Uint64N(20)}
	here := func(i id) bool { return i.ns == g.ns && i.s.Group == g.g }
	alive, gone := h.all(live, here), h.all(inTrash, here)
	next := Snapshot{Group: g.g, Time: day0.AddDate(0, 0, day+1).Unix()}
	what := rng.IntN(14)
	switch {
	case len(alive) == 0 && len(gone) > 0 && what%2 == 0, what == 0 && len(gone) > 0:
		return h.undo(ctx, g.ns, gone[rng.IntN(len(gone))].s)
	case len(alive) == 0 || what <= 3:
		return h.backup(ctx, g.ns, next, seeds...)
	case what == 4:
		return h.abort(ctx, g.ns, next, seeds...)
	case what == 5:
		return h.collect(ctx)
	case what == 6:
		return h.empty(ctx)
	case what == 7:
		return h.prune(ctx, 1+rng.IntN(2))
	case what == 8:
		return h.groupNote(ctx, g, fmt.Sprint("group ", day))
	case what == 9:
		return h.give(ctx, g, bob)
	case what == 10:
		return errors.Join(h.close(ctx), h.open(ctx))
	}
	i := alive[rng.IntN(len(alive))]
	switch on := h.snaps[i].protected[0]; {
	case what == 11:
		return h.protect(ctx, i, !on)
	case what == 12 && !on:
		return h.forget(ctx, i.ns, i.s)
	}
	return h.note(ctx, i, fmt.Sprint("note ", day))
}

// A history is what a test of crashes runs.
type historyCase struct {
	name  string
	steps func(*history) []step
}

func histories(seeds int) []historyCase {
	all := []historyCase{{"script", (*history).script}}
	for seed := range uint64(seeds) {
		all = append(all, historyCase{fmt.Sprint("random ", seed), func(h *history) []step { return h.random(seed, 25) }})
	}
	return all
}

// run does the steps until one fails.
func (h *history) run(ctx context.Context, steps []step) error {
	for i, step := range steps {
		if err := step(ctx); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// ours reports whether an operation is of the catalog's own, and not of the
// store of chunks, whose crashes have tests of their own.
func ours(op disktest.Op) bool {
	top, _, below := strings.Cut(strings.TrimPrefix(op.Name, storeDir+"/"), "/")
	return op.Kind.Changes() && below && top != "packs" && top != "index" && top != "gc"
}

// A cut chooses when the power goes: at the first operation for which it says
// so. It is called once for each operation, in their order.
type cut func(op disktest.Op) bool

// atAny cuts at operation n, whatever it is.
func atAny(n int) cut { return func(op disktest.Op) bool { return op.Seq == n } }

// atOurs cuts at the nth operation that is ours.
func atOurs(n int) cut {
	return func(op disktest.Op) bool {
		if ours(op) {
			n--
		}
		return n == 0
	}
}

// A power cut at any operation of the file system loses nothing that was
// acknowledged, leaves nothing half done, and needs no hand.
func TestPowerCutAnywhere(t *testing.T) {
	step, stepOurs, cases := 47, 2, histories(1)
	switch {
	case os.Getenv("HOLDFAST_SOAK") != "":
		step, stepOurs, cases = 1, 1, histories(20)
	case raceEnabled:
		step, stepOurs = 331, 17
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, own := newHistory(), 0
			h.mem.SetHook(func(op disktest.Op) error {
				if ours(op) {
					own++
				}
				return nil
			})
			must(t, h.run(t.Context(), c.steps(h)))
			for at := 1 + step/2; at <= h.mem.Ops() && !t.Failed(); at += step {
				cutPower(t, c, fmt.Sprint("operation ", at), atAny(at), uint64(at))
			}
			for at := 1; at <= own && !t.Failed(); at += stepOurs {
				cutPower(t, c, fmt.Sprint("operation of ours ", at), atOurs(at), uint64(at))
			}
			t.Logf("%d operations of the file system, %d of ours; %d acknowledged", h.mem.Ops(), own, h.acked)
		})
	}
}

// cutPower runs a history until the power goes, and looks at several of the
// states in which the disk may wake up.
func cutPower(t *testing.T, c historyCase, when string, now cut, seed uint64) {
	t.Helper()
	h := newHistory()
	var mu sync.Mutex
	h.mem.SetHook(func(op disktest.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if now(op) {
			return disktest.ErrCrashed
		}
		return nil
	})
	err := h.run(t.Context(), c.steps(h))
	if err == nil && !h.mem.Crashed() {
		return // this run needed fewer operations
	}
	if !h.mem.Crashed() {
		t.Fatalf("before %s: %v", when, err)
	}
	if h.d != nil {
		h.d.Close() // fails; it lets go of goroutines and memory
	}
	again := h.clone(h.mem.Crash(seed))
	again.mem.FailAt(1+int(seed%150), disktest.ErrCrashed) // in the recovery, perhaps
	if again.open(t.Context()) == nil {
		again.d.Close()
	}
	for how, mem := range map[string]*disktest.Mem{
		"losing all": h.mem.CrashLosing(), "keeping all": h.mem.CrashKeeping(), "losing some": h.mem.Crash(seed),
		"losing others": h.mem.Crash(seed + 1<<32), "losing some twice": again.mem.Crash(seed),
	} {
		h := h.clone(mem)
		if err := h.check(t.Context()); err != nil {
			t.Errorf("power cut at %s, %s: %v", when, how, err)
		}
	}
}
