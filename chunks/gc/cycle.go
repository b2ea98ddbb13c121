package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// ErrRunning says that a garbage collection of this store is at work.
var ErrRunning = errors.New("garbage collection is already running")

// maxListings bounds how often the roots are listed again because one of them
// vanished between listing and reading.
const maxListings = 8

// A cycle is one garbage collection: begin, list, markNext until all roots are
// marked, plan, sweep, reclaim, end. Each step may fail, and a cycle that ends
// early has done no harm.
type cycle struct {
	c       *Collector
	options Options
	epoch   uint64
	packs   watermark
	live    pack.Set // what roots need

	queue    []Root
	marked   map[string]bool // roots by ID
	vanished string          // a root of the last listing that was gone
	listings int

	report Report
}

// begin starts a cycle. From here on released pins are kept; what is appended
// from here on is not a candidate; roots are listed after both.
func (c *Collector) begin(ctx context.Context, options Options) (*cycle, error) {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return nil, ErrRunning
	}
	c.running, c.late = true, &pack.Set{}
	c.mu.Unlock()
	epochOf := c.cfg.Store.BeginEpoch
	if options.DryRun {
		epochOf = c.cfg.Store.Epoch
	}
	epoch, packs, err := epochOf(ctx)
	if err != nil {
		c.end()
		return nil, fmt.Errorf("begin an epoch: %w", err)
	}
	slices.SortFunc(packs, func(a, b pack.Info) int { return cmp.Compare(a.Number, b.Number) })
	y := &cycle{c: c, options: options, epoch: epoch, packs: packs, marked: map[string]bool{}, report: newReport()}
	y.report.Epoch = epoch
	return y, nil
}

// end makes room for the next cycle.
func (c *Collector) end() {
	c.mu.Lock()
	c.running, c.late = false, nil
	c.mu.Unlock()
}

