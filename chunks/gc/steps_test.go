package gc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

func (w *world) doCollection(o op) {
	ctx := context.Background()
	switch o.kind {
	case cancel:
		w.endCycle()
		w.say("gc is cancelled")
		return
	case noSync:
		w.store.faults.syncState = errPlanted
		if err := w.cycle.sweep(ctx); !errors.Is(err, errPlanted) {
			w.must(fmt.Errorf("sweep went on although nothing was durable: %w", err))
		}
		w.store.faults.syncState = nil
		w.endCycle()
		w.say("gc sweeps, and fails to make that durable")
		return
	case noMove:
		w.store.faults.beforeSwitch, w.store.faults.beforeRemove = errPlanted, errPlanted
		if o.a == 1 {
			w.store.faults.beforeSwitch = nil
		}
		_, err := w.cycle.reclaimPack(ctx, w.work[0])
		if !errors.Is(err, errPlanted) {
			w.must(fmt.Errorf("reclaim went on: %w", err))
		}
		w.store.faults.beforeSwitch, w.store.faults.beforeRemove = nil, nil
		w.work = w.work[1:]
		w.say("gc fails to move the chunks of pack")
		return
	}
	w.step(ctx)
}

func (w *world) endCycle() {
	w.c.end()
	w.cycle, w.stage, w.work, w.stale = nil, idle, nil, nil
}

// step makes the collection's next step. Only the first counts against what
// may happen.
func (w *world) step(ctx context.Context) {
	var err error
	if w.stage != idle {
		w.spent[gc]--
	}
	switch w.stage {
	case idle:
		w.roots.listings = 0
		w.cycle, err = w.c.begin(ctx, Options{Urgent: true})
		w.stage = begun
		w.say("gc begins")
	case begun:
		err = w.cycle.list(ctx)
		w.stage = listed
		var ids []string
		for _, r := range w.cycle.queue {
			ids = append(ids, r.ID())
		}
		w.say("gc lists the snapshots: %s", strings.Join(ids, ", "))
	case listed:
		err = w.stepMark(ctx)
	case planned:
		err = w.stepSweep(ctx)
	case swept, reclaiming:
		err = w.stepReclaim(ctx)
	}
	w.must(err)
}

func (w *world) stepMark(ctx context.Context) error {
	if len(w.cycle.queue) > 0 {
		w.say("gc marks what %s needs", w.cycle.queue[0].ID())
	}
	marked := len(w.cycle.marked)
	more, err := w.cycle.markNext(ctx)
	if more {
		if len(w.cycle.marked) == marked {
			w.said += ": it is gone"
		}
		return err
	}
	if err != nil {
		return err
	}
	w.must(w.c.cache.clean(w.cycle.marked))
	plan, err := w.cycle.plan()
	w.stage = planned
	w.stale = &pack.Set{}
	for _, s := range w.c.sessions {
		w.stale.Or(&s.pins)
	}
	w.stale.Or(w.c.late)
	w.say("gc plans to condemn %d chunks", plan.DeadChunks)
	return err
}

func (w *world) stepSweep(ctx context.Context) error {
	if w.bug == sweepsStalePins {
		w.c.late = w.stale
		for _, s := range w.c.sessions {
			pins := s.pins
			s.pins = pack.Set{}
			defer func() { s.pins = pins }()
		}
	}
	w.stale = nil
	err := w.cycle.sweep(ctx)
	w.stage = swept
	w.say("gc sweeps: %d chunks are condemned", w.cycle.report.CondemnedChunks)
	return err
}

func (w *world) stepReclaim(ctx context.Context) error {
	if w.stage == swept {
		plan, err := w.cycle.measure(w.store.Condemned())
		w.stage, w.work = reclaiming, plan.Packs
		if err != nil || len(plan.Packs) > 0 {
			w.say("gc looks at what it can reclaim")
			return err
		}
	}
	if len(w.work) == 0 {
		w.endCycle()
		w.say("gc ends")
		return nil
	}
	p := w.work[0]
	w.work = w.work[1:]
	if p.Method == pack.Keep {
		w.say("gc keeps a pack for later")
		return nil
	}
	_, err := w.cycle.reclaimPack(ctx, p)
	w.say("gc reclaims a pack by %s", p.Method)
	return err
}
