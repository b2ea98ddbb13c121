package index

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"time"

	"github.com/holdfast-mesh/holdfast/chunks"
)

// rebuildBatch is how many records Rebuild sorts at a time. With its keys
// that takes 64 MiB of memory; 100 million records make 95 files to merge.
const rebuildBatch = 1 << 20

// A Conflict chooses between two places of one digest, of which a came first.
type Conflict func(d chunks.Digest, a, b Loc) Loc

// Rebuild makes a new index in cfg.Dir from recs, in whatever order they come,
// and opens it: one run, one flush. Where a digest comes more than once,
// conflict decides, or the last one counts if conflict is nil. state is asked
// for the owner's state when recs has ended; its error, say because recs
// ended too early, ends the rebuild.
//
// An index that is there already, damaged or not, counts until the new one is
// complete, and must be closed. Rebuild needs room on the disk for twice the
// new index, and 64 MiB of memory.
func Rebuild(ctx context.Context, cfg Config, recs iter.Seq2[chunks.Digest, Loc],
	conflict Conflict, state func() ([]byte, error)) (*Index, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &builder{cfg: cfg, resolve: conflict.resolver(), max: rebuildBatch}
	began := time.Now()
	if err := b.build(ctx, recs, state); err != nil {
		return nil, fmt.Errorf("rebuild index: %w", errors.Join(err, b.drop()))
	}
	if err := b.drop(); err != nil {
		return nil, fmt.Errorf("rebuild index: %w", err)
	}
	cfg.Log.Info("index rebuilt", "records", b.total, "took", time.Since(began))
	return Open(cfg) // which sweeps
}

// resolver returns c as merge needs it.
func (c Conflict) resolver() resolver {
	return func(first, second *record) {
		loc := second.loc()
		if c != nil {
			loc = c(*first.digest(), first.loc(), loc)
		}
		first.setLoc(loc)
	}
}

// A builder sorts more records than fit in memory: it writes a run without
// lines, a spill, for each batch but the last, and merges them all.
type builder struct {
	cfg     Config
	resolve resolver
	max     int // records in a batch
	next    uint64
	total   uint64
	recs    []record
	sorter  sorter
	spills  []*run
}

func (b *builder) build(ctx context.Context, recs iter.Seq2[chunks.Digest, Loc], state func() ([]byte, error)) error {
	if err := makeDir(b.cfg); err != nil {
		return err
	}
	var err error
	if _, b.next, err = leftovers(b.cfg, current{}); err != nil {
		return err
	}
	if err := b.collect(ctx, recs); err != nil {
		return err
	}
	blob, err := state()
	if err != nil {
		return err
	}
	cur := current{state: blob}
	if b.total > 0 {
		info, err := b.mergeAll(ctx)
		if err != nil {
			return err
		}
		cur.runs, cur.live = []runInfo{info}, info.records
	}
	_, err = writeCurrent(b.cfg, cur)
	return err
}

// collect reads recs and spills every full batch but the last.
func (b *builder) collect(ctx context.Context, recs iter.Seq2[chunks.Digest, Loc]) error {
	for d, loc := range recs {
		if b.total%blockRecords == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if loc.Pack == NoPack {
			return fmt.Errorf("chunk %s is said to be in pack %d, a number that is reserved", d.Short(), uint32(NoPack))
		}
		if len(b.recs) == b.max {
			if err := b.spill(ctx); err != nil {
				return err
			}
		}
		b.recs = append(b.recs, makeRecord(d, loc))
		b.total++
	}
	return ctx.Err()
}

// spill writes the batch as a run of its own.
func (b *builder) spill(ctx context.Context) error {
	info, err := b.write(ctx, []source{b.sorter.sort(b.recs)}, uint64(len(b.recs)), false)
	if err != nil {
		return err
	}
	r, err := openRun(b.cfg.FS, b.cfg.Dir, info)
	if err != nil {
		return err
	}
	b.spills = append(b.spills, r)
	b.recs = b.recs[:0]
	return nil
}

// mergeAll writes the spills and the last batch as the run that remains.
func (b *builder) mergeAll(ctx context.Context) (runInfo, error) {
	var sources []source
	for _, r := range b.spills {
		sources = append(sources, &runSource{r: r})
	}
	return b.write(ctx, append(sources, b.sorter.sort(b.recs)), b.total, true)
}

func (b *builder) write(ctx context.Context, sources []source, bound uint64, last bool) (runInfo, error) {
	w, err := createRun(b.cfg, b.next, bound, last)
	if err != nil {
		return runInfo{}, err
	}
	b.next++
	if err := merge(ctx, sources, b.resolve, w.add); err != nil {
		return runInfo{}, errors.Join(err, w.abort())
	}
	return w.finish(last)
}

// drop lets go of the spills and removes them.
func (b *builder) drop() (err error) {
	for _, r := range b.spills {
		err = errors.Join(err, r.held.release(), b.cfg.FS.Remove(r.file))
	}
	runtime.KeepAlive(b)
	b.spills = nil
	return err
}