// list puts the roots that are not marked yet into the queue.
func (y *cycle) list(ctx context.Context) error {
	y.listings++
	y.vanished = ""
	err := y.c.cfg.Roots.Each(ctx, func(r Root) error {
		if !y.marked[r.ID()] {
			y.queue = append(y.queue, r)
		}
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("list the snapshots: %w", err)
	}
	return nil
}

// markNext marks one root. It reports false when all roots are marked.
//
// A root that is gone when its turn comes was forgotten, or moved to the
// trash or elsewhere. If moved, it needs its chunks still; so the roots are
// listed again until nothing is missing. If forgotten, nobody is hurt: the
// chunks it shared are marked by other roots, pinned by the sessions that were
// told of them, or kept because such a session finished after this cycle
// began. (PBS had no pins there, and lost chunks of new snapshots whose base
// was forgotten at this moment: PSA-2025-00019-1.)
func (y *cycle) markNext(ctx context.Context) (more bool, err error) {
	if len(y.queue) == 0 && y.vanished != "" {
		if y.listings == maxListings {
			return false, fmt.Errorf("read %s: it is listed, but not there; nothing was removed: %w", y.vanished, fs.ErrNotExist)
		}
		if err := y.list(ctx); err != nil {
			return false, err
		}
	}
	if len(y.queue) == 0 {
		return false, nil
	}
	root := y.queue[0]
	y.queue = y.queue[1:]
	err = y.mark(ctx, root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		y.vanished = root.ID()
	case err != nil:
		return false, fmt.Errorf("read %s, without which nothing can be removed: %w", root.ID(), err)
	default:
		y.marked[root.ID()] = true
	}
	return true, nil
}

// mark adds what root needs, from the cache if that knows.
func (y *cycle) mark(ctx context.Context, root Root) error {
	id := root.ID()
	// The number is read before anything is looked up: if it changes
	// meanwhile, what we save is void.
	generation := y.c.cfg.Store.Generation()
	if size, err := y.c.cache.load(id, generation, y.packs, &y.live); err == nil {
		y.report.IndexFiles++
		y.report.IndexBytes += size
		y.report.CachedFiles++
		return nil
	}
	var refs pack.Set
	missing, err := y.lookup(ctx, root, &refs)
	if err != nil {
		return err
	}
	y.live.Or(&refs)
	y.report.IndexFiles++
	y.report.IndexBytes += root.Size()
	if missing > 0 {
		y.report.addMissing(id, missing)
		return nil // what comes back gets a place that this bitmap lacks
	}
	// A place above the watermark may belong to another chunk after a crash.
	if !y.options.DryRun && y.packs.covers(&refs) {
		if err := y.c.cache.save(id, encodeBitmap(id, generation, root.Size(), &refs)); err != nil {
			y.c.cfg.Log.Debug("bitmap was not saved", "snapshot", id, "err", err)
		}
	}
	return nil
}

// lookup collects the places of all digests of root. No lock is needed: only
// a sweep hides live entries, and this cycle's comes later.
func (y *cycle) lookup(ctx context.Context, root Root, refs *pack.Set) (missing int, err error) {
	store := y.c.cfg.Store
	err = root.Digests(ctx, func(ds []chunks.Digest) error {
		store.LocateMany(ds, func(_ int, ref pack.Ref, held bool) {
			if held {
				refs.Add(ref)
			} else {
				missing++
			}
		})
		return ctx.Err()
	})
	return missing, err
}

// unmarked returns the entries below the watermark that no root needs.
func (y *cycle) unmarked() *pack.Set {
	dead := &pack.Set{}
	var words []uint64
	for _, p := range y.packs {
		words = ones(words, p.Entries)
		left := uint64(0)
		for i, w := range y.live.Row(p.Number) {
			if i < len(words) {
				words[i] &^= w
			}
		}
		for _, w := range words {
			left |= w
		}
		if left != 0 {
			dead.OrRow(p.Number, words)
		}
	}
	return dead
}

// ones returns a bitmap with the lowest n bits set, in scratch's memory.
func ones(scratch []uint64, n uint32) []uint64 {
	words := scratch[:0]
	for range n / 64 {
		words = append(words, ^uint64(0))
	}
	if rest := n % 64; rest > 0 {
		words = append(words, 1<<rest-1)
	}
	return words
}

// plan says what a sweep at this moment would remove. Pins come and go until
// then, so it is an estimate.
func (y *cycle) plan() (Plan, error) {
	dead := y.unmarked()
	y.c.mu.Lock()
	y.c.unpin(dead)
	y.c.mu.Unlock()
	dead.Or(y.c.cfg.Store.Condemned())
	p, err := y.measure(dead)
	p.dead = dead
	return p, err
}

func (y *cycle) measure(dead *pack.Set) (Plan, error) {
	usage, err := y.c.cfg.Store.Measure(dead)
	if err != nil {
		return newReport().Plan, fmt.Errorf("measure the packs: %w", err)
	}
	return plan(y.epoch, y.packs, usage, y.c.cfg.Store.Abilities(), y.options.Urgent), nil
}

// unpin takes everything pinned out of dead. The caller holds c.mu.
func (c *Collector) unpin(dead *pack.Set) {
	for _, s := range c.sessions {
		s.mu.Lock()
		dead.AndNot(&s.pins)
		s.mu.Unlock()
	}
	if c.late != nil {
		dead.AndNot(c.late)
	}
}

// lapse takes the pins of leases that were idle for too long. The journal is
// not told: it says since when they were idle. The caller holds c.mu.
func (c *Collector) lapse(now time.Time) {
	for id, s := range c.sessions {
		s.mu.Lock()
		if s.busy == 0 && now.Sub(s.used) > c.cfg.TTL {
			s.pins, s.fresh = pack.Set{}, pack.Set{}
			s.recorded, s.lapsed, s.closed = false, true, s.orphan
			if s.orphan {
				delete(c.sessions, id)
			}
		}
		s.mu.Unlock()
	}
}

// sweep condemns what nobody needs and returns when that is durable. Deciding
// and condemning are one step under the gate; pins are looked at inside it,
// not before: between a look and a sweep somebody may have been told "already
// here".
func (y *cycle) sweep(ctx context.Context) error {
	c := y.c
	if err := c.cfg.Store.CheckIndex(ctx); err != nil {
		return fmt.Errorf("the index cannot be trusted, and nothing was removed: %w", err)
	}
	dead := y.unmarked()
	dead.AndNot(c.cfg.Store.Condemned())
	c.gate.Lock()
	c.mu.Lock()
	c.lapse(time.Now())
	c.unpin(dead)
	c.late = nil // what finishes from here on is listed by the next cycle
	c.mu.Unlock()
	condemned := c.cfg.Store.Condemn(dead)
	c.gate.Unlock()
	y.report.CondemnedChunks = int64(condemned)
	if err := c.cfg.Store.SyncState(ctx); err != nil {
		return fmt.Errorf("make the list of condemned chunks durable: %w", err)
	}
	return nil
}
