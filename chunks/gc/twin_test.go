package gc

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// twin is a Store in memory that keeps its contract to the letter and no
// better: entries not committed and condemnations not synced are lost or kept
// by a crash as the test says, places of lost entries are given out again, a
// reclaimed entry is destroyed at once, and of several entries of a chunk only
// one is known.
type twin struct {
	packEntries int
	can         pack.Abilities
	frames      bool // Append checks them, as it should; the model's chunks have none
	faults      twinFaults

	mu sync.Mutex

	packs      map[uint32]*twinPack
	order      []uint32 // numbers of packs, ascending
	places     map[chunks.Digest]pack.Ref
	next       uint32
	epoch      uint64
	generation uint64
	failures   uint64
}

// twinFaults are ways in which a store can fail, or break its contract.
type twinFaults struct {
	index        error // CheckIndex fails so
	syncState    error // SyncState fails, and does nothing
	syncLies     bool  // SyncState succeeds, and does nothing
	aloneMoves   bool  // Reclaim switches over without its caller
	beforeSwitch error // Reclaim fails when the copies are durable
	beforeRemove error // Reclaim fails when the switch is made
	commit       error // Commit fails, and loses what is not durable
	reclaim      error // Reclaim fails at once
	beforeAppend func()
}

type twinPack struct {
	number  uint32
	sealed  bool
	entries []twinEntry
}

type twinEntry struct {
	digest  chunks.Digest
	blob    chunks.Blob // nil once reclaimed
	durable bool
	dead    bool // condemned
	deadFor bool // durably
	bad     bool // quarantined
	hidden  bool // a copy before its switch, or what it replaced after
}

func (e *twinEntry) live() bool { return !e.dead && !e.hidden && e.blob != nil }

func newTwin(packEntries int, can pack.Abilities) *twin {
	return &twin{
		packEntries: packEntries, can: can,
		packs: map[uint32]*twinPack{}, places: map[chunks.Digest]pack.Ref{}, next: 1,
	}
}

func (t *twin) String() string { return "twin" }

func (t *twin) at(r pack.Ref) *twinEntry {
	p := t.packs[r.Pack]
	if p == nil || int(r.Entry) >= len(p.entries) {
		return nil
	}
	return &p.entries[r.Entry]
}

func (t *twin) find(d chunks.Digest, bad bool) (pack.Ref, bool) {
	r, ok := t.places[d]
	if !ok {
		return pack.Ref{}, false
	}
	e := t.at(r)
	return r, e != nil && e.live() && (bad || !e.bad)
}

func (t *twin) Lookup(d chunks.Digest) (pack.Ref, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.find(d, false)
}

func (t *twin) LocateMany(ds []chunks.Digest, fn func(int, pack.Ref, bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, d := range ds {
		ref, held := t.find(d, true)
		fn(i, ref, held)
	}
}

func (t *twin) CheckIndex(context.Context) error { return t.faults.index }

func (t *twin) Get(ctx context.Context, d chunks.Digest, buf []byte) (chunks.Blob, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r, ok := t.places[d]; ok {
		if e := t.at(r); e != nil && e.blob != nil && !e.bad {
			return append(buf[:0], e.blob...), nil
		}
	}
	return nil, &chunks.Error{Op: "read", Digest: d, Place: "twin", Err: chunks.ErrMissing}
}

func (t *twin) GetMany(ctx context.Context, want []chunks.Digest, fn func(chunks.Digest, chunks.Blob, error) error) error {
	for _, d := range want {
		b, err := t.Get(ctx, d, nil)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fn(d, b, err); err != nil {
			return err
		}
	}
	return nil
}

func (t *twin) Append(ctx context.Context, d chunks.Digest, b chunks.Blob, pin func(pack.Ref)) (pack.Ref, bool, error) {
	if hook := t.faults.beforeAppend; hook != nil {
		t.faults.beforeAppend = nil
		hook()
	}
	if err := ctx.Err(); err != nil {
		return pack.Ref{}, false, err
	}
	if err := b.Check(); err != nil && t.frames {
		return pack.Ref{}, false, &chunks.Error{Op: "write", Digest: d, Place: "twin", Err: err}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, ok := t.find(d, false); ok {
		return r, true, nil
	}
	if _, quarantined := t.find(d, true); quarantined {
		t.generation++
	}
	return t.append(twinEntry{digest: d, blob: bytes.Clone(b)}, pin), false, nil
}

// append puts e into the open pack. The caller holds t.mu.
func (t *twin) append(e twinEntry, pin func(pack.Ref)) pack.Ref {
	var p *twinPack
	if n := len(t.order); n > 0 && !t.packs[t.order[n-1]].sealed {
		p = t.packs[t.order[n-1]]
	} else {
		p = &twinPack{number: t.next}
		t.packs[p.number] = p
		t.order = append(t.order, p.number)
		t.next++
	}
	r := pack.Ref{Pack: p.number, Entry: uint32(len(p.entries))}
	if pin != nil {
		pin(r)
	}
	p.entries = append(p.entries, e)
	p.sealed = len(p.entries) == t.packEntries
	if !e.hidden {
		t.places[e.digest] = r
	}
	return r
}

func (t *twin) Commit(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.faults.commit; err != nil {
		t.loseTail()
		return err
	}
	for _, p := range t.packs {
		for i := range p.entries {
			p.entries[i].durable = p.entries[i].blob != nil || p.entries[i].durable
		}
	}
	return nil
}

// fail is a failed write: what is not durable is gone.
func (t *twin) fail() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.loseTail()
}

func (t *twin) loseTail() {
	t.failures++
	for _, p := range t.packs {
		for i := range p.entries {
			if !p.entries[i].durable {
				p.entries[i].blob = nil
				p.sealed = true
			}
		}
	}
}

func (t *twin) Failures() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failures
}

