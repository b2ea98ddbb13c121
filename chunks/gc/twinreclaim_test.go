package gc

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

func (t *twin) Reclaim(_ context.Context, n uint32, m pack.Method, switchover func([]pack.Move, func())) (pack.Reclaimed, error) {
	t.mu.Lock()
	p := t.packs[n]
	if p == nil || m == pack.Keep {
		t.mu.Unlock()
		return pack.Reclaimed{}, nil
	}
	if t.faults.reclaim != nil {
		t.mu.Unlock()
		return pack.Reclaimed{}, t.faults.reclaim
	}
	open := !p.sealed
	p.sealed = true
	switch m {
	case pack.Drop:
		defer t.mu.Unlock()
		if open && slices.ContainsFunc(p.entries, func(e twinEntry) bool { return e.live() }) {
			return pack.Reclaimed{}, nil // it was given something after the plan was made
		}
		return t.drop(p)
	case pack.Punch:
		defer t.mu.Unlock()
		return t.punch(p), nil
	}
	t.mu.Unlock()
	return t.move(p, switchover)
}

func (t *twin) drop(p *twinPack) (done pack.Reclaimed, err error) {
	for i := range p.entries {
		if e := &p.entries[i]; e.live() {
			return done, fmt.Errorf("chunk %s lives in pack %d", e.digest.Short(), p.number)
		}
	}
	done = t.punch(p)
	maps.DeleteFunc(t.places, func(_ chunks.Digest, r pack.Ref) bool { return r.Pack == p.number })
	delete(t.packs, p.number)
	t.order = slices.DeleteFunc(t.order, func(n uint32) bool { return n == p.number })
	return done, nil
}

func (t *twin) punch(p *twinPack) (done pack.Reclaimed) {
	for i := range p.entries {
		if e := &p.entries[i]; e.blob != nil && (e.dead || e.hidden) {
			if e.dead {
				done.Entries++
			}
			done.FreedBytes += int64(len(e.blob))
			e.blob = nil
		}
	}
	return done
}

// move copies what lives in p to the open pack and drops p.
func (t *twin) move(p *twinPack, switchover func([]pack.Move, func())) (pack.Reclaimed, error) {
	t.mu.Lock()
	var moves []pack.Move
	var copied int64
	for i := range p.entries {
		e, old := &p.entries[i], pack.Ref{Pack: p.number, Entry: uint32(i)}
		if !e.live() {
			continue
		}
		if t.places[e.digest] != old {
			e.hidden = true // the index knows a better copy
			continue
		}
		to := t.append(twinEntry{digest: e.digest, blob: e.blob, bad: e.bad, hidden: true}, nil)
		copied += int64(len(e.blob))
		moves = append(moves, pack.Move{Digest: e.digest, Old: old, New: to})
	}
	t.mu.Unlock()
	if err := t.Commit(context.Background()); err != nil {
		return pack.Reclaimed{}, err
	}
	if err := t.faults.beforeSwitch; err != nil {
		return pack.Reclaimed{CopiedBytes: copied}, err
	}
	if t.faults.aloneMoves {
		switchover = func(_ []pack.Move, apply func()) { apply() }
	}
	switchover(moves, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, m := range moves {
			t.at(m.Old).hidden, t.at(m.New).hidden = true, false
			t.places[m.Digest] = m.New
		}
		t.generation++
	})
	if err := t.faults.beforeRemove; err != nil {
		return pack.Reclaimed{CopiedBytes: copied}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	done, err := t.drop(p)
	done.CopiedBytes = copied
	return done, err
}

// crash makes of t what a restart finds. The generation survives unless some
// chunk has another place: a real store begins a new one after every crash,
// but the contract does not promise that.
func (t *twin) crash(keepEntries, keepDead bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = twinFaults{syncLies: t.faults.syncLies, aloneMoves: t.faults.aloneMoves}
	for _, n := range t.order {
		p := t.packs[n]
		for i := range p.entries {
			e := &p.entries[i]
			if !e.durable && (!keepEntries || e.blob == nil) {
				p.entries = p.entries[:i]
				break
			}
			e.dead = e.deadFor || e.dead && keepDead
			e.durable, e.hidden, e.deadFor = true, false, e.dead
			if e.blob == nil && !e.dead {
				// Reclaimed, and nobody knows: it answers until it is read.
				e.blob = chunks.Blob{}
			}
		}
		p.sealed = len(p.entries) == t.packEntries || n != t.order[len(t.order)-1]
	}
	t.index()
}

// index finds a place for every chunk again, the first of the best.
func (t *twin) index() {
	before := t.places
	t.places = map[chunks.Digest]pack.Ref{}
	worth := func(e *twinEntry) int { return 2*btoi(e.live()) + btoi(e.live() && !e.bad) }
	t.each(func(r pack.Ref, e *twinEntry) {
		if old, ok := t.places[e.digest]; !ok || worth(t.at(old)) < worth(e) {
			t.places[e.digest] = r
		}
	})
	for d, r := range t.places {
		if before[d] != r {
			t.generation++
			return
		}
	}
}
