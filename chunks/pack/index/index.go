package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"path"
	"sync/atomic"

	"github.com/holdfast-mesh/holdfast/chunks/disk"
)

// Config says where an index lies. The zero value of every optional field
// means the default written beside it.
type Config struct {
	FS       disk.FS      // required
	Dir      string       // directory of its own, made if missing; required
	DeltaMax int          // digests in memory before NeedsFlush, at most 16 Mi; default 64 Ki
	FanIn    int          // a run stays out of a merge if it is this many times larger than all newer ones, 2 to 64; default 8
	Log      *slog.Logger // default: discard
}

func (c Config) withDefaults() (Config, error) {
	c.DeltaMax = cmp.Or(c.DeltaMax, 64<<10)
	c.FanIn = cmp.Or(c.FanIn, 8)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	switch {
	case c.FS == nil:
		return c, errors.New("index: no file system")
	case c.Dir == "":
		return c, errors.New("index: no directory")
	case c.DeltaMax < 1 || c.DeltaMax > 16<<20:
		return c, fmt.Errorf("index: delta of %d digests, want 1 to %d", c.DeltaMax, 16<<20)
	case c.FanIn < 2 || c.FanIn > 64:
		return c, fmt.Errorf("index: fan-in is %d, want 2 to 64", c.FanIn)
	}
	return c, nil
}

// An Index finds chunks in packs. All methods are safe for concurrent use,
// except Close.
type Index struct {
	cfg     Config
	seed    maphash.Seed
	shards  [shards]shard
	view    atomic.Pointer[view]
	live    atomic.Int64 // digests that a lookup finds
	pending atomic.Int64 // digests in the delta that no flush is writing

	busy chan struct{} // holds a token while Flush, Check or Close owns the fields below

	closed  bool
	nextRun uint64
	held    map[*mapping]struct{} // every mapping made and not known to be released
}

// A view is the part of the index that lies on disk, as of one flush.
type view struct {
	current
	runs []*run // newest first
}

// Open opens the index in cfg.Dir. If there is none the result is empty and
// [Index.Fresh]. If it is damaged the error matches [ErrDamaged] and
// [Rebuild] is the cure. Open reads the file current, and header and footer
// of each run; [Index.Check] reads the rest, which is due after an unclean
// stop. What a crash left over is removed. The caller sees to it that only
// one process, and one Index in it, uses the directory.
func Open(cfg Config) (*Index, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := makeDir(cfg); err != nil {
		return nil, err
	}
	v, err := openView(cfg)
	if err != nil {
		return nil, err
	}
	nextRun, err := sweep(cfg, v.current)
	if err != nil {
		return nil, errors.Join(err, v.release())
	}
	x := &Index{
		cfg:     cfg,
		seed:    maphash.MakeSeed(),
		busy:    make(chan struct{}, 1),
		nextRun: nextRun,
		held:    map[*mapping]struct{}{},
	}
	for i := range x.shards {
		x.shards[i].tables.Store(&tables{})
	}
	for _, r := range v.runs {
		x.held[r.held] = struct{}{}
	}
	x.live.Store(int64(v.live))
	x.view.Store(v)
	return x, nil
}

func makeDir(cfg Config) error {
	err := cfg.FS.Mkdir(cfg.Dir, 0o700)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return fmt.Errorf("make directory of index: %w", err)
	}
	if err := cfg.FS.SyncDir(path.Dir(cfg.Dir)); err != nil {
		return fmt.Errorf("make directory of index: %w", err)
	}
	return nil
}

// openView opens the runs that the file current lists.
func openView(cfg Config) (*view, error) {
	cur, err := readCurrent(cfg)
	if err != nil {
		return nil, err
	}
	v := &view{current: cur}
	for _, info := range cur.runs {
		r, err := openRun(cfg.FS, cfg.Dir, info)
		if err != nil {
			return nil, errors.Join(err, v.release())
		}
		v.runs = append(v.runs, r)
	}
	return v, nil
}

func (v *view) release() (err error) {
	for _, r := range v.runs {
		err = errors.Join(err, r.held.release())
	}
	return err
}

// Close lets go of all files. What was not flushed is lost. It must not be
// called while another call is under way, and no call may follow.
func (x *Index) Close() error {
	x.busy <- struct{}{}
	defer x.yield()
	x.closed = true
	var err error
	for m := range x.held {
		err = errors.Join(err, m.release())
	}
	x.held = nil
	x.view.Store(&view{current: x.view.Load().current})
	if err != nil {
		return fmt.Errorf("close index %s: %w", x.cfg.Dir, err)
	}
	return nil
}

// own waits until no other call owns the files of the index.
func (x *Index) own(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case x.busy <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if x.closed {
		x.yield()
		return ErrClosed
	}
	return nil
}

func (x *Index) yield() { <-x.busy }

// Fresh reports whether nothing was ever flushed here: the index is new, or
// lost, and has to be filled from the packs if there are any.
func (x *Index) Fresh() bool { return x.view.Load().generation == 0 }

// State returns what the last successful Flush or Rebuild was given. It must
// not be changed.
func (x *Index) State() []byte { return x.view.Load().state }

// Generation returns the random number that the last successful Flush or
// Rebuild drew, never 0, or 0 if the index is fresh. Whoever notes it at a
// clean stop can tell at the next Open whether the files are still those.
func (x *Index) Generation() uint64 { return x.view.Load().generation }

// Len returns the number of digests that a lookup finds.
func (x *Index) Len() int { return int(x.live.Load()) }

// Runs returns the number of runs. Each costs a lookup that misses up to one
// access to memory.
func (x *Index) Runs() int { return len(x.view.Load().runs) }

// NeedsFlush reports whether the delta has reached its limit. Nothing stops it
// from growing further.
func (x *Index) NeedsFlush() bool { return x.pending.Load() >= int64(x.cfg.DeltaMax) }

// deltaShare is which part of the index the delta may become while a flush is
// under way, which may merge all of it. With as much again in the flush, and
// 104 bytes of table a record at most, that is 13 bytes of heap for each digest.
const deltaShare = 16

// Full reports whether whoever inserts should wait for the flush under way. In
// a small index that begins an eighth above NeedsFlush, so that inserting goes
// on while a flush gets going.
func (x *Index) Full() bool {
	return x.pending.Load() >= max(int64(x.cfg.DeltaMax)*9/8, x.live.Load()/deltaShare)
}

// Heap returns how many bytes of the Go heap the index holds, nearly: the
// delta, and runs that the file system could not map. Mapped runs belong to
// the page cache.
func (x *Index) Heap() int64 {
	v := x.view.Load()
	total := int64(len(v.state)) + shards*64
	for i := range x.shards {
		t := x.shards[i].tables.Load()
		total += t.active.heapBytes() + t.frozen.heapBytes()
	}
	for _, r := range v.runs {
		if r.held.unmap == nil {
			total += int64(len(r.held.data))
		}
	}
	return total
}
