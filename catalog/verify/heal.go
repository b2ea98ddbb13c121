package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-mesh/holdfast/catalog"
	"github.com/holdfast-mesh/holdfast/chunks"
	"github.com/holdfast-mesh/holdfast/chunks/gc"
	"github.com/holdfast-mesh/holdfast/chunks/pack"
)

// A Healing says what became of lost chunks.
type Healing struct {
	From     string   `json:"from"`
	Whole    int      `json:"whole"`   // chunks that were whole here after all
	Fetched  int      `json:"fetched"` // chunks
	Bytes    int64    `json:"bytes"`   // fetched
	Unhealed int      `json:"unhealed"`
	Reasons  []Damage `json:"reasons,omitempty"` // of those not healed, the first thousand
	Verified Report   `json:"verified"`          // the snapshots that were hit, as they are now
}

const maxReasons = 1000

// Heal fetches the chunks in lost that are damaged or missing here from another
// place, where they must be whole, and then verifies every snapshot that failed
// before and names one of them, wherever in the datastore it is. What the other
// place lacks, or has damaged too, is in the result and no error.
//
// Of an encrypted chunk from elsewhere the CRC is checked here, and more by the
// verification that follows if it has the key.
func (v *Verifier) Heal(ctx context.Context, from chunks.Source, lost []chunks.Digest) (Healing, error) {
	if mode := v.d.Settings().Maintenance.Mode; mode != catalog.InService {
		return Healing{}, fmt.Errorf("heal from %s: %w (%s)", from, catalog.ErrMaintenance, mode)
	}
	h := &healer{v: v, from: from, fetched: map[chunks.Digest]bool{}, result: Healing{From: from.String()}}
	hit := v.report.Results // of the run that found them
	if err := h.run(ctx, lost); err != nil {
		return h.result, fmt.Errorf("heal from %s: %w", from, err)
	}
	list, err := h.hits(ctx, hit)
	if err != nil {
		return h.result, fmt.Errorf("find snapshots to verify again: %w", err)
	}
	v.again = true
	defer func() { v.again = false }()
	h.result.Verified, err = v.verify(ctx, list)
	return h.result, err
}

// A healer is one healing.
type healer struct {
	v       *Verifier
	from    chunks.Source
	session *gc.Session // keeps what was fetched until a snapshot is known to need it

	old map[chunks.Digest]pack.Ref // where what is fetched lay

	mu sync.Mutex // guards what follows: sources may call back at the same time

	fetched map[chunks.Digest]bool
	result  Healing
}

func (h *healer) run(ctx context.Context, lost []chunks.Digest) (err error) {
	h.session, err = h.v.d.Collector().Open("heal", h.from.String())
	if err != nil {
		return err
	}
	defer h.session.Abort()
	for part := range slices.Chunk(lost, scanChunks) {
		want, err := h.deny(ctx, part)
		if err != nil {
			return err
		}
		err = chunks.GetMany(ctx, h.from, want, func(d chunks.Digest, b chunks.Blob, err error) error {
			return h.got(ctx, d, b, err)
		})
		if err != nil {
			return err
		}
		if err := h.session.Commit(ctx); err != nil {
			return err
		}
		if err := h.bury(ctx); err != nil {
			return err
		}
	}
	return nil
}

// bury condemns what was healed: nothing needs it any more, and nobody is to be
// alarmed by it.
func (h *healer) bury(ctx context.Context) error {
	healed := &pack.Set{}
	for d, ref := range h.old {
		if now, live := h.v.store.Lookup(d); live && now != ref && h.fetched[d] {
			healed.Add(ref)
		}
	}
	h.v.store.Condemn(healed)
	return h.v.store.SyncState(ctx)
}

// deny returns those of lost that are not whole here, and makes sure that the
// store accepts them: it would refuse one that it believes to have.
func (h *healer) deny(ctx context.Context, lost []chunks.Digest) (want []chunks.Digest, err error) {
	v := h.v
	v.queue, h.old = map[chunks.Digest]request{}, map[chunks.Digest]pack.Ref{}
	for _, d := range lost {
		if ref, held := v.store.Locate(d); held && v.notes.get(ref) == 0 {
			v.enqueue(d, ref, false)
		}
	}
	if v.damage == nil { // nothing was verified before
		v.damage = map[chunks.Digest]Damage{}
	}
	if err := v.read(ctx); err != nil {
		return nil, err
	}
	for _, d := range lost {
		ref, live := v.store.Lookup(d)
		if live && v.notes.get(ref).verdict() == good {
			h.result.Whole++
			continue
		}
		if live {
			if err := v.store.Quarantine(ref); err != nil {
				return nil, fmt.Errorf("deny damaged chunk %s: %w", d.Short(), err)
			}
		}
		if ref, held := v.store.Locate(d); held {
			h.old[d] = ref
		}
		want = append(want, d)
	}
	return want, nil
}

// got takes one chunk from the other place, and believes nothing.
func (h *healer) got(ctx context.Context, d chunks.Digest, b chunks.Blob, err error) error {
	if err == nil {
		err = b.Verify(d, nil)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		h.refuse(d, err)
		return nil
	}
	if err := h.v.pace.wait(ctx, len(b)); err != nil {
		return err
	}
	if _, err := h.session.Put(ctx, d, b); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fetched[d] = true
	h.result.Fetched++
	h.result.Bytes += int64(len(b))
	h.v.opt.Log.Info("chunk healed", "chunk", d.String(), "from", h.from.String())
	return nil
}

func (h *healer) refuse(d chunks.Digest, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.result.Unhealed++
	if len(h.result.Reasons) < maxReasons {
		h.result.Reasons = append(h.result.Reasons, Damage{d, errors.Is(err, chunks.ErrMissing), err.Error()})
	}
}

// hits returns the snapshots that failed, in this run or an earlier one, and
// name a chunk that was fetched.
func (h *healer) hits(ctx context.Context, run []Result) ([]target, error) {
	if len(h.fetched) == 0 {
		return nil, nil
	}
	all, err := h.v.d.List(ctx, catalog.ListOptions{Depth: -1})
	if err != nil {
		return nil, err
	}
	failed := map[target]bool{}
	for _, r := range run {
		failed[target{r.Namespace, r.Snapshot}] = r.State == Failed
	}
	var list []target
	for _, i := range all {
		t := target{i.Namespace, i.Snapshot()}
		if !failed[t] && (i.Verification == nil || i.Verification.OK()) {
			continue
		}
		if names, err := h.names(ctx, t); err != nil {
			return nil, err
		} else if names {
			list = append(list, t)
		}
	}
	return list, nil
}

// names reports whether a snapshot names a chunk that was fetched. One that
// cannot be read does not: nothing was healed there.
func (h *healer) names(ctx context.Context, t target) (bool, error) {
	files, err := h.v.d.Files(t.ns, t.snap)
	if err != nil {
		return false, nil
	}
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if strings.HasSuffix(name, ".blob") {
			continue
		}
		x, err := h.v.d.ReadIndex(t.ns, t.snap, name)
		if err != nil {
			continue
		}
		for _, d := range x.All() {
			if h.fetched[d] {
				return true, nil
			}
		}
	}
	return false, nil
}
