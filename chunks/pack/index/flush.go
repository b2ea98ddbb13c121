package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Flush makes durable everything that was inserted, replaced or deleted before
// it was called, and state with it: after a crash the next Open finds this
// state, or that of a later flush, and at least the records that were there
// when Flush was called. So the owner first takes note of what the index
// covers (the packs up to such an entry), then flushes that note; what it
// covers beyond the note it may cover twice.
//
// Lookups and changes go on meanwhile. If Flush fails nothing is lost in
// memory and the next one tries again; with [ErrDamaged] it never will
// succeed. It returns soon after ctx ends. With nothing new it does nothing.
func (x *Index) Flush(ctx context.Context, state []byte) error {
	if err := x.own(ctx); err != nil {
		return err
	}
	defer x.yield()
	began := time.Now()
	recs, net := x.freeze()
	old := x.view.Load()
	if len(recs) == 0 && !x.Fresh() && bytes.Equal(state, old.state) {
		return nil
	}
	next, err := x.store(ctx, old, recs)
	if err == nil {
		next.live = uint64(int64(old.live) + net)
		next.state = bytes.Clone(state)
		next.current, err = writeCurrent(x.cfg, next.current)
	}
	if err != nil {
		x.unfreeze()
		return fmt.Errorf("flush index: %w", err)
	}
	x.view.Store(next)
	x.melt()
	if _, err := sweep(x.cfg, next.current); err != nil {
		x.cfg.Log.Warn("old runs of index stay until the next flush", "err", err)
	}
	x.cfg.Log.Debug("index flushed", "new", len(recs), "runs", len(next.runs), "took", time.Since(began))
	return nil
}

// freeze takes away the delta, to be written, and returns its records in
// ascending order and by how many live ones they change the index.
func (x *Index) freeze() (recs []*record, net int64) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		t := s.tables.Load()
		frozen := t.joined(x.seed)
		s.tables.Store(&tables{frozen: frozen})
		x.pending.Add(-t.active.size() - t.frozen.size())
		s.mu.Unlock()
		frozen.each(func(r *record) { recs = append(recs, r) })
		if frozen != nil {
			net += frozen.net
		}
	}
	slices.SortFunc(recs, func(a, b *record) int { return bytes.Compare(a[:], b[:]) })
	return recs, net
}

// unfreeze counts what a failed flush leaves as pending again. It stays frozen
// until the next flush joins it with what has come since.
func (x *Index) unfreeze() {
	for i := range x.shards {
		x.pending.Add(x.shards[i].tables.Load().frozen.size())
	}
}

// melt drops what was frozen, after it has become part of a run in view.
func (x *Index) melt() {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		s.tables.Store(&tables{active: s.tables.Load().active})
		s.mu.Unlock()
	}
}

// store writes recs and the newest runs of old into one run, durably, and
// returns the view with it in their place.
func (x *Index) store(ctx context.Context, old *view, recs []*record) (*view, error) {
	if len(recs) == 0 {
		return &view{current: old.current, runs: old.runs}, nil
	}
	width := mergeWidth(uint64(len(recs)), old.current.runs, x.cfg.FanIn)
	newest := sliceSource(recs)
	sources, bound := []source{&newest}, uint64(len(recs))
	for _, r := range old.runs[:width] {
		sources, bound = append(sources, &runSource{r: r}), bound+r.n
	}
	next := &view{runs: slices.Clone(old.runs[width:])}
	next.current.runs = slices.Clone(old.current.runs[width:])
	// With no older run left, there is nothing for a tombstone to hide.
	info, err := x.writeRun(ctx, sources, bound, len(next.runs) == 0)
	if err != nil || info.records == 0 {
		return next, err
	}
	r, err := openRun(x.cfg.FS, x.cfg.Dir, info)
	if err != nil {
		return nil, err
	}
	x.hold(r.held)
	next.runs = slices.Insert(next.runs, 0, r)
	next.current.runs = slices.Insert(next.current.runs, 0, info)
	return next, nil
}

// writeRun merges the sources, newest first, into one run. If it stays empty
// there is no file.
func (x *Index) writeRun(ctx context.Context, sources []source, bound uint64, last bool) (runInfo, error) {
	w, err := createRun(x.cfg, x.nextRun, bound, true)
	if err != nil {
		return runInfo{}, err
	}
	x.nextRun++
	err = merge(ctx, sources, keepFirst, func(r *record) error {
		if last && r.dead() {
			return nil
		}
		return w.add(r)
	})
	if err != nil || w.n == 0 {
		return runInfo{}, errors.Join(err, w.abort())
	}
	return w.finish(true)
}

// hold notes a mapping for Close, and forgets those that are gone by now.
func (x *Index) hold(m *mapping) {
	for old := range x.held {
		if old.gone.Load() {
			delete(x.held, old)
		}
	}
	x.held[m] = struct{}{}
}

// mergeWidth returns how many of runs, newest first, are to be merged with n
// new records: so many that every run left is at least fanIn times as large as
// all that is newer. At 10 million records and a fan-in of 8 that leaves 3
// runs at most, and each record is written 10 times on the way there.
func mergeWidth(n uint64, runs []runInfo, fanIn int) (width int) {
	for i, r := range runs {
		if r.records < n*uint64(fanIn) {
			width = i + 1
		}
		n += r.records
	}
	return width
}