func (t *twin) BeginEpoch(ctx context.Context) (uint64, []pack.Info, error) {
	t.mu.Lock()
	t.epoch++
	t.mu.Unlock()
	return t.Epoch(ctx)
}

func (t *twin) Epoch(context.Context) (uint64, []pack.Info, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var infos []pack.Info
	for _, n := range t.order {
		p := t.packs[n]
		durable := 0
		for durable < len(p.entries) && p.entries[durable].durable {
			durable++
		}
		infos = append(infos, pack.Info{Number: n, Entries: uint32(durable), Sealed: p.sealed})
	}
	return t.epoch, infos, nil
}

func (t *twin) Condemned() *pack.Set {
	t.mu.Lock()
	defer t.mu.Unlock()
	set := &pack.Set{}
	t.each(func(r pack.Ref, e *twinEntry) {
		if e.dead && e.blob != nil {
			set.Add(r)
		}
	})
	return set
}

func (t *twin) each(fn func(pack.Ref, *twinEntry)) {
	for _, n := range t.order {
		p := t.packs[n]
		for i := range p.entries {
			fn(pack.Ref{Pack: n, Entry: uint32(i)}, &p.entries[i])
		}
	}
}

func (t *twin) Condemn(s *pack.Set) (condemned int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range s.All() {
		if e := t.at(r); e != nil && !e.dead {
			e.dead = true
			condemned++
		}
	}
	return condemned
}

func (t *twin) SyncState(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.faults.syncState != nil || t.faults.syncLies {
		return t.faults.syncState
	}
	t.each(func(_ pack.Ref, e *twinEntry) { e.deadFor = e.dead })
	return nil
}

func (t *twin) Generation() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.generation
}

func (t *twin) Measure(s *pack.Set) (map[uint32]pack.Usage, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	usage := map[uint32]pack.Usage{}
	for _, n := range t.order {
		usage[n] = pack.Usage{}
	}
	t.each(func(r pack.Ref, e *twinEntry) {
		u := usage[r.Pack]
		if e.blob == nil {
			return
		}
		u.Entries++
		if s.Has(r) {
			u.Dead++
			u.DeadBytes += int64(len(e.blob))
		} else {
			u.LiveBytes += int64(len(e.blob))
		}
		usage[r.Pack] = u
	})
	return usage, nil
}

func (t *twin) Abilities() pack.Abilities { return t.can }

// volatile reports whether a crash could take entries, and condemnations.
func (t *twin) volatile() (entries, dead bool) {
	t.each(func(_ pack.Ref, e *twinEntry) {
		entries = entries || !e.durable && e.blob != nil
		dead = dead || e.dead && !e.deadFor
	})
	return entries, dead
}

// quarantine marks the live entry of d as damaged.
func (t *twin) quarantine(d chunks.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, ok := t.find(d, false); ok {
		t.at(r).bad = true
	}
}

// liveDigests returns the chunks that live, repeated if they have several
// entries.
func (t *twin) liveDigests() (all []chunks.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.each(func(_ pack.Ref, e *twinEntry) {
		if e.live() {
			all = append(all, e.digest)
		}
	})
	slices.SortFunc(all, chunks.Digest.Compare)
	return all
}

var errPlanted = errors.New("planted failure")
